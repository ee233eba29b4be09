"""Compare the trained .pt with the exported ONNX file on the same letterboxed images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn

from detection.dfl import DflDecoder, Level
from detection.suppression import DecodeOptions
from fleet_contracts.judging import InputSpec, ParityReport
from trainer.ultralytics_backend.export import session_of

REFERENCE = "trained weights in float32"
_MIN_SCORE = 0.05
_AT_LEAST = 20
"""Strongest rows compared even where none reaches the score, so that no comparison is empty."""
_MAX_SHIFT_PX = 8.0
"""Two boxes farther apart than this are two boxes, not one with an error."""
Array = np.ndarray[Any, Any]


def compare(model: nn.Module, onnx_file: Path, spec: InputSpec, images: Sequence[Path]) -> ParityReport:
    """Run both on each image and report the largest differences.

    Args:
        model: the trained network at full precision, neither fused nor otherwise prepared for export.
        onnx_file: the file that would ship.
        spec: its input.
        images: image files; unreadable ones are left out.
    """
    session = session_of(str(onnx_file))
    model.eval()
    model.model[-1].end2end = spec.head == "end2end"
    errors: list[tuple[float, float]] = []
    unmatched = read = 0
    for file in images:
        frame = cv2.imread(str(file), cv2.IMREAD_COLOR)
        if frame is None:
            continue
        read += 1
        canvas = _letterboxed(frame, spec)
        ours = _columns(_torch_output(model, canvas), spec)
        theirs = _shipped_columns(session.run(list(spec.detection_outputs), {spec.input_name: canvas}), spec)
        pairs, alone = _paired(ours, theirs, spec)
        errors, unmatched = errors + pairs, unmatched + alone
    most = np.array(errors or [(0.0, 0.0)])
    (box, score), (mean_box, mean_score) = most.max(axis=0).tolist(), most.mean(axis=0).tolist()
    return ParityReport(images=read, compared=len(errors), unmatched=unmatched, max_box_error_px=box,
                        max_score_error=score, mean_box_error_px=mean_box, mean_score_error=mean_score,
                        reference=REFERENCE)  # fmt: skip


def _letterboxed(frame: Array, spec: InputSpec) -> Array:
    height, width = frame.shape[:2]
    scale = min(spec.width / width, spec.height / height)
    size = (min(round(width * scale), spec.width), min(round(height * scale), spec.height))
    canvas = np.full((1, spec.height, spec.width, 3), spec.pad_value, np.uint8)
    left, top = (spec.width - size[0]) // 2, (spec.height - size[1]) // 2
    canvas[0, top : top + size[1], left : left + size[0]] = cv2.resize(frame, size)
    return canvas


def _torch_output(model: nn.Module, canvas: Array) -> Array:
    rgb = torch.from_numpy(canvas[..., ::-1].copy()).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        output = model(rgb)
    first = output[0] if isinstance(output, tuple) else output
    result: Array = first.numpy()
    return result


def _columns(output: Array, spec: InputSpec) -> tuple[Array, Array, Array]:
    """Return boxes (n, 4) by their corners, best scores (n,) and classes (n,)."""
    if spec.head == "end2end":
        rows = output[0]
        return rows[:, :4], rows[:, 4], rows[:, 5].astype(int)
    rows = output[0].T
    half = rows[:, 2:4] / 2
    corners = np.concatenate((rows[:, :2] - half, rows[:, :2] + half), axis=1)
    return corners, rows[:, 4:].max(1), rows[:, 4:].argmax(1)


def _shipped_columns(outputs: list[Array], spec: InputSpec) -> tuple[Array, Array, Array]:
    """Read the shipped file's outputs as boxes read them, every cell of a dense head."""
    if spec.head != "dfl":
        return _columns(outputs[0], spec)
    grids = zip(spec.strides, outputs[0::2], strict=True)
    levels = [Level(stride, boxes.shape[2], boxes.shape[3]) for stride, boxes in grids]
    cells = sum(level.cells for level in levels)
    bins, classes = outputs[0].shape[1] // 4, outputs[1].shape[1]
    decoder = DflDecoder(levels, bins, classes, DecodeOptions(max_candidates=cells))
    found = decoder.every_cell(outputs)
    return found.xyxy, found.confidence, found.class_id


def _paired(
    ours: tuple[Array, Array, Array], theirs: tuple[Array, Array, Array], spec: InputSpec
) -> tuple[list[tuple[float, float]], int]:
    """Return (box error, score error) of the pairs, and how many stand alone. Dense rows pair by cell."""
    if spec.head != "end2end":
        seen = _worth_comparing(ours[1]) | _worth_comparing(theirs[1])
        boxes = np.abs(ours[0][seen] - theirs[0][seen]).max(1)
        scores = np.abs(ours[1][seen] - theirs[1][seen])
        return list(zip(boxes.tolist(), scores.tolist(), strict=True)), 0
    pairs: list[tuple[float, float]] = []
    free = list(range(len(theirs[1])))  # also weak rows: a score may fall under any bound on one side alone
    alone = 0
    for row in np.flatnonzero(_worth_comparing(ours[1])):
        same = [other for other in free if theirs[2][other] == ours[2][row]]
        errors = [float(np.abs(theirs[0][other] - ours[0][row]).max()) for other in same]
        if not errors or min(errors) > _MAX_SHIFT_PX:
            alone += 1
            continue
        best = same[int(np.argmin(errors))]
        free.remove(best)
        pairs.append((min(errors), abs(float(theirs[1][best] - ours[1][row]))))
    return pairs, alone


def _worth_comparing(scores: Array) -> Array:
    strongest = np.sort(scores)[-_AT_LEAST:][0]
    worth: Array = scores >= min(_MIN_SCORE, strongest)
    return worth
