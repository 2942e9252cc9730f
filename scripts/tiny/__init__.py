"""What the embedded model is made of: towers taught by others, a bank of nouns, photos and scenes.

Only training uses this folder; scripts/make_tiny.py puts the parts together.
"""
