"""Hold the reading of label text to its rules: five numbers, a known class, inside the image."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_contracts.samples import BoxLabel
from flows.errors import LabelsRefused
from flows.labels.yolo_text import FrameSize, read_yolo, write_yolo

SIZE = FrameSize(640, 480)


def _read(text: str, classes: int = 3) -> tuple[BoxLabel, ...]:
    return read_yolo(text, SIZE, class_count=classes, where="a.txt")


def test_good_lines_are_read() -> None:
    """Each line is one box; blank lines and Windows line ends do not matter."""
    boxes = _read("0 0.5 0.5 0.2 0.1\r\n\r\n2 0.25 0.75 0.1 0.1\n")
    assert [(box.class_id, box.cx, box.cy) for box in boxes] == [(0, 0.5, 0.5), (2, 0.25, 0.75)]


def test_an_empty_text_says_nothing_is_there() -> None:
    """An empty file is a label, not a mistake."""
    assert _read("") == ()
    assert _read("\n \n") == ()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("0 0.5 0.5 0.2", "4 fields"),
        ("0 0.5 0.5 0.2 0.1 0.9", "6 fields"),
        ("cat 0.5 0.5 0.2 0.1", "whole number"),
        ("0 0.5 x 0.2 0.1", "numbers"),
        ("0 0.5 nan 0.2 0.1", "finite"),
        ("0 0.5 inf 0.2 0.1", "finite"),
        ("3 0.5 0.5 0.2 0.1", "0 to 2"),
        ("-1 0.5 0.5 0.2 0.1", "0 to 2"),
        ("0 0.5 0.5 0 0.1", "area"),
        ("0 0.5 0.5 0.2 -0.1", "area"),
        ("0 0.5 0.5 1e-18 0.1", "area"),
        ("0 0.95 0.5 0.2 0.1", "inside the image"),
        ("0 0.5 0.0 0.2 0.1", "inside the image"),
        ("0 7 7 0.1 0.1", "inside the image"),
    ],
)
def test_bad_lines_are_refused_with_file_and_line(line: str, words: str) -> None:
    """The message names file, line, what was expected and what was found."""
    with pytest.raises(LabelsRefused) as caught:
        _read(f"0 0.5 0.5 0.2 0.1\n{line}\n")
    assert "a.txt line 2" in str(caught.value)
    assert words in str(caught.value)


def test_a_pixel_over_the_edge_is_cut_back() -> None:
    """Tools round: up to one pixel outside is cut back to the edge, more is refused."""
    over = 1.0 / SIZE.width
    (box,) = _read(f"0 {1 - 0.1 + over * 0.99:.8f} 0.5 0.2 0.1")
    assert box.cx + box.width / 2 == pytest.approx(1.0)
    assert box.cx - box.width / 2 == pytest.approx(0.8 + over * 0.99)
    with pytest.raises(LabelsRefused):
        _read(f"0 {1 - 0.1 + over * 1.5:.8f} 0.5 0.2 0.1")


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2),
            st.floats(0.1, 0.9),
            st.floats(0.1, 0.9),
            st.floats(0.01, 0.2),
            st.floats(0.01, 0.2),
        ),
        max_size=8,
    )
)
def test_what_is_written_is_read_back(rows: list[tuple[int, float, float, float, float]]) -> None:
    """Writing and reading again gives the same boxes to six digits."""
    boxes = tuple(BoxLabel(class_id=c, cx=x, cy=y, width=w, height=h) for c, x, y, w, h in rows)
    again = _read(write_yolo(boxes))
    assert len(again) == len(boxes)
    for one, other in zip(again, boxes, strict=True):
        assert one.class_id == other.class_id
        assert one.cx == pytest.approx(other.cx, abs=2e-6)
        assert one.width == pytest.approx(other.width, abs=2e-6)


@given(
    st.tuples(
        st.floats(-0.01, 1.01), st.floats(-0.01, 1.01), st.floats(1e-320, 1.01), st.floats(1e-320, 1.01)
    )
)
def test_a_line_gives_a_valid_box_or_is_refused(row: tuple[float, float, float, float]) -> None:
    """No five numbers whatsoever end in another error."""
    try:
        (box,) = _read("0 " + " ".join(repr(value) for value in row))
    except LabelsRefused:
        return
    assert box.width > 0
    assert box.height > 0
