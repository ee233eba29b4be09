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
    "heavy": {
        **_OFF,
        "hsv_h": 0.015,
        "hsv_s": 0.7,
        "hsv_v": 0.5,
        "degrees": 5.0,
        "translate": 0.1,
        "scale": 0.7,
        "fliplr": 0.5,
        "mosaic": 1.0,
        "mixup": 0.15,
        "cutmix": 0.15,
        "copy_paste": 0.3,
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
    "amp": False,
    "val": False,
    "plots": False,
    "save": True,
    "patience": 0,
    "verbose": False,
}
"""What no job changes: no validation, plots, early stop or probes during training."""
_NAMING = {
    "class_names",
    "epochs",
    "learning_rate",
    "final_lr_share",
    "warmup_epochs",
    "weight_decay",
    "optimizer",
    "freeze_layers",
    "augmentation",
    "seed",
    "deterministic",
    "lineage",
}
"""What names a job in its checkpoints. All else may differ between two attempts at it: machine and folders,
and what a rung of the memory ladder changes (batch, precision, image size, single augmentations)."""
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
        "deterministic": job.deterministic,
        "compile": job.compile and device != "cpu",
        "seed": job.seed,
        "workers": job.workers,
        "cache": False if job.cache == "none" else job.cache,
        "device": device,
        "close_mosaic": round(job.epochs * _CLOSE_MOSAIC_SHARE) if any(map(augmentation.get, _MIXES)) else 0,
        **augmentation,
    }


def clipped_to(job: BackendJob, images: int, devices: int = 1) -> BackendJob:
    """Return the job with a batch that the data fill and that devices share evenly.

    Accumulation keeps the recipe's images a step as far as an epoch has them: a step never spans two epochs.
    """
    most = max(min(job.batch, images) // devices, 1) * devices
    batches = -(-images // most)
    accumulation = max(min(round(job.batch * job.accumulation / most), batches), 1)
    return job.model_copy(update={"batch": most, "accumulation": accumulation})


def fingerprint_of(job: BackendJob) -> str:
    """Name a job by what decides its outcome, so that a checkpoint of another job is never continued.

    A `.pt` start counts by its content, unless the job's lineage names it.
    """
    data = job.model_dump_json(include=_NAMING)
    if job.lineage:
        return hashlib.sha256(data.encode()).hexdigest()
    start = Path(job.start)
    content = start.read_bytes() if start.is_file() else job.start.encode()
    return hashlib.sha256(data.encode() + hashlib.sha256(content).digest()).hexdigest()
