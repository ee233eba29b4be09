"""Hold grouping to its rules: near-duplicates and bursts together, and never a whole product in one group."""

from __future__ import annotations

import csv
from collections import Counter
from datetime import timedelta

import cv2
import numpy as np
import pytest

from flows.looks import look_of
from flows.snapshots.groups import MAX_BURST, MAX_GROUP, GroupItem, Seen, group_samples
from tests.flows.kit import START
from tests.helpers import shared_data

Picture = np.ndarray


def _scene(seed: int, size: int = 320) -> Picture:
    rng = np.random.default_rng(seed)
    return cv2.resize(
        rng.integers(0, 255, (20, 20), dtype=np.uint8), (size, size), interpolation=cv2.INTER_CUBIC
    )


def _item(name: str, image: Picture, *, seconds: float, part: str | None = None) -> GroupItem:
    seen = Seen("box-1", "top", START + timedelta(seconds=seconds), part or f"part-{name}")
    return GroupItem(name, look_of(image), (seen,))


def _sizes(groups: dict[str, str]) -> list[int]:
    return sorted(Counter(groups.values()).values(), reverse=True)


def test_near_duplicates_are_one_group() -> None:
    """Noise, exposure, another JPEG quality and a shift by two pixels do not make another picture."""
    scene = _scene(1)
    rng = np.random.default_rng(0)
    noisy = np.clip(scene + rng.normal(0, 6, scene.shape), 0, 255).astype(np.uint8)
    again = cv2.imdecode(cv2.imencode(".jpg", scene, [cv2.IMWRITE_JPEG_QUALITY, 50])[1], cv2.IMREAD_GRAYSCALE)
    darker = np.clip(scene * 0.85, 0, 255).astype(np.uint8)
    shifted = np.roll(scene, 2, axis=1)
    pictures = [scene, noisy, again, darker, shifted]
    items = [_item(f"a{at}", one, seconds=3600 * at) for at, one in enumerate(pictures)]
    items += [_item(f"b{at}", _scene(at + 50), seconds=3600 * at) for at in range(10)]
    groups = group_samples(items)
    assert len({groups[f"a{at}"] for at in range(len(pictures))}) == 1
    assert _sizes(groups) == [len(pictures)] + [1] * 10


def test_frames_of_one_part_are_one_group_whatever_they_look_like() -> None:
    """Two views of one part never land on both sides of a split."""
    items = [_item(f"v{at}", _scene(at), seconds=60 * at, part="plate-7") for at in range(4)]
    assert _sizes(group_samples(items)) == [4]


def test_a_burst_of_one_scene_is_one_group() -> None:
    """Frames within a second that look alike belong together; an hour later they do not."""
    scene = _scene(1)
    moved = [np.roll(scene, 6 * at, axis=1) for at in range(4)]
    burst = [_item(f"a{at}", one, seconds=0.3 * at) for at, one in enumerate(moved)]
    assert _sizes(group_samples(burst)) == [4]
    apart = [_item(f"a{at}", np.roll(scene, 40 * at, axis=1), seconds=3600 * at) for at in range(4)]
    assert _sizes(group_samples(apart)) == [1, 1, 1, 1]


def test_different_scenes_within_a_second_stay_apart() -> None:
    """A fast line shows another part every frame; time alone does not chain them."""
    items = [_item(f"a{at}", _scene(at), seconds=0.2 * at) for at in range(30)]
    assert _sizes(group_samples(items)) == [1] * 30


def test_a_line_that_never_stops_is_cut_into_pieces() -> None:
    """A stream of slowly changing frames does not become one group of everything."""
    rng = np.random.default_rng(3)
    image = _scene(1).astype(np.float64)
    items = []
    for at in range(200):
        image += cv2.resize(rng.normal(0, 30, (20, 20)), image.shape[::-1], interpolation=cv2.INTER_CUBIC)
        image = np.clip(image, 0, 255)
        items.append(_item(f"a{at:03d}", image.astype(np.uint8), seconds=0.2 * at))
    sizes = _sizes(group_samples(items))
    assert sizes[0] <= max(MAX_BURST, MAX_GROUP)
    assert sizes[0] > 1, "neighbours in the stream do look alike"


def test_parts_that_all_look_alike_do_not_become_one_group() -> None:
    """On a fixture a hash says little: a cluster too large is taken apart, equal hashes stay together."""
    fixture = _scene(1, 480)
    items = []
    for at in range(120):
        rng = np.random.default_rng(at)
        part = fixture.copy()
        x, y = rng.integers(20, 400, 2)
        cv2.line(part, (int(x), int(y)), (int(x) + 60, int(y) + 40), int(rng.integers(0, 255)), 5)
        noisy = np.clip(part + rng.normal(0, 4, part.shape), 0, 255).astype(np.uint8)
        items.append(_item(f"a{at:03d}", noisy, seconds=60.0 * at))
    groups = group_samples(items)
    by_look = Counter(item.look for item in items)
    assert len(set(groups.values())) >= 20
    assert _sizes(groups)[0] <= max(MAX_GROUP, max(by_look.values()))
    for look in by_look:
        assert len({groups[item.sample_id] for item in items if item.look == look}) == 1


def test_grouping_does_not_depend_on_the_order() -> None:
    """The same samples in any order give the same group ids."""
    items = [_item(f"a{at}", _scene(at // 3), seconds=0.4 * at) for at in range(30)]
    assert group_samples(items) == group_samples(items[::-1])


def test_nothing_is_grouped_into_nothing() -> None:
    """No samples, no groups."""
    assert group_samples([]) == {}


@pytest.mark.parametrize("split", ["base_train", "new_pool"])
def test_real_boards_are_not_chained_together(split: str) -> None:
    """On real boards, run through a line at ten frames a second, no group swallows a board."""
    folder = shared_data("data/deeppcb")
    with (folder / "samples.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == split][:240]
    items, board_of = [], {}
    for at, row in enumerate(rows):
        image = cv2.imread(str(folder / "images" / f"{row['stem']}.jpg"), cv2.IMREAD_GRAYSCALE)
        assert image is not None
        items.append(_item(row["stem"], image, seconds=0.1 * at))
        board_of[row["stem"]] = row["board"]
    groups = group_samples(items)
    per_board = Counter(board_of.values())
    for name, size in Counter(groups.values()).items():
        boards = {board_of[stem] for stem, group in groups.items() if group == name}
        assert size <= 0.1 * min(per_board[board] for board in boards)
    assert len(set(groups.values())) >= 0.8 * len(rows)
