"""Say what of a picture must never be stored."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from edge_agent.settings.base import Section, Share

Corner = tuple[Share, Share]
"""x and y as shares of the picture's width and height."""
Cover = Literal["blur", "black"]


class MaskConfig(Section):
    """Hide a part of a camera's picture, or keep only a part of it."""

    camera: str = ""
    """Name of the camera, "" = every camera."""
    mode: Literal["blur", "black", "crop"] = "black"
    """`blur` and `black` hide what lies inside; `crop` keeps what lies inside, and nothing else."""
    rectangle: tuple[Share, Share, Share, Share] | None = None
    """Left, top, right, bottom as shares of the picture."""
    polygon: tuple[Corner, ...] = ()
    """At least three corners; not for `crop`."""

    @model_validator(mode="after")
    def _has_one_shape(self) -> Self:
        if (self.rectangle is None) == (not self.polygon):
            raise ValueError("give either a rectangle or a polygon")
        if self.polygon and len(self.polygon) < 3:
            raise ValueError(f"a polygon has at least 3 corners, not {len(self.polygon)}")
        if self.mode == "crop" and self.rectangle is None:
            raise ValueError("a crop needs a rectangle, the part that is kept")
        if self.rectangle is not None:
            left, top, right, bottom = self.rectangle
            if left >= right or top >= bottom:
                raise ValueError(f"left must be below right and top below bottom: {list(self.rectangle)}")
        return self


class PrivacyConfig(Section):
    """Say what is hidden before anything is stored; the model itself sees the whole picture."""

    masks: tuple[MaskConfig, ...] = ()
    classes: tuple[str, ...] = ()
    """Detections of these classes are hidden in what is stored, whatever the masks say."""
    class_mode: Cover = "blur"
    class_margin: Share = 0.1
    """By this share of its size a hidden detection is widened on every side."""
    keep_unreadable: bool = True
    """Whether a file that cannot be decoded, and so cannot be masked, is set aside instead of deleted; where
    anything is to be hidden the default is false, for half a picture may well show it."""
    blur_cells: int = Field(default=6, ge=1, le=32)
    """A blurred region keeps so many averages along its longer side."""

    @model_validator(mode="before")
    @classmethod
    def _keeps_nothing_unhidden(cls, data: Any) -> Any:
        hides = isinstance(data, dict) and bool(data.get("masks") or data.get("classes"))
        return {"keep_unreadable": False, **data} if hides else data

    @model_validator(mode="after")
    def _one_crop_per_camera(self) -> Self:
        cropped = [mask.camera for mask in self.masks if mask.mode == "crop"]
        if len(cropped) != len(set(cropped)) or ("" in cropped and len(cropped) > 1):
            raise ValueError("a camera may have one crop only")
        return self
