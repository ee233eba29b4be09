"""Where in the frame findings count, and parts that are judged frame by frame."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from detection.decision import Decision, FrameView, PartJudge, decide_part
from detection.detections import Detections
from detection.errors import RulesError
from detection.regions import RegionMask
from fleet_contracts.samples import ClassRule, DecisionRules, Region
from tests.detection.builders import detections

NAMES = ("scratch", "missing")
SIZE = (200, 100)
LEFT = Region(name="left", polygon=((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0)))
RIGHT = Region(name="right", polygon=((0.5, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 1.0)))
CLAMP = Region(name="clamp", kind="exclude", polygon=((0.1, 0.2), (0.3, 0.2), (0.3, 0.6), (0.1, 0.6)))


def rules(*regions: Region, min_frames: int = 1, min_area: float = 0.0) -> DecisionRules:
    """Build rules with regions: scratch 0.7 / 0.3, missing 0.5 / 0.2."""
    return DecisionRules(
        classes=(
            ClassRule(name="scratch", reject_at=0.7, unsure_at=0.3, min_area_px=min_area),
            ClassRule(name="missing", reject_at=0.5, unsure_at=0.2),
        ),
        min_frames=min_frames,
        regions=regions,
    )


def at(x: float, y: float, confidence: float = 0.9) -> Detections:
    """Build a frame with one box of 10 by 10 pixels around a point."""
    return detections((x - 5, y - 5, x + 5, y + 5, confidence, 0))


def verdict(found: Detections, *regions: Region, camera: str = "") -> str:
    """Judge one frame of 200 by 100 pixels."""
    return decide_part([found], rules(*regions), NAMES, frame_size=SIZE, camera=camera).verdict


def test_a_box_counts_by_its_centre() -> None:
    """Most of it may lie outside, as long as its centre does not."""
    assert verdict(at(98, 50), LEFT) == "reject"
    assert verdict(at(102, 50), LEFT) == "accept"
    assert verdict(at(102, 50), LEFT, RIGHT) == "reject"


def test_an_excluded_region_wins() -> None:
    """Within an included region a clamp can be left out, and an exclusion alone leaves the rest in."""
    assert verdict(at(40, 40), LEFT, CLAMP) == "accept"
    assert verdict(at(40, 70), LEFT, CLAMP) == "reject"
    assert verdict(at(40, 40), CLAMP) == "accept"
    assert verdict(at(150, 40), CLAMP) == "reject"


def test_a_region_may_hold_for_one_camera() -> None:
    """Another camera's region has no say, so without one of its own a camera's whole frame counts."""
    top = LEFT.model_copy(update={"camera": "top"})
    assert verdict(at(150, 50), top, camera="top") == "accept"
    assert verdict(at(150, 50), top, camera="side") == "reject"
    assert verdict(at(150, 50), top) == "reject"


def test_regions_without_a_frame_size_are_refused() -> None:
    """Nobody can say where a box lies in a frame of unknown size: an error, never an accept."""
    for size in (None, (0, 0)):
        with pytest.raises(RulesError, match="width and height"):
            decide_part([at(1, 1)], rules(LEFT), NAMES, frame_size=size)
    assert decide_part([at(1, 1)], rules(), NAMES).verdict == "reject"


def test_neighbouring_regions_leave_no_gap_and_no_overlap() -> None:
    """A centre on the side that two regions share belongs to exactly one of them."""
    boxes = at(100, 50).xyxy
    inside = [bool(RegionMask([region], "").inside(boxes, SIZE)[0]) for region in (LEFT, RIGHT)]
    assert sorted(inside) == [False, True]


@pytest.mark.parametrize(
    ("polygon", "problem"),
    [
        (((0.1, 0.1), (0.9, 0.9)), "at least 3"),
        (((0.1, 0.1), (0.5, 0.5), (0.9, 0.9)), "no area"),
        (((0.1, 0.1), (0.9, 0.9), (0.9, 0.1), (0.1, 0.9)), "sides 1 and 3 cross"),
        (((0.1, 0.1), (0.9, 0.1), (0.9, 0.9), (0.1, 0.1)), "named twice"),
        (((0.1, 0.1), (1.5, 0.1), (0.9, 0.9)), "less than or equal to 1"),
        (((0.1, 0.1), (float("nan"), 0.1), (0.9, 0.9)), "finite"),
    ],
)
def test_a_polygon_that_says_nothing_is_refused(
    polygon: tuple[tuple[float, float], ...], problem: str
) -> None:
    """The error says what is wrong with the corners."""
    with pytest.raises(ValidationError, match=problem):
        Region(name="bad", polygon=polygon)


def test_regions_have_different_names() -> None:
    """Two regions of one name could not be told apart in a report."""
    with pytest.raises(ValidationError, match="names must differ"):
        rules(LEFT, LEFT)


CORNERS = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 10)), min_size=3, max_size=8, unique=True)


@given(CORNERS, st.lists(st.tuples(st.integers(0, 19), st.integers(0, 9)), min_size=1, max_size=20))
def test_the_mask_agrees_with_opencv(corners: list[tuple[int, int]], cells: list[tuple[int, int]]) -> None:
    """For any simple polygon and points off its sides, even-odd and `pointPolygonTest` say the same."""
    try:
        region = Region(name="any", polygon=tuple((x / 20, y / 10) for x, y in corners))
    except ValidationError:
        return
    points = [(x + 0.37, y + 0.61) for x, y in cells]
    outline = np.asarray(corners, np.float32).reshape(-1, 1, 2)
    expected = [cv2.pointPolygonTest(outline, point, measureDist=True) for point in points]
    boxes = np.asarray([(x - 0.1, y - 0.1, x + 0.1, y + 0.1) for x, y in points], np.float32)
    got = RegionMask([region], "").inside(boxes, (20, 10))
    for distance, inside in zip(expected, got.tolist(), strict=True):
        assert abs(distance) < 1e-4 or inside == (distance > 0)


BOX = st.tuples(
    st.integers(0, 190), st.integers(0, 90), st.integers(1, 10), st.floats(0, 1, width=32), st.integers(0, 1)
)
FRAMES = st.lists(st.lists(BOX, max_size=4), max_size=8)


@given(FRAMES, st.integers(1, 3), st.sampled_from([(), (LEFT,), (LEFT, CLAMP), (CLAMP,)]))
def test_judging_frame_by_frame_is_judging_the_whole(
    parts: list[list[tuple[int, int, int, float, int]]], min_frames: int, regions: tuple[Region, ...]
) -> None:
    """After every frame the incremental verdict is the whole one's, and both are the rules' plain reading."""
    chosen = rules(*regions, min_frames=min_frames, min_area=20.0)
    frames = [
        detections(*((x, y, x + side, y + side, score, kind) for x, y, side, score, kind in boxes))
        for boxes in parts
    ]
    judge = PartJudge(chosen, NAMES)
    assert judge.decision == Decision("unsure")
    for count, found in enumerate(frames, 1):
        decision = judge.add(found, FrameView(SIZE, "cam"))
        assert decision == decide_part(frames[:count], chosen, NAMES, frame_size=SIZE, camera="cam")
        assert decision.verdict == _by_hand(parts[:count], chosen)


def _by_hand(parts: list[list[tuple[int, int, int, float, int]]], chosen: DecisionRules) -> str:
    """Read the rules box by box, without arrays."""
    needs = min(chosen.min_frames, len(parts))
    rules_by_id = [next(rule for rule in chosen.classes if rule.name == name) for name in NAMES]
    for level in ("reject_at", "unsure_at"):
        for kind, rule in enumerate(rules_by_id):
            floor = np.float32(getattr(rule, level))
            showing = sum(
                any(
                    box[4] == kind and 0 < box[3] >= floor and box[2] ** 2 >= rule.min_area_px
                    and _counts(box[0] + box[2] / 2, box[1] + box[2] / 2, chosen)
                    for box in boxes
                )
                for boxes in parts
            )  # fmt: skip
            if showing >= needs:
                return "reject" if level == "reject_at" else "unsure"
    return "accept"


def _counts(x: float, y: float, chosen: DecisionRules) -> bool:
    within = {}
    for region in chosen.regions:
        xs, ys = zip(*region.polygon, strict=True)
        within[region.name] = min(xs) <= x / SIZE[0] < max(xs) and min(ys) <= y / SIZE[1] < max(ys)
    included = [region.name for region in chosen.regions if region.kind == "include"]
    excluded = [region.name for region in chosen.regions if region.kind == "exclude"]
    return (not included or any(within[name] for name in included)) and not any(
        within[name] for name in excluded
    )


def test_a_long_part_costs_no_more_per_frame_than_a_short_one() -> None:
    """The thousandth frame of a part is judged by the same few array operations as the first."""
    judge = PartJudge(rules(LEFT, CLAMP, min_frames=3), NAMES)
    for _ in range(1000):
        decision = judge.add(at(40, 70), FrameView(SIZE))
    assert decision.findings[0].frames == 1000
    assert not hasattr(judge, "__dict__")
