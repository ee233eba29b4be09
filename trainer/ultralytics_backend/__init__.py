"""Fence ultralytics and torch: the only package that imports them, always inside a child process.

Nothing here is imported by the rest of the trainer; `trainer.backend` starts `child` as a process and
talks to it through `trainer.backend_job` documents and an event file.
"""
