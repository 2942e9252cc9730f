"""Weights files: where they come from, whether they are intact, what they hold.

Read registry.py (what is available), cache.py (what is installed), checkpoint.py (the format), then
what makes such a file: download.py (the network), untrusted.py (files of others, read without
running their code), upstream.py (renames their tensors), install.py (all of it together).
"""
