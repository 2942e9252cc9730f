"""A folder becomes samples: datasets.py -> one reader per layout -> samples.py.

The readers are fsc147.py, carpk.py, shanghaitech.py, custom.py; checks.py reports what is wrong.
"""
