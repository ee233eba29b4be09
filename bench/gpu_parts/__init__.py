"""Be the parts of `bench/gpu.sh` that take rows: at most eight minutes, taken up where the last call ended.

kept         rows that are kept as they come, and how much time is left
ladder       the listed crashes
report       the ladder's tables (pure)
overhead     plain `YOLO.train()` against ours on a card
"""
