"""One file per annotation format, each of which recognises a file by its content and reads it.

annotated.py, safe_xml.py <- coco.py, yolo.py, voc.py, labelme.py, via.py, via3.py, cvat.py,
label_studio.py, createml.py, dotdotgoose.py, imagej.py, tabular.py, counted.py
"""
