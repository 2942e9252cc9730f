"""Samples become weights.

One step: losses.py -> step.py. What it sees: photos.py -> sampler.py. From where: start.py.
Step after step: run_folder.py -> loop.py. The whole of `clipcount train`: run.py.
"""
