"""Be our run in a process of its own: `run_to_end`, which starts the training child and follows it.

    python -m bench.train_parts.ours '{"job": {...}, "told": "told.json", "policy": {...}, "hook": {...}}'

`policy` says how far the ladder may go, `hook` what `hooked` shall do in the child; both may be missing.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from bench.train_parts.hooked import HOOK
from fleet_contracts.training import MemoryPolicy
from trainer import backend
from trainer.backend_job import JOB_FILE, BackendEvent, BackendJob
from trainer.errors import BackendFailed
from trainer.ladder import Ladder, read_taken


def main() -> int:
    """Train, then write what was measured."""
    spec = json.loads(sys.argv[1])
    job = BackendJob.model_validate(spec["job"])
    if "hook" in spec:
        _hook(spec["hook"])
    heard: list[tuple[float, BackendEvent]] = []
    ladder = Ladder(MemoryPolicy.model_validate(spec.get("policy", {})))
    began = time.monotonic()
    failed = ""
    weights = ""
    try:
        result = backend.run_to_end(job, lambda event: heard.append((time.monotonic(), event)), ladder=ladder)
        weights = str(result.weights)
    except BackendFailed as error:
        if "policy" not in spec:
            raise
        failed = str(error)[:2000]
    told = {
        **_marks(heard),
        "began": began,
        "weights": weights,
        "failed": failed,
        "final_job": _final_job(job),
    }
    Path(spec["told"]).write_text(json.dumps(told))
    return 0


def _hook(hook: dict[str, Any]) -> None:
    os.environ[HOOK] = json.dumps(hook)
    backend._command = lambda job: [  # noqa: SLF001 - a bench looks into what it measures
        sys.executable, "-m", "bench.train_parts.hooked", str(job.out / JOB_FILE), str(os.getpid())
    ]  # fmt: skip


def _marks(heard: list[tuple[float, BackendEvent]]) -> dict[str, Any]:
    epochs = [(at, event) for at, event in heard if event.kind == "epoch"]
    waits = [event.data.get("data_wait_share") for _, event in epochs]
    known = [wait for wait in waits if wait is not None]
    return {
        "losses": [event.data["losses"] for _, event in epochs],
        "epoch_ends": [at for at, _ in epochs],
        "uncounted_s": 0.0,
        "data_wait_share": sum(known) / len(known) if known else None,
        "settings": epochs[-1][1].data.get("settings", {}) if epochs else {},
        "first_epoch_s": epochs[0][1].data["seconds"] if epochs else 0.0,
        "rungs": [event.data for _, event in heard if event.kind == "rung"],
        "epochs_done": max((event.epoch for _, event in epochs), default=0),
        "peak_device_bytes": max((event.data.get("peak_memory_bytes", 0) for _, event in epochs), default=0),
    }


def _final_job(job: BackendJob) -> dict[str, Any]:
    """Return the job after every rung taken: what a plan that had known would have been."""
    for taken in read_taken(job.out):
        job = taken.apply(job)
    return job.model_dump(mode="json")


if __name__ == "__main__":
    sys.exit(main())
