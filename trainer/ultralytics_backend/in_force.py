"""Read what is really in force from trainer, loader and dataset, not what was asked for; report an epoch.

Whatever takes a setting back on its way (a cache that does not fit, a rung, a cure) shows here.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from ultralytics.data.augment import CopyPaste, CutMix, MixUp, Mosaic
from ultralytics.utils.torch_utils import unwrap_model

from trainer.backend_job import BackendEvent
from trainer.ultralytics_backend import ranks
from trainer.ultralytics_backend.data import parts_of

_MIXES = {"mosaic": Mosaic, "mixup": MixUp, "cutmix": CutMix, "copy_paste": CopyPaste}


def settings_in_force(trainer: Any) -> dict[str, Any]:
    """Return the live settings; `batch` counts images over all devices, `nbs` those of one optimizer step."""
    loader = trainer.train_loader
    dataset = loader.dataset
    batch = loader.batch_size * ranks.world()
    return {
        "batch": batch,
        "accumulate": trainer.accumulate,
        "nbs": batch * trainer.accumulate,
        "precision": _precision(trainer),
        "amp": bool(trainer.amp),
        **_mixes(dataset.transforms),
        "image_size": dataset.imgsz,
        "workers": loader.num_workers,
        "cache": dataset.cache or "none",
        "rate_scale": trainer.rate_scale,
        "weight_decay": max(float(group["weight_decay"]) for group in trainer.optimizer.param_groups),
        "freeze": _frozen_layers(trainer),
        "compile": hasattr(trainer.model, "_orig_mod"),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "devices": ranks.world(),
        "device": trainer.device.type,
        "threads": torch.get_num_threads(),
        "expandable_segments": "expandable_segments:True" in os.environ.get("PYTORCH_CUDA_ALLOC_CONF", ""),
        "closed_mixing": trainer.mosaic_closed,
    }


def epoch_event(trainer: Any, seconds: float, measured: dict[str, float]) -> BackendEvent:
    """Return what an epoch gave; `seconds` it trained, `measured` on the validation split."""
    cuda = trainer.device.type == "cuda"
    data = {
        "epochs": trainer.epochs,
        "seconds": round(seconds, 3),
        "images_per_second": round(trainer.epoch_images / max(seconds, 1e-6), 2),
        "learning_rate": float(trainer.optimizer.param_groups[0]["lr"]),
        "losses": {name: round(value, 5) for name, value in trainer.tloss.items()},
        "val": {name: round(value, 5) for name, value in measured.items()},
        "peak_memory_bytes": torch.cuda.max_memory_reserved() if cuda else 0,
        "checkpoint_seconds": round(trainer.keeping_seconds, 3),
        "settings": settings_in_force(trainer),
        **trainer.pulse.epoch_data(),
    }
    if trainer.not_continued:
        # Said with the first epoch that had to be trained anew for it.
        data["not_continued"], trainer.not_continued = trainer.not_continued, []
    return BackendEvent("epoch", trainer.epoch + 1, data)


def _precision(trainer: Any) -> str:
    if not trainer.amp:
        return "fp32"
    on_cpu = trainer.device.type == "cpu"
    return "bf16" if on_cpu or trainer.args.amp == "bf16" else "fp16"


def _mixes(transforms: Any) -> dict[str, float]:
    parts = list(parts_of(transforms))
    return {
        name: max((float(one.p) for one in parts if isinstance(one, kind)), default=0.0)
        for name, kind in _MIXES.items()
    }


def _frozen_layers(trainer: Any) -> int:
    """Count the layers from the input on of which no parameter learns."""
    count = 0
    for layer in unwrap_model(trainer.model).model:
        own = list(layer.parameters())
        if any(one.requires_grad for one in own):
            break
        count += 1
    return count
