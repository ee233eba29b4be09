"""Take one whole step on the processor at full size and say how much memory was live at its peak.

Run as `python -m bench.vram_parts.full_step CONFIG.json OUT.json`. This is the estimate's own measure at the
size that is asked about, with a real optimizer: it shows whether scaling is exact, not whether CUDA agrees.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from bench.vram_parts.configs import BOX_SIDES, CLASSES, Config
from trainer.ultralytics_backend import environment


def main(arguments: list[str]) -> int:
    """Measure the configuration named on the command line."""
    config = Config(**json.loads(Path(arguments[0]).read_text()))
    environment.prepare(Path(tempfile.mkdtemp(prefix="whetstone-bench-")), threads=0, niceness=0)
    import torch

    environment.silence_ultralytics()
    torch.set_num_threads(environment.usable_threads(0))
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    began = time.monotonic()
    peak = peak_of(config)
    Path(arguments[1]).write_text(json.dumps({"live_bytes": peak, "seconds": time.monotonic() - began}))
    return 0


def peak_of(config: Config) -> int:
    """Return the most bytes that were live in a step after the first."""
    from ultralytics.engine.trainer import BaseTrainer

    from trainer.ultralytics_backend.models import build_model
    from trainer.ultralytics_backend.tracing.ledger import Ledger, key_of
    from trainer.ultralytics_backend.tracing.steps import Stage

    names = tuple(f"class {number}" for number in range(CLASSES))
    stage = Stage(build_model(f"{config.model}.yaml", names), CLASSES, 0)
    build: Any = BaseTrainer.build_optimizer
    optimizer = build(
        SimpleNamespace(args=SimpleNamespace(), data={}), stage.model, config.optimizer, 1e-3, 0.9, 5e-4, 1000
    )
    _step_as_cuda_does(optimizer)
    batch = FullBatch(config)
    stage.optimize = optimizer.step
    stage.step(batch, mixed=config.precision != "fp32")
    states = [
        one for state in optimizer.state.values() for one in state.values() if hasattr(one, "untyped_storage")
    ]
    stage.storages |= {key_of(one) for one in states}
    ledger: Ledger = stage.step(batch, mixed=config.precision != "fp32")
    held = [*stage.model.parameters(), *stage.model.buffers(), *stage.ema.ema.state_dict().values(), *states]
    return sum(_rounded(one.untyped_storage().nbytes()) for one in held) + _highest(ledger)


class FullBatch:
    """Be a setting of the trace with this configuration's images and boxes."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def batch(self, classes: int) -> dict[str, Any]:
        """Return random images and boxes."""
        import torch

        config = self.config
        random = torch.Generator().manual_seed(1)
        total = config.batch * config.boxes
        sides = torch.rand(total, 2, generator=random) * (BOX_SIDES[1] - BOX_SIDES[0]) + BOX_SIDES[0]
        centres = sides / 2 + torch.rand(total, 2, generator=random) * (1 - sides)
        shape = (config.batch, 3, config.image_size, config.image_size)
        return {
            "img": torch.randint(0, 256, shape, generator=random, dtype=torch.uint8),
            "batch_idx": torch.arange(config.batch).repeat_interleave(config.boxes).float(),
            "cls": torch.randint(0, classes, (total, 1), generator=random).float(),
            "bboxes": torch.cat([centres, sides], 1),
        }


def _step_as_cuda_does(optimizer: Any) -> None:
    """Set what torch chooses on CUDA: one fused kernel for Adam, lists of tensors for the others."""
    for group in optimizer.param_groups:
        if type(optimizer).__name__ in {"Adam", "AdamW"}:
            group["fused"], group["foreach"] = True, False
        elif "foreach" in group:
            group["foreach"] = True


def _highest(ledger: Any) -> int:
    changes: list[tuple[int, int, int]] = []
    for life in ledger.lives:
        size = _rounded(life.size)
        changes += [(life.born, 0, size), (min(life.died, len(ledger.operations)), 1, -size)]
    live = highest = 0
    for _at, _death, size in sorted(changes, key=lambda change: change[:2]):
        live += size
        highest = max(highest, live)
    return highest


def _rounded(size: int) -> int:
    return max(-(-size // 512) * 512, 512)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
