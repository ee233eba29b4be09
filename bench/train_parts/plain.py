"""Be plain `YOLO.train()` in a process of its own.

    python -m bench.train_parts.plain '{"job": {...}, "data": "train.yaml", "folder": ..., "told": ...}'

Nothing of ours trains here: the callbacks only read clocks. With `threads` torch is told to use so many
once training begins; else ultralytics' own choice stands.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from ultralytics import YOLO
from ultralytics.utils import SETTINGS

from bench.train_parts.clock import Clock
from bench.train_parts.hooked import callbacks_of
from bench.train_parts.settings import in_force, plain_settings
from trainer.backend_job import BackendJob


def main() -> int:
    """Train, then write what was measured."""
    spec = json.loads(sys.argv[1])
    job = BackendJob.model_validate(spec["job"])
    device = "0" if torch.cuda.is_available() else "cpu"
    if job.memory_share < 1.0 and device == "0":
        torch.cuda.set_per_process_memory_fraction(job.memory_share)
    told: dict[str, Any] = {"losses": []}
    clock = Clock()
    # Where MLflow is installed ultralytics logs into it unasked; ours is measured untracked too.
    SETTINGS.update({"mlflow": False})
    model = YOLO(job.start)
    _listen(model, clock, told, int(spec.get("threads", 0)))
    for moment, callback in callbacks_of(spec.get("hook", {})).items():
        model.add_callback(moment, callback)
    if spec.get("probe"):
        _probe(model, told)
    model.train(**{
        **plain_settings(job, spec["data"], spec["folder"], device=device), **spec.get("changes", {})
    })  # fmt: skip
    weights = Path(spec["folder"]) / "run" / "weights" / "last.pt"
    told |= {
        "epoch_ends": clock.epoch_ends, "uncounted_s": clock.uncounted, "data_wait_share": clock.wait_share,
        "weights": str(weights), "threads": torch.get_num_threads(),
        "peak_device_bytes": torch.cuda.max_memory_reserved() if device == "0" else 0,
    }  # fmt: skip
    Path(spec["told"]).write_text(json.dumps(told))
    return 0


def _listen(model: Any, clock: Clock, told: dict[str, Any], threads: int) -> None:
    def started(trainer: Any) -> None:
        if threads:
            torch.set_num_threads(threads)
        told["settings"] = in_force(trainer)

    def trained(trainer: Any) -> None:
        told["losses"].append({name: float(value) for name, value in (trainer.tloss or {}).items()})

    def saved(trainer: Any) -> None:
        now = time.monotonic()
        clock.epoch_saved(now)
        if trainer.epoch + 1 >= trainer.epochs:
            clock.aside_started(now)  # what follows loads the best epoch's weights again and validates them

    marks = {
        "on_train_start": started,
        "on_train_epoch_start": lambda _: clock.epoch_started(time.monotonic()),
        "on_train_batch_start": lambda _: clock.batch_started(time.monotonic()),
        "on_train_batch_end": lambda _: clock.batch_ended(time.monotonic()),
        "on_train_epoch_end": trained,
        "on_val_start": lambda _: clock.aside_started(time.monotonic()),
        "on_val_end": lambda _: clock.aside_ended(time.monotonic()),
        "on_model_save": saved,
        "on_train_end": lambda _: clock.aside_ended(time.monotonic()),
    }
    for name, callback in marks.items():
        model.add_callback(name, callback)


def _probe(model: Any, told: dict[str, Any]) -> None:
    """Measure what training and, apart from it, validation take of the card."""

    def between(_: Any) -> None:
        told["training_peak_bytes"] = torch.cuda.max_memory_reserved()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()

    def after(_: Any) -> None:
        told["validation_peak_bytes"] = torch.cuda.max_memory_reserved()
        told["card_bytes"] = torch.cuda.get_device_properties(0).total_memory
        told["card"] = torch.cuda.get_device_name()

    model.add_callback("on_train_epoch_end", between)
    model.add_callback("on_model_save", after)


if __name__ == "__main__":
    sys.exit(main())
