"""Write the small .pt that people keep and the next run starts from: the averaged model at half precision."""

from __future__ import annotations

import copy
import io
from pathlib import Path
from typing import Any

import torch
from torch import nn
from ultralytics import __version__

from trainer.backend_job import write_whole


def save_weights(path: Path, model: nn.Module) -> None:
    """Write a checkpoint that ultralytics can load too, without optimizer or paths of this machine."""
    kept: Any = copy.deepcopy(model).half()
    kept.criterion = None
    kept.args = {"task": "detect"}
    kept.pt_path = None
    if isinstance(getattr(kept, "yaml", None), dict) and "yaml_file" in kept.yaml:
        kept.yaml["yaml_file"] = Path(kept.yaml["yaml_file"]).name
    for parameter in kept.parameters():
        parameter.requires_grad = False
    buffer = io.BytesIO()
    torch.save({
        "epoch": -1, "best_fitness": None, "model": kept, "ema": None, "updates": None, "optimizer": None,
        "train_args": {"task": "detect"}, "date": "", "version": __version__,
        "license": "AGPL-3.0 (https://ultralytics.com/license)",
    }, buffer)  # fmt: skip
    write_whole(path, buffer.getvalue())
