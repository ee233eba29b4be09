"""Trace one real training step of a network on a processor: every block of memory, its size and its life.

Run as `python -m trainer.ultralytics_backend.tracing REQUEST.json PARENT_PID`;
`trainer.vram.profile_of` does.
"""
