"""Ask torch's own tracker, under fake tensors, what a step would take.

Run as `python -m bench.vram_parts.tracker CONFIG.json OUT.json`. It cannot run the detection loss on fake
tensors (the assigner's sizes depend on data), so the loss is the sum of the outputs.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from bench.vram_parts.configs import CLASSES, Config
from trainer.ultralytics_backend import environment


def main(arguments: list[str]) -> int:
    """Track the configuration named on the command line."""
    config = Config(**json.loads(Path(arguments[0]).read_text()))
    environment.prepare(Path(tempfile.mkdtemp(prefix="whetstone-bench-")), threads=0, niceness=0)
    began = time.monotonic()
    peak = peak_of(config)
    Path(arguments[1]).write_text(json.dumps({"tracked_bytes": peak, "seconds": time.monotonic() - began}))
    return 0


def peak_of(config: Config) -> int:
    """Return the tracker's peak over two steps."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.distributed._tools.mem_tracker import MemTracker

    from trainer.ultralytics_backend.models import build_model

    environment.silence_ultralytics()
    names = tuple(f"class {number}" for number in range(CLASSES))
    model: Any = build_model(f"{config.model}.yaml", names).train()
    with FakeTensorMode(allow_non_fake_inputs=True):
        _make_fake(model)
        kind = torch.optim.SGD if config.optimizer == "SGD" else torch.optim.AdamW
        optimizer: Any = kind(model.parameters(), **({"momentum": 0.9} if config.optimizer == "SGD" else {}))
        tracker = MemTracker()
        tracker.track_external(model, optimizer)
        images = torch.zeros(config.batch, 3, config.image_size, config.image_size)
        half = config.precision != "fp32"
        with tracker:
            for _ in range(2):
                tracker.reset_mod_stats()
                with torch.autocast("cpu", dtype=torch.bfloat16) if half else nullcontext():
                    loss = _sum(model(images))
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
        peaks = tracker.get_tracker_snapshot("peak")
    return sum(int(found["Total"]) for found in peaks.values())


def _make_fake(model: Any) -> None:
    """Put tensors without memory in the place of a network's own."""
    import torch

    for module in model.modules():
        for name, one in list(module.named_parameters(recurse=False)):
            setattr(module, name, torch.nn.Parameter(torch.empty(one.shape), requires_grad=one.requires_grad))
        for name, one in list(module.named_buffers(recurse=False)):
            setattr(module, name, torch.empty(one.shape, dtype=one.dtype))


def _sum(found: Any) -> Any:
    from torch import Tensor
    from torch.utils._pytree import tree_leaves

    return sum(
        leaf.float().sum() for leaf in tree_leaves(found) if isinstance(leaf, Tensor) and leaf.requires_grad
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
