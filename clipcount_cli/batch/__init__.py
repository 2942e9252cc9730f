"""Count in many images: one row per image and prompt, in order; a bad image does not stop the rest.

plan.py (what to count) -> run.py -> pipeline.py (windows of several images in full batches, through
fixed_batch.py) -> results.py (rows on disk: append, resume) -> report.py (one page). Beside them
pictures.py (heatmaps, thumbnails), processes.py (torchrun) and shards.py (job arrays).
"""
