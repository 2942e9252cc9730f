"""Samples become weights.

One step: losses.py -> trainer.py. What it sees: photos.py -> sampler.py. From where: start.py.
Step after step: folder.py, plots.py -> loop.py. The whole of `clipcount train`: train.py.
"""
