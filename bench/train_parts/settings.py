"""Say a job in the words of `YOLO.train()`, and read back what a trainer really uses."""

from __future__ import annotations

from typing import Any

from trainer.backend_job import BackendJob
from trainer.ultralytics_backend.settings import overrides_of

_OURS_ALONE = {"task", "mode", "model", "data", "project", "name", "save_dir", "verbose"}
READ_BACK = ("epochs", "batch", "nbs", "imgsz", "optimizer", "lr0", "lrf", "momentum", "weight_decay",
             "warmup_epochs", "warmup_momentum", "warmup_bias_lr", "cos_lr", "close_mosaic", "seed",
             "workers", "cache", "amp", "deterministic", "hsv_h", "hsv_s", "hsv_v", "degrees", "translate",
             "scale", "shear", "perspective", "flipud", "fliplr", "mosaic", "mixup", "cutmix", "copy_paste",
             "rect", "multi_scale", "freeze", "dropout", "box", "cls", "dfl", "single_cls")  # fmt: skip
"""Settings that decide what is learnt or how long it takes."""
_OF_A_GROUP = ("initial_lr", "weight_decay", "betas", "momentum", "nesterov", "eps")
AMP: dict[str, bool | str] = {"fp32": False, "bf16": "bf16", "fp16": True}


def plain_settings(job: BackendJob, data_yaml: str, folder: str, *, device: str) -> dict[str, Any]:
    """Return the arguments of `YOLO(job.start).train()` that ask for the job's training."""
    ours = overrides_of(job, masked=False, device=device)
    shared = {name: value for name, value in ours.items() if name not in _OURS_ALONE}
    return {
        **shared, "data": data_yaml, "project": folder, "name": "run", "exist_ok": True, "verbose": False,
        "amp": AMP[job.precision],
    }  # fmt: skip


def in_force(trainer: Any) -> dict[str, Any]:
    """Return what a trainer of ultralytics uses, ours or its own, once it is set up."""
    loader = trainer.train_loader
    groups = [
        {
            "of": group.get("param_group"), "tensors": len(group["params"]),
            "numbers": sum(one.numel() for one in group["params"]),
            **{name: group[name] for name in _OF_A_GROUP if name in group},
        }
        for group in trainer.optimizer.param_groups
    ]  # fmt: skip
    return {
        **{name: getattr(trainer.args, name, None) for name in READ_BACK},
        "optimizer_class": type(trainer.optimizer).__name__, "groups": groups,
        "accumulate": trainer.accumulate, "images": len(loader.dataset), "batches": len(loader),
        "loader_batch": loader.batch_size, "loader_workers": loader.num_workers,
        "rates": [round(trainer.lf(epoch), 9) for epoch in range(trainer.epochs)],
        "device": trainer.device.type, "amp_on": bool(trainer.amp),
    }  # fmt: skip
