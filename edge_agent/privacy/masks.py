"""Hide parts of a frame before it is stored; called by the outbox's writer, never by the loop.

The model has seen the whole picture by then. The picture may be a view into a pool that others read, so it is
copied before a pixel is changed; a frame nothing is hidden in is passed on as it came.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from detection.detections import Detections, Mask
from edge_agent.model_slot import ModelSlot
from edge_agent.privacy.geometry import Box, boxes_of, hidden_box, hidden_polygon, kept_box, move_into
from edge_agent.privacy.pixels import Picture, cover_box, cover_polygon
from edge_agent.settings.privacy import Cover, MaskConfig, PrivacyConfig
from edge_agent.sources.base import Frame


class Masks:
    """Hide the masked parts of one camera's frames.

    Args:
        config: every mask of the box; those of other cameras are passed over.
        camera: whose frames these are.
        class_names: the serving model's class names, asked for each frame since a release may add some.
    """

    def __init__(
        self, config: PrivacyConfig, camera: str, class_names: Callable[[], Sequence[str]] = tuple
    ) -> None:
        mine = [mask for mask in config.masks if mask.camera in ("", camera)]
        self._config = config
        self._covers = tuple(mask for mask in mine if mask.mode != "crop")
        self._crop = next((mask.rectangle for mask in mine if mask.mode == "crop"), None)
        self._class_names = class_names

    @property
    def hides_always(self) -> bool:
        """Tell whether something is hidden in every frame, so that no original byte may be kept."""
        return bool(self._covers) or self._crop is not None

    def apply_to_frame(self, frame: Frame, found: Detections) -> tuple[Frame, Detections]:
        """Return the frame and its detections as they may be stored.

        Once anything is hidden the JPEG the frame came from is gone, since it shows everything.
        """
        image, moved = self.apply(frame.image, found)
        if image is frame.image:
            return frame, found
        return replace(frame, image=image, jpeg=None), moved

    def apply(self, image: Picture, found: Detections) -> tuple[Picture, Detections]:
        """Return the picture and its detections as they may be stored; the given ones are not changed.

        Steps: (1) hide classes, whose boxes are those of the whole picture; (2) masks; (3) crop.
        """
        height, width = image.shape[:2]
        by_class = boxes_of(found, self._hidden_rows(found), self._config.class_margin, (width, height))
        if not by_class and not self.hides_always:
            return image, found
        covered = image.copy()
        for box in by_class:  # (1)
            cover_box(covered, box, self._config.class_mode, self._config.blur_cells)
        for mask in self._covers:  # (2)
            self._cover(covered, mask)
        if self._crop is None:
            return covered, found
        crop: Box = kept_box(self._crop, width, height)  # (3)
        left, top, right, bottom = crop
        return np.ascontiguousarray(covered[top:bottom, left:right]), move_into(found, crop)

    def _cover(self, picture: Picture, mask: MaskConfig) -> None:
        height, width = picture.shape[:2]
        cover: Cover = "blur" if mask.mode == "blur" else "black"
        if mask.rectangle is not None:
            box = hidden_box(mask.rectangle, width, height)
            cover_box(picture, box, cover, self._config.blur_cells)
        else:
            corners = hidden_polygon(mask.polygon, width, height)
            cover_polygon(picture, corners, cover, self._config.blur_cells)

    def _hidden_rows(self, found: Detections) -> Mask:
        """Mark detections of hidden classes; a class nobody has a name for may be one of them."""
        if not self._config.classes or not len(found):
            return np.zeros(len(found), np.bool_)
        names = self._class_names()
        known = [index for index, name in enumerate(names) if name not in self._config.classes]
        return ~np.isin(found.class_id, known)


def build_masks(config: PrivacyConfig, camera: str, slot: ModelSlot) -> Masks:
    """Return the masks of a camera, with class names from whatever model serves."""

    def class_names() -> Sequence[str]:
        model = slot.current()
        return () if model is None else model.detector.class_names

    return Masks(config, camera, class_names)
