"""Measure one configuration on a card, in a process of its own: twenty steps and one validation pass.

Run as `python -m bench.vram_parts.measure CONFIG.json OUT.json`. The peak is what the process takes of the
card by NVML (allocator, context and libraries); what the allocator reserved and what was allocated stand
beside it. Nobody has run this on a card yet.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from bench.vram_parts.configs import CLASSES, Config
from bench.vram_parts.full_step import FullBatch
from trainer.ultralytics_backend import environment

STEPS = 20
_CLIP = 10.0


def main(arguments: list[str]) -> int:
    """Measure the configuration named on the command line."""
    config = Config(**json.loads(Path(arguments[0]).read_text()))
    environment.prepare(Path(tempfile.mkdtemp(prefix="whetstone-bench-")), threads=0, niceness=0)
    Path(arguments[1]).write_text(json.dumps(measured(config)))
    return 0


def measured(config: Config) -> dict[str, Any]:
    """Return the peaks of a run in bytes, and what ultralytics' autobatch would have expected."""
    import torch

    environment.silence_ultralytics()
    torch.manual_seed(0)
    began = time.monotonic()
    before = _card_bytes()
    run = _Run(config)
    highest = 0
    for _ in range(STEPS):
        run.step()
        torch.cuda.synchronize()
        highest = max(highest, _process_bytes(before))
    run.validate()
    torch.cuda.synchronize()
    highest = max(highest, _process_bytes(before))
    told = {
        "reserved_bytes": int(torch.cuda.max_memory_reserved()),
        "allocated_bytes": int(torch.cuda.max_memory_allocated()),
        "process_bytes": highest, "card": torch.cuda.get_device_name(), "torch": str(torch.__version__),
        "cuda": str(torch.version.cuda), "cudnn": torch.backends.cudnn.version(),
        "driver_total_bytes": int(torch.cuda.get_device_properties(0).total_memory),
    }  # fmt: skip
    del run
    torch.cuda.empty_cache()
    return {**told, "autobatch_bytes": _autobatch(config), "seconds": time.monotonic() - began}


class _Run:
    """Hold what a training holds on the card, as `WhetstoneTrainer` does."""

    def __init__(self, config: Config, device: str = "cuda") -> None:
        import torch
        from ultralytics.cfg import get_cfg
        from ultralytics.engine.trainer import BaseTrainer
        from ultralytics.utils.torch_utils import ModelEMA

        from trainer.ultralytics_backend.losses import masked_criterion

        self.config, self.batches, self.device = config, FullBatch(config), device
        self.model: Any = _built(config).to(device, memory_format=torch.channels_last).train()
        self.model.args = get_cfg()
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad = ".dfl" not in name
        self.criterion = masked_criterion(self.model)
        build: Any = BaseTrainer.build_optimizer
        self.optimizer = build(
            SimpleNamespace(args=SimpleNamespace(), data={}),
            self.model,
            config.optimizer,
            1e-3,
            0.9,
            5e-4,
            1000,
        )
        self.ema = ModelEMA(self.model)
        self.scaler = torch.amp.GradScaler("cuda", enabled=config.precision == "fp16")

    def step(self) -> None:
        """Train one batch."""
        import torch

        with self._cast():
            batch = self._loaded()
            loss, _items = self.criterion(self.model(batch["img"]), batch)
            total = loss.sum()
        self.scaler.scale(total).backward()
        self.scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), max_norm=_CLIP)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        self.ema.update(self.model)

    def validate(self) -> None:
        """Measure the loss of a batch with the averaged weights."""
        import torch

        with torch.no_grad():
            batch = self._loaded()
            self.criterion(self.ema.ema(batch["img"]), batch)

    def _cast(self) -> Any:
        import torch

        if self.config.precision == "fp32":
            return nullcontext()
        kind = torch.bfloat16 if self.config.precision == "bf16" else torch.float16
        return torch.autocast(self.device, dtype=kind)

    def _loaded(self) -> dict[str, Any]:
        import torch

        batch = {name: one.to(self.device) for name, one in self.batches.batch(CLASSES).items()}
        batch["img"] = (batch["img"].float() / 255).contiguous(memory_format=torch.channels_last)
        return batch


def _built(config: Config) -> Any:
    from trainer.ultralytics_backend.models import build_model

    return build_model(f"{config.model}.yaml", tuple(f"class {number}" for number in range(CLASSES)))


def _autobatch(config: Config) -> int | None:
    """Return what the line that autobatch fits would expect of this batch, in bytes."""
    import numpy as np
    import torch
    from ultralytics.utils import autobatch

    lines: list[Any] = []
    fit = np.polyfit

    def kept(*args: Any, **kwargs: Any) -> Any:
        lines.append(fit(*args, **kwargs))
        return lines[-1]

    model: Any = _built(config).cuda().train()
    np.polyfit = kept  # autobatch tells its choice alone, not the line it was read from
    try:
        autobatch.autobatch(model, imgsz=config.image_size, amp=config.precision != "fp32", fraction=0.9,
                            max_num_obj=config.boxes)  # fmt: skip
    finally:
        np.polyfit = fit
    if not lines:
        return None
    return int(np.polyval(lines[-1], config.batch) * 2**30) + int(torch.cuda.memory_reserved())


def _card_bytes() -> int:
    import pynvml

    pynvml.nvmlInit()
    return int(pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByIndex(0)).used)


def _process_bytes(before: int) -> int:
    """Return this process's memory on the card; where NVML does not see our pid, what the card lost since."""
    import pynvml

    handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    for found in pynvml.nvmlDeviceGetComputeRunningProcesses(handle):
        if found.pid == os.getpid() and found.usedGpuMemory:
            return int(found.usedGpuMemory)
    return max(_card_bytes() - before, 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
