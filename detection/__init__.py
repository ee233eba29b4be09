"""Run a YOLO model on a frame, decide on the part, and measure how well both go.

Between the camera and the verdict on the box, and the judge in the cloud: the gate measures the
file that ships with the very code that runs it (law 6). Names are loaded when first used, so that
reading decision rules needs no inference engine.

    frame -> letterbox -> session -> decode -> Detections -> decision -> Decision
                                                   |
                                                   +-> metrics (AP, recall, escapes, false rejects)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from detection.decision import Decision, Finding, decide_part
    from detection.detections import Detections
    from detection.errors import (
        DetectionError,
        EngineFailed,
        ModelFileError,
        ModelOutputError,
        RulesError,
        ShapeError,
    )
    from detection.letterbox import Letterbox, Placement
    from detection.model_file import ModelFile, read_model
    from detection.providers import choose_providers
    from detection.session import Detector, DetectorOptions, Inference

_HOMES = {
    "Decision": "decision",
    "DetectionError": "errors",
    "Detections": "detections",
    "Detector": "session",
    "DetectorOptions": "session",
    "EngineFailed": "errors",
    "Finding": "decision",
    "Inference": "session",
    "Letterbox": "letterbox",
    "ModelFile": "model_file",
    "ModelFileError": "errors",
    "ModelOutputError": "errors",
    "Placement": "letterbox",
    "RulesError": "errors",
    "ShapeError": "errors",
    "choose_providers": "providers",
    "decide_part": "decision",
    "read_model": "model_file",
}

__all__ = [
    "Decision",
    "DetectionError",
    "Detections",
    "Detector",
    "DetectorOptions",
    "EngineFailed",
    "Finding",
    "Inference",
    "Letterbox",
    "ModelFile",
    "ModelFileError",
    "ModelOutputError",
    "Placement",
    "RulesError",
    "ShapeError",
    "choose_providers",
    "decide_part",
    "read_model",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'detection' has no attribute {name!r}")
    return getattr(import_module(f"detection.{_HOMES[name]}"), name)
