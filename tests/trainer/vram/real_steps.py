"""Take whole steps on the processor at sizes no profile was traced at, and print how much memory they held.

Run as `python -m tests.trainer.vram.real_steps MODEL...`; it prints one JSON line: by model, the rows.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from trainer.ultralytics_backend import environment

CLASSES = 2
STEPS = ((192, (5, 5, 5), False), (160, (9, 9, 9, 9), True), (256, (40, 40), False))
"""Side in pixels, boxes of each image, and whether in mixed precision."""


def main(models: list[str]) -> int:
    """Measure every model at every size."""
    environment.prepare(Path(tempfile.mkdtemp()), threads=0, niceness=0)
    import torch

    from trainer.ultralytics_backend.models import build_model
    from trainer.ultralytics_backend.tracing.steps import Setting, Stage

    environment.silence_ultralytics()
    torch.manual_seed(0)
    found: dict[str, list[dict[str, Any]]] = {}
    for model in models:
        stage = Stage(build_model(model, ("a", "b")), CLASSES, 0)
        held = [*stage.model.parameters(), *stage.model.buffers(), *stage.ema.ema.state_dict().values()]
        for side, boxes, mixed in STEPS:
            ledger = stage.step(Setting(side, boxes), mixed=mixed)
            lives = [(life.born, life.died, _rounded(life.size)) for life in ledger.lives]
            live = _highest(lives) + sum(_rounded(one.untyped_storage().nbytes()) for one in held)
            told = {"side": side, "boxes": boxes, "mixed": mixed, "live": live}
            found.setdefault(model, []).append(told)
    print(json.dumps(found))
    return 0


def _highest(lives: list[tuple[int, int, int]]) -> int:
    changes = [(born, 0, size) for born, _died, size in lives]
    changes += [(died, 1, -size) for _born, died, size in lives]
    live = highest = 0
    for _at, _death, size in sorted(changes):
        live += size
        highest = max(highest, live)
    return highest


def _rounded(size: int) -> int:
    return max(-(-size // 512) * 512, 512)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
