"""Simulate a production line: rendered boards with defects, and the truth about them.

    layout -> part (components placed, defects added) -> picture (cv2) + boxes -> folder of the camera

A part is a function of its seed alone, so any process can draw the same part again.
"""
