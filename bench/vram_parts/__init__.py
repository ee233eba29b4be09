"""Measure how well memory is estimated; `bench/vram.py` is the entry.

configs      what is measured, which of it may calibrate (pure, written before measuring)
rounds       predictions and measurements, one child process each, taken up where a cut run stopped
full_step    the child that takes a whole step on the processor
tracker      the child that asks torch's own tracker
measure      the child that measures on a card
figures      errors and whether targets are met (pure)
report       Markdown (pure)
"""
