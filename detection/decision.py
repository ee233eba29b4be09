"""Decide on a part from what was found in its frames: accept, reject or unsure.

Pure. Runs on the box for every frame and in the gate for every validation part, so escapes and
false rejects are counted on the decisions that would really be made. `decide_part` judges a whole part,
`PartJudge` the same part frame by frame: what it costs does not grow with the frames it has seen.

    >>> from fleet_contracts.samples import ClassRule
    >>> rules = DecisionRules(classes=(ClassRule(name="scratch", reject_at=0.7, unsure_at=0.3),))
    >>> judge = PartJudge(rules, ("scratch",))
    >>> judge.add(Detections.empty()).verdict
    'accept'
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from detection.detections import Detections, Floats, Ints, Mask
from detection.errors import RulesError
from detection.regions import RegionMask
from fleet_contracts.samples import DecisionRules, Verdict


class Finding(NamedTuple):
    """Name a class that speaks against a part: its best confidence, and in how many frames it counts."""

    class_name: str
    confidence: float
    frames: int


@dataclass(frozen=True, slots=True)
class Decision:
    """Hold the verdict on a part and what led to it, strongest first; an accepted part has no findings."""

    verdict: Verdict
    findings: tuple[Finding, ...] = ()


class FrameView(NamedTuple):
    """Say what a frame is a picture of: its width and height in pixels, and the camera ("" = unknown).

    Rules with regions cannot do without the size; regions of a named camera hold for that camera alone.
    """

    size: tuple[int, int] | None = None
    camera: str = ""


NO_VIEW = FrameView()


def decide_part(
    frames: Sequence[Detections],
    rules: DecisionRules,
    class_names: Sequence[str],
    *,
    frame_size: tuple[int, int] | None = None,
    camera: str = "",
) -> Decision:
    """Judge a part by all of its frames.

    A class rejects the part if it reaches `reject_at` in at least `min_frames` frames, and makes it
    unsure if it reaches `unsure_at` in as many. Of a part with fewer frames than that, all must show
    it. A part without any frame was not inspected and is unsure, never accepted. Boxes smaller than
    `min_area_px` do not count, nor do boxes whose centre the regions leave out.

    Args:
        frames: one value per frame, in frame pixels; an empty one is a frame without findings.
        rules: must name every class of the model.
        class_names: in the order of the class ids.
        frame_size: width and height of the frames in pixels; rules with regions need it.
        camera: which camera took them.

    Raises:
        RulesError: a class has no rule, a detection's class id has no name, or there are regions and no
            frame size.
    """
    judge = PartJudge(rules, class_names)
    view = FrameView(frame_size, camera)
    for frame in frames:
        judge.add(frame, view)
    return judge.decision


class PartJudge:
    """Judge one part as its frames come, exactly as `decide_part` judges them all together.

    Args:
        rules: must name every class of the model.
        class_names: in the order of the class ids.

    Raises:
        RulesError: a class has no rule.
    """

    __slots__ = ("_book", "_doubting", "_frames", "_needs", "_rejecting", "_strongest", "decision")

    def __init__(self, rules: DecisionRules, class_names: Sequence[str]) -> None:
        self._book = _book_of(rules, class_names)
        count = len(self._book.class_names)
        self._frames = 0
        self._needs = 0
        self._rejecting = np.zeros(count, np.int64)
        self._doubting = np.zeros(count, np.int64)
        self._strongest = np.zeros(count, np.float32)
        self.decision = Decision("unsure")
        """The verdict so far."""

    def add(self, found: Detections, view: FrameView = NO_VIEW) -> Decision:
        """Take in what was found in the next frame, in frame pixels; return the verdict so far.

        Raises:
            RulesError: a class id has no name, or there are regions and no frame size; the frame is then
                not taken in.
        """
        best = self._book.best(found, view) if len(found) else None
        self._frames += 1
        needs = min(self._book.min_frames, self._frames)
        if best is None and needs == self._needs:
            return self.decision
        self._needs = needs
        if best is not None:
            self._rejecting += best >= self._book.reject_at
            self._doubting += best >= self._book.unsure_at
            np.maximum(self._strongest, best, out=self._strongest)
        self.decision = self._verdict()
        return self.decision

    def _verdict(self) -> Decision:
        if self._rejecting.max(initial=0) >= self._needs:
            return Decision("reject", self._findings(self._rejecting))
        if self._doubting.max(initial=0) >= self._needs:
            return Decision("unsure", self._findings(self._doubting))
        return Decision("accept")

    def _findings(self, counted: Ints) -> tuple[Finding, ...]:
        names = self._book.class_names
        findings = [
            Finding(names[class_id], float(self._strongest[class_id]), int(counted[class_id]))
            for class_id in (counted >= self._needs).nonzero()[0].tolist()
        ]
        return tuple(sorted(findings, key=lambda finding: -finding.confidence))


def counting_rows(
    boxes: tuple[Floats, Ints], rules: DecisionRules, class_names: Sequence[str], view: FrameView
) -> Mask:
    """Return which boxes the rules look at by size and place, whatever their confidence, (n,).

    Detections and true boxes are asked alike, so that the gate calls bad what the rules are to find.

    Args:
        boxes: (n, 4) corners in frame pixels and (n,) class ids.
        rules: must name every class of the model.
        class_names: in the order of the class ids; of later classes the rules say nothing, they count.
        view: what the frame is a picture of.

    Raises:
        RulesError: a class has no rule, or there are regions and no frame size.
    """
    book = _book_of(rules, class_names)
    xyxy, class_id = boxes
    sides = np.maximum(xyxy[:, 2:] - xyxy[:, :2], 0.0)
    min_area = np.concatenate((book.min_area, np.zeros(1, np.float32)))
    large: Mask = sides[:, 0] * sides[:, 1] >= min_area[np.minimum(class_id, len(book.min_area))]
    return large & book.mask(view).inside(xyxy, book.size_of(view))


def reject_thresholds(rules: DecisionRules, class_names: Sequence[str]) -> tuple[float, ...]:
    """Return `reject_at` of every class in the order of the class ids.

    Raises:
        RulesError: a class has no rule.
    """
    by_name = {rule.name: rule for rule in rules.classes}
    missing = [name for name in class_names if name not in by_name]
    if missing:
        raise RulesError(
            expected=f"a decision rule for each of {list(class_names)}",
            got=f"none for {missing}",
            where="decision rules",
        )
    return tuple(by_name[name].reject_at for name in class_names)


class _RuleBook:
    """Hold the rules as one row per class id and one mask per camera, made once for many parts."""

    def __init__(self, rules: DecisionRules, class_names: tuple[str, ...]) -> None:
        # Thresholds become float32 as the confidences are: a JSON 0.7 must be reached by a score of 0.7.
        reject_at = np.asarray(reject_thresholds(rules, class_names), np.float32)
        by_name = {rule.name: rule for rule in rules.classes}
        # Nothing was found is kept as 0.0, so a threshold of zero must not be met by it.
        floor = np.finfo(np.float32).tiny
        unsure_at = np.asarray([by_name[name].unsure_at for name in class_names], np.float32)
        self.class_names = class_names
        self.min_frames = rules.min_frames
        self.reject_at: Floats = np.maximum(reject_at, floor)
        self.unsure_at: Floats = np.maximum(unsure_at, floor)
        self.min_area = np.asarray([by_name[name].min_area_px for name in class_names], np.float32)
        self._has_area = bool((self.min_area > 0.0).any())
        self._regions = rules.regions
        self._masks: dict[str, RegionMask] = {}

    def best(self, found: Detections, view: FrameView) -> Floats | None:
        """Return the best confidence of each class, (classes,), or None when nothing reaches a threshold."""
        class_id, confidence = found.class_id, found.confidence
        if class_id.min() < 0 or class_id.max() >= len(self.class_names):
            raise RulesError(
                expected=f"class ids below {len(self.class_names)}",
                got=f"class ids {class_id.min()} to {class_id.max()}",
                where="detections",
                now="Decide with the class list of the model that made the detections.",
            )
        counts = confidence >= self.unsure_at[class_id]
        if self._has_area:
            counts &= found.area >= self.min_area[class_id]
        if self._regions:
            counts &= self.mask(view).inside(found.xyxy, self.size_of(view))
        if not counts.any():
            return None
        best = np.zeros(len(self.class_names), np.float32)
        np.maximum.at(best, class_id[counts], confidence[counts])
        return best

    def mask(self, view: FrameView) -> RegionMask:
        """Return the regions of the frame's camera."""
        mask = self._masks.get(view.camera)
        if mask is None:
            mask = self._masks[view.camera] = RegionMask(self._regions, view.camera)
        return mask

    def size_of(self, view: FrameView) -> tuple[int, int]:
        """Return the frame's width and height, which only rules without regions can do without."""
        if view.size is not None and min(view.size) > 0:
            return view.size
        if not self._regions:
            return (1, 1)
        raise RulesError(
            expected="the frame's width and height, for the rules have regions",
            got=str(view.size),
            where=f"camera {view.camera!r}" if view.camera else "frame",
            now="Hand the frame's size to the decision.",
        )


_KEPT_BOOKS = 8
_books: tuple[tuple[DecisionRules, _RuleBook], ...] = ()


def _book_of(rules: DecisionRules, class_names: Sequence[str]) -> _RuleBook:
    """Return the rules' book; the last few are kept, found by identity, since hashing rules takes longer.

    The tuple is replaced as a whole, so threads that race at worst make a book twice.
    """
    global _books  # noqa: PLW0603 - a cache of pure values
    names = class_names if isinstance(class_names, tuple) else tuple(class_names)
    for known, book in _books:
        if known is rules and book.class_names == names:
            return book
    book = _RuleBook(rules, names)
    _books = ((rules, book), *_books[: _KEPT_BOOKS - 1])
    return book
