"""Which file, is it whole, what is in it.

Read registry.py (what can be had), cache.py (what is here), checkpoint.py (our file format), then
what makes such a file: download.py (the network), untrusted.py (files of others, read without
running their code), upstream.py (their tensors become ours), install.py (all of it together).
"""
