"""The simulated line: same seed, same parts; truth that fits the pictures; no half file, ever."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from demo.line.defects import NEW_KIND, add_defect
from demo.line.parts import FRAME, LAYOUTS, fresh_part, layout
from demo.line.render import render
from demo.line.script import ALL_CLASSES, CHANGED, FIRST_CLASSES, KNOWN, MIXES, NOVEL, draw_part
from demo.line.writer import LineOrder, LineWriter, read_order, write_order, yolo_text
from tests.helpers import ROOT, wait_until


def test_same_seed_same_part() -> None:
    """A part is a function of mix, seed and number."""
    first, second = draw_part(CHANGED, 3, 17), draw_part(CHANGED, 3, 17)
    assert np.array_equal(first.image, second.image)
    assert first.truth == second.truth


def test_other_number_other_part() -> None:
    """No two parts of a line are the same picture."""
    pictures = {draw_part(KNOWN, 3, number).image.tobytes() for number in range(20)}
    assert len(pictures) == 20


@pytest.mark.parametrize("name", sorted(MIXES))
def test_truth_lies_in_the_frame(name: str) -> None:
    """Every truth box has an area, lies inside the frame and is of a known kind."""
    for number in range(60):
        for box in draw_part(MIXES[name], 5, number).truth:
            assert 0 <= box.x1 < box.x2 <= FRAME
            assert 0 <= box.y1 < box.y2 <= FRAME
            assert min(box.x2 - box.x1, box.y2 - box.y1) > 8
            assert box.kind in ALL_CLASSES


def test_first_champion_never_sees_the_new_kind() -> None:
    """The known mix has no stain, and its classes are the beginning of the full list."""
    kinds = {box.kind for number in range(150) for box in draw_part(KNOWN, 8, number).truth}
    assert kinds == set(FIRST_CLASSES)
    assert (*FIRST_CLASSES, NEW_KIND) == ALL_CLASSES


def test_most_defects_on_the_changed_line_are_still_old_ones() -> None:
    """What changed is a minority of what comes, so choosing what to label matters."""
    kinds = Counter(box.kind for number in range(300) for box in draw_part(CHANGED, 8, number).truth)
    novel = kinds["scratch"] + kinds[NEW_KIND]
    assert 0.2 < novel / kinds.total() < 0.45
    assert {box.kind for number in range(80) for box in draw_part(NOVEL, 8, number).truth} == {"scratch", NEW_KIND}


@pytest.mark.parametrize(("kind", "look"), [("scratch", "dull"), ("scratch", "bright"), (NEW_KIND, ""),
                                            ("missing", ""), ("misplaced", "")])  # fmt: skip
def test_a_defect_changes_the_picture_inside_its_box_only(kind: str, look: str) -> None:
    """Picture and truth cannot disagree: the pixels that a defect changes lie in its box."""
    for seed in range(12):
        rng = np.random.default_rng(seed)
        part = fresh_part(rng)
        worse = add_defect(part, kind, look, rng)
        good, bad = render(part), render(worse)
        (box,) = bad.truth
        changed = np.abs(good.image.astype(int) - bad.image.astype(int)).max(axis=2) > 12
        rows, columns = np.nonzero(changed)
        assert len(rows) > 8, f"{kind} {look} cannot be seen"
        inside = (columns >= box.x1 - 1) & (columns <= box.x2 + 1) & (rows >= box.y1 - 1) & (rows <= box.y2 + 1)
        # A misplaced part uncovers its own footprint, which may lie a little outside.
        assert inside.mean() > (0.8 if kind == "misplaced" else 0.97)


def test_layouts_are_fixed_products() -> None:
    """A layout is the same in every process, and products differ."""
    assert layout(0) == layout.__wrapped__(0)
    assert len({layout(number) for number in range(LAYOUTS)}) == LAYOUTS


def test_yolo_text_leaves_out_what_the_list_cannot_name() -> None:
    """Label text holds one line a box, as shares, under the class list given."""
    drawn = (draw_part(NOVEL, 4, number) for number in range(100))
    picture = next(one for one in drawn if NEW_KIND in {box.kind for box in one.truth})
    full, first = yolo_text(picture.truth), yolo_text(picture.truth, FIRST_CLASSES)
    assert len(full.splitlines()) == len(picture.truth)
    assert len(first.splitlines()) < len(full.splitlines())
    assert all(0 < float(value) <= 1 for line in full.splitlines() for value in line.split()[1:])


def test_writer_goes_on_after_the_last_part(tmp_path: Path) -> None:
    """A line started again makes the next part, not the same ones again."""
    first = LineWriter(tmp_path / "camera", tmp_path / "truth", name="box-a", seed=1)
    made = [first.make("known") for _ in range(3)]
    again = LineWriter(tmp_path / "camera", tmp_path / "truth", name="box-a", seed=1)
    assert again.make("changed") == "box-a-000003"
    assert made == ["box-a-000000", "box-a-000001", "box-a-000002"]
    assert len(list((tmp_path / "camera").glob("*__0.jpg"))) == 4


def test_bad_order_names_the_file(tmp_path: Path) -> None:
    """An order of a mix that does not exist is refused with the file's name and what exists."""
    write_order(tmp_path / "order.json", LineOrder(mix="nonsense"))
    with pytest.raises(ValueError, match=r"order\.json: expected a mix of .*known.*got 'nonsense'"):
        read_order(tmp_path / "order.json")


def test_killed_line_leaves_no_half_file_and_goes_on(tmp_path: Path) -> None:
    """SIGKILL leaves whole pictures, each with its truth; the line started again continues."""
    order = tmp_path / "order.json"
    write_order(order, LineOrder(parts_per_second=200.0, parts=60))
    command = [sys.executable, "-m", "demo.line", "--out", str(tmp_path), "--name", "box-a", "--seed", "2",
               "--order", str(order)]  # fmt: skip
    camera = tmp_path / "camera"
    line = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"})
    wait_until(lambda: len(list(camera.glob("*.jpg"))) >= 8, 60, "the first parts")
    line.kill()
    assert line.wait() == -signal.SIGKILL, "the kill must have hit a living line"
    before = {path.name: path.read_bytes() for path in camera.glob("[!.]*.jpg")}
    for name, content in before.items():
        assert cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) is not None
        assert (tmp_path / "truth" / f"{name.partition('__')[0]}.txt").is_file()
    assert subprocess.run(command, cwd=ROOT, timeout=120, check=False).returncode == 0
    after = {path.name: path.read_bytes() for path in camera.glob("[!.]*.jpg")}
    assert all(after[name] == content for name, content in before.items())
    # At most the one part whose truth was written and whose picture was not is left out.
    assert len(after) >= 59
