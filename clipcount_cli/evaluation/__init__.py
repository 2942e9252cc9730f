"""A data set and a counter become figures: evaluate.py -> metrics.py -> report.py."""
