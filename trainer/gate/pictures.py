"""Draw what changed: the champion's detections beside the candidate's, where they differ most."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from detection.decision import reject_thresholds
from detection.detections import Detections
from trainer.validation import Evaluation

_TRUTH = (60, 180, 60)
_FOUND = (40, 40, 220)
_MAX_PICTURES = 6


def draw_changes(
    before: Evaluation, after: Evaluation, image_of: Callable[[str], bytes], folder: Path
) -> tuple[str, ...]:
    """Write side-by-side pictures of the most changed images and return their file names.

    Args:
        before: the champion on the same members.
        after: the candidate.
        image_of: the encoded image of a sample id.
        folder: where to write; created.
    """
    folder.mkdir(parents=True, exist_ok=True)
    changes = [len(_reported(before, row)) != len(_reported(after, row)) for row in range(len(after.members))]
    amount = [
        abs(len(_reported(before, row)) - len(_reported(after, row))) for row in range(len(after.members))
    ]
    order = sorted((row for row, changed in enumerate(changes) if changed), key=lambda row: -amount[row])
    names = []
    for row in order[:_MAX_PICTURES]:
        sample_id = after.members[row].sample_id
        frame = cv2.imdecode(np.frombuffer(image_of(sample_id), np.uint8), cv2.IMREAD_COLOR)
        if frame is None:
            continue
        pair = cv2.hconcat([_drawn(frame, before, row), _drawn(frame, after, row)])
        name = f"change-{sample_id[:12]}.jpg"
        if cv2.imwrite(str(folder / name), pair):
            names.append(name)
    return tuple(names)


def _reported(evaluation: Evaluation, row: int) -> Detections:
    """Return the detections that would reject the part."""
    found = evaluation.predictions[row]
    at = np.asarray(reject_thresholds(evaluation.rules, evaluation.class_names), np.float32)
    return found.select(found.confidence >= at[found.class_id])


def _drawn(frame: Any, evaluation: Evaluation, row: int) -> Any:
    canvas = frame.copy()
    for x1, y1, x2, y2 in evaluation.truths[row].xyxy.round().astype(int).tolist():
        cv2.rectangle(canvas, (x1 - 2, y1 - 2), (x2 + 2, y2 + 2), _TRUTH, 1)
    found = _reported(evaluation, row)
    for box, class_id in zip(found.xyxy.round().astype(int).tolist(), found.class_id.tolist(), strict=True):
        cv2.rectangle(canvas, (box[0], box[1]), (box[2], box[3]), _FOUND, 2)
        cv2.putText(canvas, evaluation.class_names[class_id], (box[0], max(box[1] - 4, 10)),
                    cv2.FONT_HERSHEY_SIMPLEX, 0.4, _FOUND, 1)  # fmt: skip
    return canvas
