"""Count what matters on the line: bad parts that escape and good parts that are thrown away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from detection.decision import NO_VIEW, Decision, FrameView, PartJudge, counting_rows
from detection.detections import Detections
from detection.metrics.matching import GroundTruth
from fleet_contracts.samples import DecisionRules

PartTruth: TypeAlias = "GroundTruth | bool"
"""What a part is: the truth of its only frame (bad if it holds a box), or whether it is bad."""


@dataclass(frozen=True, slots=True)
class PartReport:
    """Hold how parts fared.

    An escape is a bad part that was accepted, a false reject a good part that was rejected; an
    unsure part is neither, since a person looks at it. All three rates are per 1,000 parts
    inspected, good and bad ones together, so they can be added up; `escape_share` and
    `false_reject_share` do not depend on how many parts of each kind were inspected.
    A rate over nothing is 0.0; the counts tell that apart from a good result.
    """

    parts: int
    bad_parts: int
    good_parts: int
    escapes: int
    false_rejects: int
    unsure: int

    @property
    def escapes_per_1000(self) -> float:
        """Return escapes per 1,000 parts inspected."""
        return _rate(self.escapes, self.parts) * 1000.0

    @property
    def false_rejects_per_1000(self) -> float:
        """Return false rejects per 1,000 parts inspected."""
        return _rate(self.false_rejects, self.parts) * 1000.0

    @property
    def unsure_per_1000(self) -> float:
        """Return parts a person must look at per 1,000 parts inspected."""
        return _rate(self.unsure, self.parts) * 1000.0

    @property
    def escape_share(self) -> float:
        """Return the share of the bad parts that escaped."""
        return _rate(self.escapes, self.bad_parts)

    @property
    def false_reject_share(self) -> float:
        """Return the share of the good parts that were rejected."""
        return _rate(self.false_rejects, self.good_parts)


def part_report(decisions: Sequence[Decision], truths: Sequence[PartTruth]) -> PartReport:
    """Compare the decision on each part with what the part is.

    Raises:
        ValueError: not as many decisions as truths.
    """
    bad = [truth if isinstance(truth, bool) else len(truth) > 0 for truth in truths]
    verdicts = [decision.verdict for decision in decisions]
    pairs = list(zip(verdicts, bad, strict=True))
    return PartReport(
        parts=len(pairs),
        bad_parts=sum(bad),
        good_parts=len(bad) - sum(bad),
        escapes=pairs.count(("accept", True)),
        false_rejects=pairs.count(("reject", False)),
        unsure=verdicts.count("unsure"),
    )


def decide_parts(
    frames: Sequence[tuple[str, Detections, GroundTruth]],
    rules: DecisionRules,
    class_names: Sequence[str],
    views: Sequence[FrameView] | None = None,
) -> tuple[tuple[Decision, ...], tuple[bool, ...]]:
    """Decide on every part as the box would, for `part_report`.

    Detections of classes that a frame's labels do not know are left out (law 9). A part is bad if it shows
    a true box that the rules look at: one that is too small for its class, or whose centre the regions
    leave out, is by the rules no defect.

    Args:
        frames: part id, detections and truth of each frame, a part's frames in any order.
        rules: must name every class of the model.
        class_names: in the order of the class ids.
        views: size and camera of each frame; rules with regions need them.

    Returns:
        Decision and badness of each part, in the order in which the parts first appear.
    """
    judges: dict[str, PartJudge] = {}
    bad: dict[str, bool] = {}
    of_each = views if views is not None else [NO_VIEW] * len(frames)
    for (part_id, detections, truth), view in zip(frames, of_each, strict=True):
        judge = judges.setdefault(part_id, PartJudge(rules, class_names))
        judge.add(truth.known_part(detections), view)
        shows = counting_rows((truth.xyxy, truth.class_id), rules, class_names, view)
        bad[part_id] = bad.get(part_id, False) or bool(shows.any())
    return tuple(judge.decision for judge in judges.values()), tuple(bad.values())


def _rate(count: int, of: int) -> float:
    return count / of if of else 0.0
