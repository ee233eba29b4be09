"""Give the symbols of sizes their values for a shape; what depends on the data is an upper guess. Pure."""

from __future__ import annotations

from trainer.vram.profile import ModelProfile
from trainer.vram.shape import TrainingShape


def symbols_of(profile: ModelProfile, shape: TrainingShape) -> dict[str, float]:
    """Return the value of every symbol.

    A box is a candidate for every anchor inside it, and label assignment enlarges boxes smaller than the
    middle stride to it; each box is given at most `topk` anchors.
    """
    pixels = float(shape.image_size**2)
    boxes = shape.all_boxes()
    anchors = pixels * profile.anchors_per_pixel
    middle = profile.strides[1] if len(profile.strides) > 1 else profile.strides[0]
    inside = max(shape.box_area * anchors, middle**2 * profile.anchors_per_pixel)
    all_anchors = shape.batch * anchors
    many, one = profile.topk[0], profile.topk[-1]
    return {
        "B": float(shape.batch), "P": pixels, "S": float(shape.image_size), "n": float(shape.fullest()),
        "T": boxes, "C": boxes * min(inside, anchors), "F": min(boxes * many, all_anchors),
        "f": min(boxes * one, all_anchors),
    }  # fmt: skip
