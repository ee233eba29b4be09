"""Find the range of every tensor that int8 will have to cover, on training images prepared as a box does.

(1) Run the float file with its inner tensors as outputs, a few at a time, and keep lowest and highest.
(2) Run it again and count samples of each tensor in even bins between them.
(3) Say ranges by a method: everything seen (`minmax`), all but the outermost ten-thousandths (`percentile`),
    or what loses least by rounding and cutting together (`mse`).

onnxruntime has calibrators of its own; they hold every tensor of every image in memory at once, which for a
network of some size is more than a machine has.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from detection.letterbox import Letterbox
from detection.providers import CPU
from fleet_contracts.judging import InputSpec
from trainer.formats.graphs import float_shapes, infer_shapes, observed_tensors

Method: TypeAlias = Literal["minmax", "percentile", "mse"]
METHODS: tuple[Method, ...] = ("minmax", "percentile", "mse")
Canvas: TypeAlias = npt.NDArray[np.uint8]
_BINS = 2048
_MOST_SAMPLES = 16_384
"""Of one tensor and image; beyond it every n-th value is counted."""
_GROUP_BYTES = 128 << 20
_TAIL = 1e-4
_LEVELS = 255.0
_SHRINKS = np.linspace(1.0, 0.3, 29)


@dataclass(frozen=True, slots=True)
class Range:
    """Hold the lowest and the highest value that int8 will tell apart."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Seen:
    """Hold what one tensor showed: its extremes over all images and sampled counts in even bins between."""

    low: float
    high: float
    counts: npt.NDArray[np.int64]

    def noise_share(self, found: Range) -> float:
        """Return the squared error of int8 within a range over the tensor's own square: how much it hurts."""
        centres, counts = self._centres(), self.counts
        error = _squared_errors(centres, counts, np.array([[found.low, found.high]]))
        return float(error[0]) / max(float((counts * centres**2).sum()), 1e-12)

    def range_by(self, method: Method) -> Range:
        """Return the range that a method gives."""
        if method == "minmax" or self.high <= self.low or not self.counts.any():
            return Range(self.low, self.high)
        centres = self._centres()
        if method == "percentile":
            share = np.cumsum(self.counts) / self.counts.sum()
            low = centres[int(np.searchsorted(share, _TAIL))]
            high = centres[min(int(np.searchsorted(share, 1.0 - _TAIL)), _BINS - 1)]
            return Range(float(low), float(high))
        tried = np.array([(self.low * low, self.high * high) for low, high in _shrinks(self.low)])
        best = tried[int(_squared_errors(centres, self.counts, tried).argmin())]
        return Range(float(best[0]), float(best[1]))

    def _centres(self) -> npt.NDArray[np.float64]:
        edges = np.linspace(self.low, self.high, _BINS + 1)
        return (edges[1:] + edges[:-1]) / 2


def canvases_of(files: Iterable[Path], spec: InputSpec) -> list[Canvas]:
    """Return images as a box would hand them to the model; files that do not decode are left out."""
    letterbox = Letterbox(spec.width, spec.height, spec.pad_value)
    drawn = []
    for file in files:
        frame = cv2.imread(str(file), cv2.IMREAD_COLOR)
        if frame is not None:
            letterbox.fill(np.asarray(frame, np.uint8))
            drawn.append(letterbox.canvas.copy())
    return drawn


def observe(graph: Any, canvases: Sequence[Canvas], input_name: str) -> dict[str, Seen]:
    """Return what each tensor that may be quantised showed on these images."""
    inferred = infer_shapes(graph)
    seen: dict[str, Seen] = {}
    for names in _groups(observed_tensors(inferred), float_shapes(inferred)):
        session = _session_with(graph, names)

        def run(canvas: Canvas, session: Any = session, names: tuple[str, ...] = names) -> list[Any]:
            answers: list[Any] = session.run(list(names), {input_name: canvas})
            return answers

        # (1)
        extremes = np.array([[(one.min(), one.max()) for one in run(canvas)] for canvas in canvases])
        low, high = extremes[..., 0].min(axis=0), extremes[..., 1].max(axis=0)
        # (2)
        counts = np.zeros((len(names), _BINS), np.int64)
        for canvas in canvases:
            for row, values in enumerate(run(canvas)):
                counts[row] += _counted(values, float(low[row]), float(high[row]))
        seen |= {name: Seen(float(low[row]), float(high[row]), counts[row]) for row, name in enumerate(names)}
    return seen


def ranges_by(method: Method, seen: Mapping[str, Seen]) -> dict[str, Range]:
    """Return every tensor's range by a method."""
    # (3)
    return {name: one.range_by(method) for name, one in seen.items()}


def _groups(names: Sequence[str], shapes: Mapping[str, tuple[int, ...]]) -> Iterator[tuple[str, ...]]:
    """Cut the tensors into groups that fit into memory together."""
    group: list[str] = []
    taken = 0
    for name in names:
        size = 4 * int(np.prod([max(side, 1) for side in shapes[name]]))
        if group and taken + size > _GROUP_BYTES:
            yield tuple(group)
            group, taken = [], 0
        group.append(name)
        taken += size
    if group:
        yield tuple(group)


def _session_with(graph: Any, names: Sequence[str]) -> Any:
    import onnx
    import onnxruntime

    wider = onnx.ModelProto()
    wider.CopyFrom(graph)
    there = {one.name for one in wider.graph.output}
    wider.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        for name in names
        if name not in there
    )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(wider.SerializeToString(), options, providers=[CPU])


def _counted(values: Any, low: float, high: float) -> npt.NDArray[np.int64]:
    flat = values.reshape(-1)
    sampled = flat[:: max(1, len(flat) // _MOST_SAMPLES)]
    if high <= low:
        return np.bincount([0], weights=[len(sampled)], minlength=_BINS).astype(np.int64)
    index = ((sampled - low) * (_BINS / (high - low))).astype(np.int64)
    return np.bincount(np.clip(index, 0, _BINS - 1), minlength=_BINS).astype(np.int64)


def _shrinks(low: float) -> list[tuple[float, float]]:
    """Return shares of both ends to try; a lower end that SiLU fixes at -0.28 is left where it is."""
    if low > -0.5:
        return [(1.0, float(share)) for share in _SHRINKS]
    return [(float(share), float(share)) for share in _SHRINKS]


def _squared_errors(
    centres: npt.NDArray[np.float64], counts: npt.NDArray[np.int64], ranges: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return the summed squared error of each range (n, 2): rounding inside it, cutting off outside."""
    low, high = np.minimum(ranges[:, :1], 0.0), np.maximum(ranges[:, 1:], 0.0)
    step = np.maximum(high - low, 1e-12) / _LEVELS
    cut = centres - np.clip(centres, low, high)
    # An error of rounding is even between minus and plus half a step: its square is step^2 / 12.
    errors: npt.NDArray[np.float64] = ((cut**2 + step**2 / 12.0) * counts).sum(axis=1)
    return errors
