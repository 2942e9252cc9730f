"""A data set becomes samples: datasets.py -> samples.py -> views.py, augment.py -> targets.py.

One reader a layout: fsc147.py, carpk.py, shanghaitech.py, own.py; checks.py says all that is wrong.
"""
