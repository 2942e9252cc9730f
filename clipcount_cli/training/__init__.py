"""Samples become weights: losses.py -> trainer.py -> loop.py."""
