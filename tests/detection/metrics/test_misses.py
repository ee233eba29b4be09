"""Choose thresholds that hold a miss rate, and hold the choice against decisions counted part by part."""

from __future__ import annotations

import numpy as np
import pytest

from detection.decision import NO_VIEW, FrameView
from detection.detections import Detections
from detection.metrics.bounds import upper_bound
from detection.metrics.matching import GroundTruth
from detection.metrics.misses import MissLimit, MissReport, Shown, hold_miss_rate
from detection.metrics.parts import decide_parts
from fleet_contracts.samples import ClassRule, DecisionRules, Region

NAMES = ("scratch", "missing")
RULES = DecisionRules(classes=(
    ClassRule(name="scratch", reject_at=0.8, unsure_at=0.4), ClassRule(name="missing", reject_at=0.5, unsure_at=0.25),
))  # fmt: skip
BOX = np.array([[10.0, 10.0, 30.0, 30.0]], np.float32)


def found(class_id: int, confidence: float) -> Detections:
    """Return one detection."""
    return Detections(BOX, np.array([confidence], np.float32), np.array([class_id]))


def truth(class_id: int | None) -> GroundTruth:
    """Return a frame with one defect, or none."""
    if class_id is None:
        return GroundTruth(np.empty((0, 4)), np.empty(0), 2)
    return GroundTruth(BOX, np.array([class_id]), 2)


def hold(
    rows: list, groups: list[str], rules: DecisionRules, limit: MissLimit, view: FrameView = NO_VIEW
) -> tuple[DecisionRules, MissReport]:
    """Ask for a limit on frames and the groups beside them."""
    frames = [Shown(part, group, seen, there, view) for (part, seen, there), group in zip(rows, groups, strict=True)]
    return hold_miss_rate(frames, rules, NAMES, limit)


def parts(seed: int, count: int, *, frames: int = 1) -> tuple[list[tuple[str, Detections, GroundTruth]], list[str]]:
    """Return frames of bad and good parts with random confidences, and their groups (some of two parts)."""
    random = np.random.default_rng(seed)
    rows, groups = [], []
    for number in range(count):
        class_id = int(random.integers(2))
        bad = random.random() < 0.7
        for _ in range(frames):
            confidence = float(random.beta(4, 2)) if bad else float(random.beta(1, 12))
            rows.append((f"part-{number}", found(class_id, confidence), truth(class_id if bad else None)))
            groups.append(f"group-{number // 2 if number < count // 2 else number}")
    return rows, groups


def missed_by_hand(rows: list, groups: list[str], rules: DecisionRules) -> tuple[int, int]:
    """Count groups with an accepted bad part, and groups with a bad part, from the decisions themselves."""
    decisions, bad = decide_parts(rows, rules, NAMES)
    names = list(dict.fromkeys(part for part, _, _ in rows))
    group_of = {part: group for (part, _, _), group in zip(rows, groups, strict=True)}
    there = {group_of[name] for name, is_bad in zip(names, bad, strict=True) if is_bad}
    gone = {
        group_of[name]
        for name, is_bad, decision in zip(names, bad, decisions, strict=True)
        if is_bad and decision.verdict == "accept"
    }
    return len(gone), len(there)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("frames", "min_frames"), [(1, 1), (3, 2)])
def test_what_is_chosen_is_counted_as_the_box_decides(seed: int, frames: int, min_frames: int) -> None:
    """Missed groups and their bound are those of the very decisions these rules make; reject stays."""
    rows, groups = parts(seed, 120, frames=frames)
    rules = RULES.model_copy(update={"min_frames": min_frames})
    made, report = hold(rows, groups, rules, MissLimit(0.1))
    assert (report.missed, report.cases) == missed_by_hand(rows, groups, made)
    assert report.bound == upper_bound(report.missed, report.cases, 0.95)
    assert [one.reject_at for one in made.classes] == [one.reject_at for one in rules.classes]
    assert all(new.unsure_at <= old.unsure_at for new, old in zip(made.classes, rules.classes, strict=True))
    if report.held:
        assert report.bound <= 0.1


@pytest.mark.parametrize("seed", range(6))
def test_no_more_careful_than_needed(seed: int) -> None:
    """One step further up, the bound would be above the stated rate: people look at no more than they must."""
    rows, groups = parts(seed, 150)
    made, report = hold(rows, groups, RULES, MissLimit(0.08))
    if not report.held or made == RULES:
        return
    steps = np.linspace(0.0, 1.0, 101)
    of_first = [np.floor((0.05 + 0.35 * step) * 1e4) / 1e4 for step in steps]
    place = int(np.argmin(np.abs(np.array(of_first) - made.classes[0].unsure_at)))
    further = RULES.model_copy(update={"classes": tuple(
        rule.model_copy(update={"unsure_at": 0.05 + (rule.unsure_at - 0.05) * steps[place + 1]}) for rule in RULES.classes
    )})  # fmt: skip
    missed, cases = missed_by_hand(rows, groups, further)
    assert upper_bound(missed, cases, 0.95) > 0.08


def test_too_few_bad_parts_are_said_and_the_safest_is_taken() -> None:
    """Ten bad parts cannot show one in a hundred, however good the model; the report says how many would."""
    rows = [(f"p{number}", found(0, 0.9), truth(0)) for number in range(10)]
    made, report = hold(rows, [f"g{number}" for number in range(10)], RULES, MissLimit(0.01))
    assert not report.held
    assert not report.contradicted
    assert (report.missed, report.cases, report.needed) == (0, 10, 299)
    assert [one.unsure_at for one in made.classes] == [0.05, 0.05]
    assert "299 groups" in report.in_words()
    assert "safest" in report.in_words()


def test_a_model_that_misses_is_contradicted_not_merely_unproven() -> None:
    """Where the data show more missed than stated even with the safest thresholds, more data would not help."""
    rows = [(f"p{number}", found(0, 0.9) if number % 2 else Detections.empty(), truth(0)) for number in range(100)]
    _, report = hold(rows, [str(number) for number in range(100)], RULES, MissLimit(0.05))
    assert report.contradicted
    assert (report.missed, report.held) == (50, False)
    _, unlucky = hold(rows[1::2][:9] + rows[:1], [str(n) for n in range(10)], RULES, MissLimit(0.05))
    assert (unlucky.missed, unlucky.cases, unlucky.held) == (1, 10, False)
    assert not unlucky.contradicted, "one in ten may be chance at one in twenty"


def test_no_bad_parts_show_nothing() -> None:
    """Good parts alone say nothing about misses: the safest thresholds, and what would be needed."""
    rows = [(f"p{number}", Detections.empty(), truth(None)) for number in range(50)]
    made, report = hold(rows, ["g"] * 50, RULES, MissLimit(0.05))
    assert (report.cases, report.held, report.contradicted) == (0, False, False)
    assert report.bound == 1.0
    assert made.classes[0].unsure_at == 0.05


def test_a_group_counts_once() -> None:
    """A burst of twenty frames of one bad part is one case, so it cannot pass for twenty."""
    rows = [(f"p{number}", found(0, 0.9), truth(0)) for number in range(20)]
    _, alone = hold(rows, [str(number) for number in range(20)], RULES, MissLimit(0.2))
    _, together = hold(rows, ["burst"] * 20, RULES, MissLimit(0.2))
    assert (alone.cases, alone.held) == (20, True)
    assert (together.cases, together.held) == (1, False)


def test_what_the_regions_leave_out_is_no_case() -> None:
    """A defect outside the regions makes no part bad, and a detection there catches none."""
    left = Region(name="left", kind="exclude", polygon=((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0)))
    rules = RULES.model_copy(update={"regions": (left,)})
    rows = [(f"p{number}", found(0, 0.9), truth(0)) for number in range(30)]
    _, report = hold(rows, [str(n) for n in range(30)], rules, MissLimit(0.1), FrameView((100, 100)))
    assert report.cases == 0


def test_the_rate_holds_on_parts_not_seen() -> None:
    """Over many lines, thresholds chosen on one sample break the stated rate on the line in at most one of twenty."""
    broken = 0
    lines = 120
    for seed in range(lines):
        random = np.random.default_rng(1000 + seed)
        seen, unseen = random.beta(2.0, 2.0, size=150), random.beta(2.0, 2.0, size=20_000)
        rows = [(str(number), found(0, float(score)), truth(0)) for number, score in enumerate(seen)]
        made, report = hold(rows, [str(n) for n in range(150)], RULES, MissLimit(0.1))
        assert report.held
        broken += float((unseen < made.classes[0].unsure_at).mean()) > 0.1
    assert broken <= 0.05 * lines + 5


@pytest.mark.parametrize("wrong", [{"rate": 0.0}, {"rate": 1.0}, {"rate": 0.1, "confidence": 1.0}])
def test_impossible_limits_are_refused(wrong: dict[str, float]) -> None:
    """A rate of zero cannot be shown by any number of parts."""
    with pytest.raises(ValueError, match="between 0 and 1"):
        MissLimit(**wrong)


def test_a_rate_that_nobody_can_show_is_told_not_raised() -> None:
    """A wish of one in a hundred million with a missed part ends in a verdict, not in an error."""
    rows = [(f"part-{number}", found(0, 0.001 if number == 0 else 0.9), truth(0)) for number in range(20)]
    _, report = hold(rows, [part for part, _, _ in rows], RULES, MissLimit(1e-8))
    assert (report.missed, report.held) == (1, False)
    assert "more than 10000000 groups" in report.in_words()
