"""Hold a flow that does next to nothing, to test what starts flows and what clears dead ones away."""

from __future__ import annotations

import os
import time
from pathlib import Path

from prefect import flow


@flow(flow_run_name="trivial-{task}")
def trivial(task: str) -> str:
    """Leave a mark with this process's id, then sleep while the task says so."""
    marks = Path(os.environ["WHETSTONE_FOLDER"]) / "marks"
    marks.mkdir(exist_ok=True)
    (marks / f"{task}-{os.getpid()}").write_text(str(time.time()))
    if task.startswith("sleep-"):
        time.sleep(float(task.removeprefix("sleep-")))
    return task
