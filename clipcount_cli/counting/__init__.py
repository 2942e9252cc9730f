"""An image becomes a count: images.py -> windows.py -> model.py -> counter.py -> heatmap.py."""
