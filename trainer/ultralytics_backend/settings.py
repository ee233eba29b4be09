"""Translate a job into ultralytics' settings; every name ultralytics reads from us stands here."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from trainer.backend_job import BackendJob

_OFF: dict[str, float] = dict.fromkeys(
    (
        "hsv_h",
        "hsv_s",
        "hsv_v",
        "degrees",
        "translate",
        "scale",
        "shear",
        "perspective",
        "flipud",
        "fliplr",
        "mosaic",
        "mixup",
        "cutmix",
        "copy_paste",
        "bgr",
    ),
    0.0,
)
_LEVELS: dict[str, dict[str, float]] = {
    "none": _OFF,
    "light": {
        **_OFF,
        "hsv_h": 0.01,
        "hsv_s": 0.3,
        "hsv_v": 0.3,
        "translate": 0.05,
        "scale": 0.2,
        "fliplr": 0.5,
    },
    "full": {
        **_OFF,
        "hsv_h": 0.015,
        "hsv_s": 0.7,
        "hsv_v": 0.4,
        "translate": 0.1,
        "scale": 0.5,
        "fliplr": 0.5,
        "mosaic": 1.0,
    },
}
_FIXED: dict[str, Any] = {
    "task": "detect",
    "mode": "train",
    "model": "unused.yaml",
    "data": "unused.yaml",
    "name": "ultralytics",
    "exist_ok": True,
    "warmup_momentum": 0.9,
    "deterministic": False,
    "amp": False,
    "val": False,
    "plots": False,
    "save": True,
    "patience": 0,
    "verbose": False,
}
"""What no job changes: no validation, plots, early stop or probes during training."""
_NOT_NAMING = {
    "start",
    "dataset",
    "out",
    "threads",
    "workers",
    "cache",
    "resume",
    "export",
    "parity_images",
    "niceness",
    "memory_share",
}
_MIXES = ("mosaic", "mixup", "cutmix", "copy_paste")
_CLOSE_MOSAIC_SHARE = 0.25


def overrides_of(job: BackendJob, *, masked: bool, device: str) -> dict[str, Any]:
    """Return the settings of ultralytics' trainer for a job.

    Args:
        job: the work.
        masked: whether an image was labelled under a shorter class list; then no image may be mixed.
        device: `cpu` or a CUDA index.
    """
    augmentation = {**_LEVELS[job.augmentation], **job.augmentation_values}
    if masked:
        augmentation.update(dict.fromkeys(_MIXES, 0.0))
    return {
        **_FIXED,
        "project": str(job.out),
        "save_dir": str(job.out / "ultralytics"),
        "epochs": job.epochs,
        "batch": job.batch,
        "nbs": job.batch * job.accumulation,
        "imgsz": job.image_size,
        "optimizer": job.optimizer,
        "lr0": job.learning_rate,
        "lrf": job.final_lr_share,
        "momentum": 0.937 if job.optimizer == "SGD" else 0.9,
        "weight_decay": job.weight_decay,
        "warmup_epochs": job.warmup_epochs,
        # Adam's step is as long for a bias at rate 0.1 as for any other, so only SGD gets the bias warm-up.
        "warmup_bias_lr": 0.1 if job.optimizer == "SGD" else 0.0,
        "freeze": job.freeze_layers or None,
        "seed": job.seed,
        "workers": job.workers,
        "cache": False if job.cache == "none" else job.cache,
        "device": device,
        "close_mosaic": round(job.epochs * _CLOSE_MOSAIC_SHARE) if augmentation["mosaic"] else 0,
        **augmentation,
    }


def fingerprint_of(job: BackendJob) -> str:
    """Name a job by what decides its outcome, so that a checkpoint of another job is never continued.

    Threads, folders, workers and cache may differ between the first and the second attempt; a `.pt` start
    counts by its content.
    """
    data = job.model_dump_json(exclude=_NOT_NAMING)
    if job.lineage:
        return hashlib.sha256(data.encode()).hexdigest()
    start = Path(job.start)
    content = start.read_bytes() if start.is_file() else job.start.encode()
    return hashlib.sha256(data.encode() + hashlib.sha256(content).digest()).hexdigest()
