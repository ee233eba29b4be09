"""Be the training child with one thing more, which a bench asks for in `WHETSTONE_BENCH_HOOK`.

    {"read_back": "file.json"}                    write what is in force when training begins
    {"tighten": {"epoch": 5, "share": 0.03}}      from that epoch on (from 1) the card is smaller

The hooks are callbacks of ultralytics, which plain training calls as ours does; the trainer stays as it is.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

HOOK = "WHETSTONE_BENCH_HOOK"
Callback = Callable[[Any], None]


def callbacks_of(hook: dict[str, Any]) -> dict[str, Callback]:
    """Return what to call by ultralytics' names of moments."""
    told: dict[str, Callback] = {}
    if "read_back" in hook:
        told["on_train_start"] = _reader(Path(hook["read_back"]))
    if "tighten" in hook:
        told["on_train_epoch_start"] = _tightener(
            int(hook["tighten"]["epoch"]), float(hook["tighten"]["share"])
        )
    return told


def _reader(path: Path) -> Callback:
    def read(trainer: Any) -> None:
        from bench.train_parts.settings import in_force

        path.write_text(json.dumps(in_force(trainer)))

    return read


def _tightener(epoch: int, share: float) -> Callback:
    def tighten(trainer: Any) -> None:
        import torch

        if trainer.epoch + 1 >= epoch and torch.cuda.is_available():
            # What is kept for later blocks counts as taken, so it is given back first.
            torch.cuda.empty_cache()
            torch.cuda.set_per_process_memory_fraction(share)

    return tighten


def main() -> int:
    """Add the callbacks once ultralytics is there, and be the child."""
    from trainer.ultralytics_backend import child, environment

    silence = environment.silence_ultralytics

    def silence_and_hook() -> None:
        silence()
        from ultralytics.utils.callbacks.base import default_callbacks

        for moment, callback in callbacks_of(json.loads(os.environ[HOOK])).items():
            default_callbacks[moment].append(callback)

    environment.silence_ultralytics = silence_and_hook
    return child.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
