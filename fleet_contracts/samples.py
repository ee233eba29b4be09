"""Describe what a box saw and what people said about it: samples, labels, class lists.

First station of the data's way: the box writes a `HardExample` beside the image it keeps; ingest
writes the same document as the sample's sidecar; labels arrive as `LabelRecord`s.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator
from typing_extensions import Self

from fleet_contracts.base import Count, Share, UtcTime, Value, WireDocument
from fleet_contracts.errors import ClassListConflict
from fleet_contracts.ids import DeviceId, ModelId, PartId, SampleId
from fleet_contracts.polygons import Polygon, polygon_problem

Verdict = Literal["accept", "reject", "unsure"]
ClassName = Annotated[str, Field(min_length=1, max_length=64)]


class DetectedBox(Value):
    """Hold one detection in pixels of the stored image: x to the right, y down, corners x1y1 and x2y2."""

    class_id: Count
    confidence: Share
    x1: float
    y1: float
    x2: float
    y2: float


class BoxLabel(Value):
    """Hold one labelled box as YOLO text does: centre and size as shares of image width and height."""

    class_id: Count
    cx: Share
    cy: Share
    width: Annotated[float, Field(gt=0.0, le=1.0)]
    height: Annotated[float, Field(gt=0.0, le=1.0)]


class Sighting(Value):
    """Say where and when a sample was seen; the same bytes seen twice are one sample, two sightings."""

    device_id: DeviceId
    camera: PartId
    captured_at: UtcTime
    part_id: PartId
    frame_in_part: Count = 0


class Reason(Value):
    """Say which rule kept a frame, how strongly (higher is more valuable), and why in words."""

    rule: str
    score: float
    detail: str = ""


class ImageInfo(Value):
    """Describe the encoded image file."""

    width: Annotated[int, Field(ge=1, le=32768)]
    height: Annotated[int, Field(ge=1, le=32768)]
    size_bytes: Annotated[int, Field(ge=1)]
    media_type: str = "image/jpeg"


class HardExample(WireDocument):
    """Be the sidecar of a sample: what was seen, by which model, and why it was kept."""

    sample_id: SampleId
    image: ImageInfo
    sightings: Annotated[tuple[Sighting, ...], Field(min_length=1)]
    model_id: ModelId
    release_version: Count = 0
    detections: tuple[DetectedBox, ...] = ()
    decision: Verdict = "unsure"
    reasons: Annotated[tuple[Reason, ...], Field(min_length=1)]
    keep_until: UtcTime
    slices: dict[str, str] = Field(default_factory=dict)
    origin: Literal["mined", "import", "capture"] = "mined"
    pinned_split: Literal["train", "val", "golden"] | None = None
    """Set for imported samples that belong to one split for good."""
    look: str = ""
    """Perceptual hash in hexadecimal, set by ingest."""
    committed_at: UtcTime | None = None
    """Set by ingest; a box leaves it out."""


class LabelRecord(WireDocument):
    """Say what is in a sample, under which class list, according to whom.

    Only `verified` records count toward the trigger and enter evaluation (law 4).
    """

    sample_id: SampleId
    revision: Annotated[int, Field(ge=1)]
    class_list_version: Annotated[int, Field(ge=1)]
    boxes: tuple[BoxLabel, ...]
    source: Literal["human", "teacher", "operator"]
    verified: bool
    labelled_by: str
    labelled_at: UtcTime
    imported: bool = False
    """True for labels that came with old data; they do not count toward the trigger."""


class ClassList(WireDocument):
    """Give every class id its name. Ids are append-only: list N is a prefix of list N+1 (law 9)."""

    version: Annotated[int, Field(ge=1)]
    names: Annotated[tuple[ClassName, ...], Field(min_length=1, max_length=1000)]

    @field_validator("names")
    @classmethod
    def _names_differ(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) != len(names):
            raise ValueError(f"class names must differ, got {list(names)}")
        return names

    def require_continues(self, older: Self, *, where: str) -> None:
        """Check that this list is `older` or a continuation of it.

        Raises:
            ClassListConflict: a name was changed, moved or removed, or the version went back.
        """
        keeps = self.names[: len(older.names)] == older.names
        grows = self.version > older.version or self.names == older.names
        if not keeps or self.version < older.version or not grows:
            raise ClassListConflict(
                expected=f"a continuation of list {older.version} {list(older.names)}",
                got=f"list {self.version} {list(self.names)}",
                where=where,
                now="Class ids are append-only; add classes with 'whetstone classes add'.",
            )

    def with_class(self, name: str) -> ClassList:
        """Return the next version of this list with `name` appended."""
        return ClassList(task_id=self.task_id, version=self.version + 1, names=(*self.names, name))


class ClassRule(Value):
    """Say from which confidence on a class rejects a part, and from which it makes it unsure."""

    name: ClassName
    reject_at: Share
    unsure_at: Share
    min_area_px: Annotated[float, Field(ge=0.0)] = 0.0

    @model_validator(mode="after")
    def _band_is_ordered(self) -> Self:
        if self.unsure_at > self.reject_at:
            raise ValueError(f"unsure_at {self.unsure_at} must not exceed reject_at {self.reject_at}")
        return self


class Region(Value):
    """Mark a part of the frame where findings count (`include`) or do not (`exclude`).

    A box counts by its centre. Where any include region holds, the centre must lie in one of them; in an
    exclude region it must not lie. A region without a camera holds for every camera.
    """

    name: ClassName
    polygon: Annotated[tuple[tuple[Share, Share], ...], Field(min_length=3, max_length=64)]
    """Corners in order, as shares of the frame's width (to the right) and height (down); it closes itself."""
    kind: Literal["include", "exclude"] = "include"
    camera: PartId | None = None

    @field_validator("polygon")
    @classmethod
    def _is_a_simple_area(cls, polygon: Polygon) -> Polygon:
        problem = polygon_problem(polygon)
        if problem:
            raise ValueError(problem)
        return polygon


def require_different_names(regions: Sequence[Region]) -> None:
    """Check that no two regions share a name.

    Raises:
        ValueError: two do.
    """
    names = [region.name for region in regions]
    if len(set(names)) != len(names):
        raise ValueError(f"region names must differ, got {names}")


class DecisionRules(Value):
    """Turn a part's detections into a verdict; a class without a rule is refused, never ignored."""

    classes: Annotated[tuple[ClassRule, ...], Field(min_length=1)]
    min_frames: Annotated[int, Field(ge=1)] = 1
    """Frames of a part that must show a defect before it counts."""
    regions: Annotated[tuple[Region, ...], Field(max_length=64)] = ()
    """Where in the frame findings count; empty: everywhere."""

    @field_validator("regions")
    @classmethod
    def _region_names_differ(cls, regions: tuple[Region, ...]) -> tuple[Region, ...]:
        require_different_names(regions)
        return regions

    def require_names(self, class_list: ClassList, *, where: str) -> None:
        """Check that every class of the list has its rule.

        Raises:
            ClassListConflict: a class has no rule, or a rule names no class.
        """
        named = {rule.name for rule in self.classes}
        if named != set(class_list.names):
            raise ClassListConflict(
                expected=f"one decision rule for each of {list(class_list.names)}",
                got=f"rules for {sorted(named)}",
                where=where,
                now="Name every class in the decision rules before taking this class list.",
            )
