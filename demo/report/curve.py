"""Draw the run of a demo as `whetstone runs plot` does: losses, speed, memory, waits, rungs."""

from __future__ import annotations

from pathlib import Path

from fleet_contracts import utc_now
from flows.tracking.drawing import draw
from flows.tracking.story import Story

FILE_NAME = "run.png"


def draw_run(folder: Path, story: Story) -> bool:
    """Draw a run into the report's folder; False where it left no epoch to draw."""
    if story.record is None or not story.record.epochs:
        return False
    folder.mkdir(parents=True, exist_ok=True)
    draw([story], folder / FILE_NAME, utc_now())
    return True
