"""Build frames as rules see them, by hand and by hypothesis."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from detection.detections import Detections
from detection.novelty import FeatureReference, FeatureSpace
from edge_agent.mining import Past, SeenFrame

NAMES = ("scratch", "missing", "stain")
DIMENSIONS = 6
Row = tuple[float, int, tuple[float, float, float, float], float]
"""Confidence, class id, x1 y1 x2 y2, confidence of the second-best class."""


def found(*rows: tuple[float, int] | Row, runner_up: bool = False) -> Detections:
    """Build detections from rows of confidence and class, and maybe corners and the second-best confidence."""
    full = [(*row, (8.0, 8.0, 24.0, 24.0), 0.0)[:4] if len(row) == 2 else row for row in rows]
    return Detections(
        np.asarray([row[2] for row in full], np.float32).reshape(len(full), 4),
        np.asarray([row[0] for row in full], np.float32),
        np.asarray([row[1] for row in full], np.int64),
        np.asarray([row[3] for row in full], np.float32) if runner_up else None,
    )


def seen(detections: Detections, part: str = "part-1", number: int = 0, **more: object) -> SeenFrame:
    """Build a frame of camera cam0."""
    return SeenFrame(detections, "cam0", part, number, class_names=NAMES, **more)  # type: ignore[arg-type]


def reference(spread: float = 1.0) -> FeatureReference:
    """Build a reference that knows vectors around zero."""
    space = FeatureSpace(np.zeros(DIMENSIONS, np.float32), np.full(DIMENSIONS, 1 / spread, np.float32))
    return FeatureReference.build(space, np.zeros((1, DIMENSIONS)), (0.5, 1.0, 2.0))


shares = st.floats(0.0, 1.0, width=32)
corners = st.floats(-20.0, 700.0, width=32)


@st.composite
def some_detections(draw: st.DrawFn, most: int = 12) -> Detections:
    """Draw detections: often none, turned-over boxes, equal scores and unknown classes included."""
    rows = draw(
        st.lists(
            st.tuples(shares, st.integers(0, 4), st.tuples(corners, corners, corners, corners), shares),
            max_size=most,
        )
    )
    # The second-best class is never the better one.
    ordered = [(max(row[0], row[3]), row[1], row[2], min(row[0], row[3])) for row in rows]
    return found(*ordered, runner_up=draw(st.booleans()))


@st.composite
def some_frames(draw: st.DrawFn) -> SeenFrame:
    """Draw a frame with whatever may be missing from it missing or not."""
    vector = st.none() | st.lists(st.floats(allow_nan=True, width=32), min_size=0, max_size=DIMENSIONS).map(
        lambda values: np.asarray(values, np.float32)
    )
    class_shares = st.none() | st.lists(shares, min_size=1, max_size=4).map(
        lambda one: np.asarray(one, np.float32)
    )
    past = Past(
        tuple(draw(st.lists(some_detections(4), max_size=3))), draw(class_shares), draw(st.integers(0, 1000))
    )
    return seen(
        draw(some_detections()),
        part=draw(st.sampled_from(["a", "b"])),
        number=draw(st.integers(0, 3)),
        features=draw(vector),
        reference=draw(st.sampled_from([None, reference()])),
        flag=draw(st.sampled_from(["", "operator"])),
        past=past,
    )
