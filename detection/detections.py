"""Hold what a model found in one frame as parallel columns.

Made by decoding, read by the decision rules, the mining rules and the metrics. Empty is a normal
value: a frame in which nothing was found.

    >>> found = Detections.empty()
    >>> len(found), found.xyxy.shape
    (0, (0, 4))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from detection.errors import ShapeError
from fleet_contracts.samples import DetectedBox

Floats: TypeAlias = npt.NDArray[np.float32]
Ints: TypeAlias = npt.NDArray[np.int64]
Mask: TypeAlias = npt.NDArray[np.bool_]
Image: TypeAlias = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """Hold n detections; row i of every column speaks of the same one.

    Columns are converted to their type when they are of another; their shapes must fit.

    Attributes:
        xyxy: (n, 4) corners in pixels, x to the right and y down.
        confidence: (n,) from 0 to 1.
        class_id: (n,) indices into the model's class list.
        runner_up: (n,) confidence of the second-best class of each row, None if the model does not tell.

    Raises:
        ShapeError: the columns are not parallel; the message gives all shapes.
    """

    xyxy: Floats
    confidence: Floats
    class_id: Ints
    runner_up: Floats | None = None

    def __post_init__(self) -> None:
        _set_column(self, "xyxy", self.xyxy, np.float32)
        _set_column(self, "confidence", self.confidence, np.float32)
        _set_column(self, "class_id", self.class_id, np.int64)
        n = self.xyxy.shape[0] if self.xyxy.ndim else 0
        if self.xyxy.shape != (n, 4) or self.confidence.shape != (n,) or self.class_id.shape != (n,):
            raise ShapeError(
                expected="xyxy (n, 4), confidence (n,), class_id (n,)",
                got=f"xyxy {self.xyxy.shape}, confidence {self.confidence.shape}, "
                f"class_id {self.class_id.shape}",
                where="Detections",
            )
        if self.runner_up is None:
            return
        _set_column(self, "runner_up", self.runner_up, np.float32)
        if self.runner_up.shape != (n,):
            got = f"{self.runner_up.shape} for {n} rows"
            raise ShapeError(expected="runner_up (n,)", got=got, where="Detections")

    @classmethod
    def empty(cls) -> Detections:
        """Return what a frame without findings gives."""
        return cls(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int64))

    @classmethod
    def from_boxes(cls, boxes: Sequence[DetectedBox]) -> Detections:
        """Read the boxes of a document."""
        rows = [(box.x1, box.y1, box.x2, box.y2) for box in boxes]
        return cls(
            np.asarray(rows, np.float32).reshape(len(boxes), 4),
            np.asarray([box.confidence for box in boxes], np.float32),
            np.asarray([box.class_id for box in boxes], np.int64),
        )

    @classmethod
    def concatenate(cls, several: Sequence[Detections]) -> Detections:
        """Return the rows of several values, one below the other."""
        if not several:
            return cls.empty()
        return cls(
            np.concatenate([one.xyxy for one in several]),
            np.concatenate([one.confidence for one in several]),
            np.concatenate([one.class_id for one in several]),
            _joined_runners_up(several),
        )

    def __len__(self) -> int:
        return int(self.confidence.shape[0])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Detections):
            return NotImplemented
        return (
            np.array_equal(self.xyxy, other.xyxy)
            and np.array_equal(self.confidence, other.confidence)
            and np.array_equal(self.class_id, other.class_id)
            and (len(self) == 0 or _same_column(self.runner_up, other.runner_up))
        )

    __hash__ = None  # type: ignore[assignment]  # columns can be written to, so a hash could go stale

    @property
    def area(self) -> Floats:
        """Return the area of every box in square pixels; a turned-over box has none."""
        sides = np.maximum(self.xyxy[:, 2:] - self.xyxy[:, :2], 0.0)
        area: Floats = sides[:, 0] * sides[:, 1]
        return area

    def select(self, rows: Mask | Ints | slice) -> Detections:
        """Return the rows that a mask marks, in their order, or that an index names, in its order."""
        runner_up = None if self.runner_up is None else self.runner_up[rows]
        return Detections(self.xyxy[rows], self.confidence[rows], self.class_id[rows], runner_up)

    def to_boxes(self) -> tuple[DetectedBox, ...]:
        """Write the rows as values of a document."""
        columns = zip(self.xyxy.tolist(), self.confidence.tolist(), self.class_id.tolist(), strict=True)
        return tuple(
            DetectedBox(class_id=class_id, confidence=confidence, x1=x1, y1=y1, x2=x2, y2=y2)
            for (x1, y1, x2, y2), confidence, class_id in columns
        )


def _same_column(one: Floats | None, other: Floats | None) -> bool:
    if one is None or other is None:
        return one is other
    return np.array_equal(one, other)


def _joined_runners_up(several: Sequence[Detections]) -> Floats | None:
    """Join the optional column; it is lost when rows of one value lack it, which empty ones do not."""
    told = [one.runner_up for one in several if one.runner_up is not None]
    if not told or any(len(one) and one.runner_up is None for one in several):
        return None
    joined: Floats = np.concatenate(told)
    return joined


def _set_column(owner: Detections, name: str, column: object, kind: type[np.generic]) -> None:
    """Replace a column by its typed array; one that is typed already is kept as it is, not copied."""
    if isinstance(column, np.ndarray) and column.dtype == kind:
        return
    converted: npt.NDArray[Any] = np.asarray(column, kind)
    object.__setattr__(owner, name, converted)
