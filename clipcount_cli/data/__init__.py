"""A folder becomes samples: datasets.py -> one reader per layout -> samples.py.

The readers are fsc147.py, carpk.py, shanghaitech.py and, for all other data, custom.py:
tables.py, names.py, formats/ -> recognise.py -> pictures.py, splits.py -> custom.py.
checks.py and units.py report what is wrong.
"""
