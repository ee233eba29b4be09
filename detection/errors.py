"""Name what can go wrong between a frame and a verdict.

    DetectionError                a model, frame or rule cannot be used
    ├── ShapeError                our caller: arrays of another shape or type than agreed
    ├── ModelFileError            the file: not an ONNX model of ours, or one that contradicts itself
    ├── ModelOutputError          the model: it answers something its own file rules out
    ├── EngineFailed              this machine: the engine cannot load or run the model here
    └── RulesError                the release: decision rules that do not fit the model's classes

Every message says what was expected, what was got and where; `diagnostics()` says what to do now.
"""

from __future__ import annotations

from fleet_contracts.errors import Explained


class DetectionError(Explained):
    """Tell that a model, frame or rule cannot be used."""

    remedy = "Keep the model that serves; nothing was changed."


class ShapeError(DetectionError, ValueError):
    """Tell that an array has another shape or type than agreed."""

    remedy = "Fix the caller; frames are uint8 BGR of shape (height, width, 3), columns are parallel."


class ModelFileError(DetectionError):
    """Tell that a file is not an ONNX model of ours, or that its metadata and its graph disagree."""

    remedy = "Export the model again with Whetstone's trainer."


class ModelOutputError(DetectionError):
    """Tell that a model answered something its own file rules out."""

    remedy = "Go back to the previous release; the model or its engine is broken."


class EngineFailed(DetectionError):
    """Tell that the inference engine cannot load or run a model on this machine."""

    remedy = "Check the installed onnxruntime, its providers and the free memory of this machine."


class RulesError(DetectionError):
    """Tell that decision rules do not fit the classes they should decide on."""

    remedy = "Name every class of the model in the decision rules."
