"""The parts of rendered scenes; render.py puts them together.

Things: brush.py -> drawings.py (drawn_made.py, drawn_metal.py, drawn_grown.py) and pictures.py,
named by nouns.py -> catalogue.py. Where they lie, and on what: layout.py, backgrounds.py. Light,
shadow and camera: compose.py.
"""
