"""Bring labels in: YOLO text files from a folder, and old data sets that are imported whole."""
