"""Trace a network at a few small settings and put its profile together."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
import ultralytics
from torch import nn

from trainer.errors import StartRefused
from trainer.ultralytics_backend.models import build_model, load_model
from trainer.ultralytics_backend.tracing.ledger import Ledger
from trainer.ultralytics_backend.tracing.optimizers import FUSED, TRACED, shadow_of, trace_optimizer
from trainer.ultralytics_backend.tracing.steps import Setting, Stage
from trainer.vram.fitting import Fitted, Trace, TracedBlock, fit_timeline
from trainer.vram.profile import ModelProfile, Timeline
from trainer.vram.request import TraceRequest

_HEADS = ("Detect", "v10Detect")
_SIDES = (2, 3)
"""Sides of the traced images in largest strides: at one stride some layers would see a single pixel."""


def settings_for(stride: int) -> tuple[Setting, ...]:
    """Return settings in which pixels, images, boxes and the fullest image each change alone.

    Never one image or one box: shapes with a side of one are not copied where larger ones are.
    """
    small, large = (stride * side for side in _SIDES)
    return (
        Setting(small, (3, 2)), Setting(large, (3, 2)), Setting(small, (3, 2, 2)), Setting(small, (7, 2)),
    )  # fmt: skip


def make_profile(request: TraceRequest) -> ModelProfile:
    """Build the network, trace it in full and in mixed precision, and fit every block's size.

    Raises:
        StartRefused: no detection model of ultralytics, or its classes do not fit.
    """
    model = _built(request)
    stage = Stage(model, request.classes, request.freeze_layers)
    head: Any = model.model[-1]
    strides = tuple(int(stride) for stride in head.stride)
    settings = settings_for(max(strides))
    ends = getattr(head, "one2one_cv2", None) is not None
    fitted = {
        "fp32": _traced(settings, lambda setting: stage.step(setting, mixed=False)),
        "mixed": _traced(settings, lambda setting: stage.step(setting, mixed=True)),
        "validation": _traced(settings, stage.validation),
    }
    optimizers, copies = _optimizers(model)
    parameters = list(model.parameters())
    return ModelProfile(
        name=_name_of(model, request), classes=request.classes, content_sha256=_hash_of(model, request),
        parameters=sum(parameter.numel() for parameter in parameters),
        parameter_sizes=tuple(_bytes(parameter) for parameter in parameters),
        buffer_sizes=tuple(_bytes(buffer) for buffer in model.buffers()),
        trainable=tuple(number for number, one in enumerate(parameters) if one.requires_grad),
        strides=strides, reg_max=int(head.reg_max), end_to_end=ends, frozen_layers=request.freeze_layers,
        flops_per_pixel=_flops(stage, settings[1]), topk=_topk(stage.criterion),
        timelines={name: one.timeline for name, one in fitted.items()},
        optimizers=optimizers, optimizer_copies=copies,
        exact_share=_share(fitted.values()),
        versions={"torch": str(torch.__version__), "ultralytics": ultralytics.__version__},
    )  # fmt: skip


def trace_of(ledger: Ledger, setting: Setting) -> Trace:
    """Return what a ledger holds in the words of the fit."""
    found = {"C": 0, "F": 0, "f": 0}
    for dimensions, count in ledger.chosen:
        name = "C" if dimensions == 3 else ("f" if found["F"] else "F")
        found[name] = count
    symbols = {
        "B": len(setting.boxes), "P": setting.side**2, "S": setting.side, "n": max(setting.boxes),
        "T": sum(setting.boxes), **found,
    }  # fmt: skip
    blocks = [TracedBlock(life.born, life.place, life.size, life.term, life.died) for life in ledger.lives]
    return Trace(symbols, ledger.operations, ledger.marks, blocks)


def _traced(settings: tuple[Setting, ...], run: Callable[[Setting], Ledger]) -> Fitted:
    return fit_timeline([trace_of(run(setting), setting) for setting in settings])


def _optimizers(model: nn.Module) -> tuple[dict[str, Timeline], dict[str, float]]:
    timelines: dict[str, Timeline] = {}
    copies = dict.fromkeys(FUSED, 2.0)
    shadow = shadow_of(model)
    for name in TRACED:
        ledger, copies[name] = trace_optimizer(shadow, name)
        timelines[name] = fit_timeline([trace_of(ledger, Setting(1, (1,)))]).timeline
    return timelines, copies


def _name_of(model: Any, request: TraceRequest) -> str:
    """Return the yaml's name, which a `.pt` remembers: it tells the family that a calibration is for."""
    return Path(str(model.yaml.get("yaml_file") or request.model)).stem


def _built(request: TraceRequest) -> Any:
    try:
        model = build_model(request.model, _class_names(request))
    except StartRefused:
        raise
    except Exception as error:
        # A yaml of the wrong kind can raise anything while it is built; all of it means the same.
        raise StartRefused(
            expected="a detection model that ultralytics can build",
            got=f"{type(error).__name__}: {error}", where=request.model,
            now="Name one, such as yolo11n.yaml, yolov8s.yaml or yolo26m.yaml, or a .pt of one.",
        ) from error  # fmt: skip
    head = type(model.model[-1]).__name__
    if head not in _HEADS:
        raise StartRefused(
            expected="a model that detects boxes and nothing else", got=f"a {head} head",
            where=request.model, now="Name a detection model, such as yolo11n.yaml.",
        )  # fmt: skip
    return model


def _class_names(request: TraceRequest) -> tuple[str, ...]:
    if request.class_names:
        return request.class_names
    known: list[str] = []
    if request.model.endswith(".pt"):
        names = load_model(Path(request.model)).names
        known = [str(names[number]) for number in sorted(names)]
    return tuple(known + [f"class {number}" for number in range(len(known), request.classes)])


def _share(fitted: Iterable[Fitted]) -> float:
    exact, whole = zip(*((one.exact_bytes, one.all_bytes) for one in fitted), strict=True)
    return sum(exact) / sum(whole)


def _topk(criterion: Any) -> tuple[int, ...]:
    many = getattr(criterion, "one2many", criterion).assigner
    one = getattr(getattr(criterion, "one2one", None), "assigner", None)
    return (many.topk,) if one is None else (many.topk, one.topk2)


def _flops(stage: Stage, setting: Setting) -> float:
    from torch.utils.flop_counter import FlopCounterMode

    images = torch.zeros(1, 3, setting.side, setting.side)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        stage.ema.ema(images)
    return counter.get_total_flops() / setting.side**2


def _hash_of(model: nn.Module, request: TraceRequest) -> str:
    """Name what decides a profile: the network's shape, not its weights."""
    told = repr([(name, tuple(value.shape)) for name, value in model.state_dict().items()]) + repr(model)
    return hashlib.sha256(f"{told}{request.freeze_layers}".encode()).hexdigest()


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()
