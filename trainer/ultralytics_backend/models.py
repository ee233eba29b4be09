"""Build the network a run starts from: a fresh one, or a .pt whose head is grown to the class list.

Old rows of the class head are kept to the bit; rows of added classes start small with the prior that
fresh heads get, so the old classes' scores do not move before the first step.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from ultralytics.nn.tasks import DetectionModel

from trainer.errors import StartRefused
from trainer.memory import recognise

_NEW_ROW_STD = 0.01


def load_model(path: Path) -> DetectionModel:
    """Read the detection model of a .pt at full precision, preferring its EMA.

    Raises:
        StartRefused: not a checkpoint with a detection model.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=False)
        model = content.get("ema") or content["model"]
    except Exception as error:
        if recognise(error) is not None:
            raise  # the weights may be right: memory ran out, which is a rung's to mend
        # Unpickling foreign bytes can raise anything; all of it means the same to the caller.
        raise StartRefused(
            expected="an ultralytics checkpoint", got=f"{type(error).__name__}: {error}", where=str(path)
        ) from error
    if not isinstance(model, DetectionModel):
        raise StartRefused(expected="a detection model", got=type(model).__name__, where=str(path))
    return model.float()


def build_model(start: str, class_names: tuple[str, ...]) -> DetectionModel:
    """Return a trainable model for the class list.

    Args:
        start: model yaml (file or ultralytics' own name) or `.pt`.
        class_names: the list to train for; a `.pt` must name a prefix of it.

    Raises:
        StartRefused: the weights' classes are not a prefix of the list (law 9), or no model could be read.
    """
    if not start.endswith(".pt"):
        model = _fresh(start, len(class_names))
    else:
        old = load_model(Path(start))
        _require_prefix(tuple(old.names[i] for i in sorted(old.names)), class_names, start)
        model = old if len(old.names) == len(class_names) else _grown(old, len(class_names))
    model.names = dict(enumerate(class_names))
    for parameter in model.parameters():
        parameter.requires_grad = True
    return model


def _fresh(start: str, classes: int) -> DetectionModel:
    try:
        return DetectionModel(start, ch=3, nc=classes, verbose=False)
    except FileNotFoundError as error:
        raise StartRefused(
            expected="a model that ultralytics knows", got=str(error), where=start,
            now="Name a model yaml (a file, or a name such as yolo11n.yaml) or a .pt.",
        ) from error  # fmt: skip


def _require_prefix(old: tuple[str, ...], new: tuple[str, ...], where: str) -> None:
    if new[: len(old)] != old:
        raise StartRefused(
            expected=f"weights whose classes open the list {list(new)}",
            got=f"weights for {list(old)}",
            where=where,
            now="Class ids are append-only; register weights trained for this fleet's list.",
        )


def _grown(old: DetectionModel, classes: int) -> DetectionModel:
    """Return the model with class heads of `classes` rows, the old rows kept."""
    head = old.model[-1]
    for branch in _class_branches(head):
        for level, layers in enumerate(branch):
            layers[-1] = _grown_conv(layers[-1], classes, float(head.stride[level]))
    head.nc = classes
    head.no = classes + head.reg_max * 4
    old.yaml["nc"] = classes
    old.nc = classes
    return old


def _class_branches(head: Any) -> list[Any]:
    branches = [head.cv3, getattr(head, "one2one_cv3", None)]
    return [branch for branch in branches if branch is not None]


def _grown_conv(old: nn.Conv2d, classes: int, stride: float) -> nn.Conv2d:
    new = nn.Conv2d(old.in_channels, classes, 1)
    kept = old.out_channels
    prior = float(torch.log(torch.tensor(5 / classes / (640 / stride) ** 2)))
    with torch.no_grad():
        new.weight.normal_(0.0, _NEW_ROW_STD)
        new.bias.fill_(prior)
        new.weight[:kept] = old.weight
        new.bias[:kept] = old.bias
    return new
