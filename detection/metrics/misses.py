"""Choose thresholds that hold a stated miss rate: the share of bad parts that would be accepted.

A part is missed if no class reaches its threshold for unsure, since an unsure part is looked at by a person.
All these thresholds are moved together, from the safest up to the usual ones; the last step is taken before
which the bound on the miss rate was never above the stated one. The miss rate only grows with the steps, so a
bound that holds for each step alone holds for the one that was chosen (Bates, Angelopoulos, Lei, Malik and
Jordan, Distribution-free, risk-controlling prediction sets, J. ACM 68, 2021). Parts of one group are alike,
so a group counts once and is missed if any of its bad parts is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detection.decision import NO_VIEW, FrameView, counting_rows
from detection.detections import Detections
from detection.metrics.bounds import MOST_CASES, cases_needed, lower_bound, upper_bound
from detection.metrics.matching import Doubles, GroundTruth
from fleet_contracts.samples import ClassRule, DecisionRules

_SHARES = 100
"""Steps from the safest to the usual threshold; fixed beforehand, so that the data do not choose them."""


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """Hold one frame of a part: what was found and what is there; parts of one group are alike."""

    part_id: str
    group: str
    found: Detections
    truth: GroundTruth
    view: FrameView = NO_VIEW


@dataclass(frozen=True, slots=True)
class MissLimit:
    """State what to hold: at most `rate` of bad parts missed, with `confidence`; `floor` is the safest."""

    rate: float
    confidence: float = 0.95
    floor: float = 0.05

    def __post_init__(self) -> None:
        if not (0.0 < self.rate < 1.0 and 0.0 < self.confidence < 1.0 and 0.0 < self.floor < 1.0):
            raise ValueError(f"expected rate, confidence and floor between 0 and 1, got {self}")


@dataclass(frozen=True, slots=True)
class MissReport:
    """Say how the stated miss rate was held; counts are of groups with a bad part.

    Attributes:
        rate: the stated one.
        confidence: with which it is to hold.
        cases: groups of bad parts there were.
        missed: of them, at the thresholds that were chosen.
        bound: upper bound of the miss rate at these thresholds.
        held: whether the bound is within the stated rate; if not, the safest thresholds were taken.
        needed: cases needed to show the rate with as many missed as now, at most `MOST_CASES`.
    """

    rate: float
    confidence: float
    cases: int
    missed: int
    bound: float
    held: bool
    needed: int

    @property
    def contradicted(self) -> bool:
        """Tell whether more were missed with the safest thresholds than chance at the rate explains."""
        return not self.held and lower_bound(self.missed, self.cases, self.confidence) > self.rate

    def in_words(self) -> str:
        """Say in one line what the data show, and what it would take to show the stated rate."""
        told = (
            f"{self.missed} of {self.cases} groups of bad parts missed, "
            f"with {self.confidence:.0%} confidence at most {self.bound:.2%}"
        )
        if self.held:
            return told
        over = "more than " if self.needed >= MOST_CASES else ""
        more = f"{over}{self.needed} groups with no more missed would be needed"
        return f"{told}; {more}, the safest thresholds are taken"


def hold_miss_rate(
    frames: Sequence[Shown], rules: DecisionRules, class_names: Sequence[str], limit: MissLimit
) -> tuple[DecisionRules, MissReport]:
    """Return rules whose thresholds for unsure hold a miss rate, and what the data say about it.

    Reject thresholds stay. Thresholds for unsure are never less careful than those given, except that the
    floor bounds them from below.

    Args:
        frames: of all parts, good ones included, in any order; rules with regions need their views.
        rules: to start from; they name every class.
        class_names: in the order of the class ids.
        limit: what to hold.
    """
    # (1) what each class of each bad part reaches, and which group the part is of
    reached, group = _bad_parts(frames, rules, class_names)
    cases = len(np.unique(group))
    # (2) from the safest up, until the bound is above the rate
    chosen, missed, bound = rules, 0, 1.0
    held = False
    for share in np.linspace(0.0, 1.0, _SHARES + 1):
        tried = _moved(rules, float(share), limit.floor)
        count = _missed_groups(reached, group, tried, class_names)
        tried_bound = upper_bound(count, cases, limit.confidence)
        if share == 0.0 or tried_bound <= limit.rate:
            chosen, missed, bound = tried, count, tried_bound
        if tried_bound > limit.rate:
            break
        held = True
    # (3) what would have been needed
    needed = _needed(limit, missed)
    return chosen, MissReport(limit.rate, limit.confidence, cases, missed, bound, held, needed)


def _needed(limit: MissLimit, missed: int) -> int:
    try:
        return min(cases_needed(limit.rate, limit.confidence, missed), MOST_CASES)
    except ValueError:
        # A rate so small that nobody can ever show it is a poor wish, and no reason to judge nothing.
        return MOST_CASES


def _moved(rules: DecisionRules, share: float, floor: float) -> DecisionRules:
    """Return rules with thresholds for unsure between the floor (0) and those given (1)."""
    classes = tuple(
        rule.model_copy(update={"unsure_at": _between(min(floor, rule.unsure_at), rule.unsure_at, share)})
        for rule in rules.classes
    )
    return rules.model_copy(update={"classes": classes})


def _between(low: float, high: float, share: float) -> float:
    # Rounded down: a threshold must not be higher than the one that was counted with.
    return math.floor((low + (high - low) * share) * 1e4) / 1e4


def _bad_parts(
    frames: Sequence[Shown], rules: DecisionRules, class_names: Sequence[str]
) -> tuple[Doubles, np.typing.NDArray[np.str_]]:
    """Return the confidence that each class reaches in enough frames of each bad part, and the parts' groups.

    One row a part, one column a class; 0 where nothing was found.
    """
    best: dict[str, list[Doubles]] = {}
    bad: dict[str, bool] = {}
    group_of: dict[str, str] = {}
    for one in frames:
        known, truth = one.truth.known_part(one.found), one.truth
        seen = known.select(counting_rows((known.xyxy, known.class_id), rules, class_names, one.view))
        strongest = np.zeros(len(class_names), np.float64)
        np.maximum.at(strongest, seen.class_id, seen.confidence)
        best.setdefault(one.part_id, []).append(strongest)
        there = counting_rows((truth.xyxy, truth.class_id), rules, class_names, one.view)
        bad[one.part_id] = bad.get(one.part_id, False) or bool(there.any())
        group_of.setdefault(one.part_id, one.group)
    parts = [part_id for part_id, is_bad in bad.items() if is_bad]
    rows = [_in_enough_frames(np.stack(best[part_id]), rules.min_frames) for part_id in parts]
    reached = np.array(rows, np.float64).reshape(len(parts), len(class_names))
    return reached, np.array([group_of[part_id] for part_id in parts], str)


def _in_enough_frames(confidence: Doubles, min_frames: int) -> Doubles:
    """Return what each class (columns) reaches in so many frames (rows), or in all if there are fewer."""
    wanted = min(min_frames, len(confidence))
    row: Doubles = np.sort(confidence, axis=0)[len(confidence) - wanted]
    return row


def _missed_groups(
    reached: Doubles, group: np.typing.NDArray[np.str_], rules: DecisionRules, class_names: Sequence[str]
) -> int:
    by_name: dict[str, ClassRule] = {rule.name: rule for rule in rules.classes}
    # As the decision compares: in float32, and nothing found reaches no threshold.
    at = np.asarray([by_name[name].unsure_at for name in class_names], np.float32)
    at = np.maximum(at, np.finfo(np.float32).tiny)
    is_missed = ~(reached.astype(np.float32) >= at).any(axis=1)
    return len(np.unique(group[is_missed]))
