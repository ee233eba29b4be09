"""Test what is planned, compared and written, on made-up blocks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench.edge_parts.children import Block
from bench.edge_parts.figures import agreement, scenario_figures
from bench.edge_parts.plan import BARE, LOOP, PREDICT, ROBOFLOW, Asked, Scenario, plan_of
from bench.edge_parts.report import BEGIN, END, Results, markdown
from bench.edge_parts.rounds import Measured
from bench.reporting import put_between
from tests.helpers import ROOT

MACHINE: dict[str, object] = {
    "date": "2026-11-21", "cpu": "a processor", "cpu_family_model": "6/1", "mhz": "2500", "cores": 2, "virtual": True,
    "memory_gib": 24.0, "governor": "not told", "kernel": "6.1", "python": "3.11", "versions": {"onnxruntime": "1"},
    "load_at_start": 0.1,
}  # fmt: skip
BOX = [10.0, 10.0, 50.0, 60.0, 0.9, 1.0]


def measured_of(**ms: float) -> Measured:
    """Make two rounds in which every contender takes the same time for every frame."""
    scenario = Scenario(320, 1, {BARE: 1, LOOP: 1, PREDICT: 1, ROBOFLOW: 1}, 2, 4)
    told = {"stages": {"wait": [0.0, 9.0], "engine": [9.0, 9.5]}, "kept": 0}
    blocks = {name: Block([time] * 4, 0.0, told) for name, time in ms.items()}
    facts = {
        name: {"peak_rss_mb": 100.0, "dropped": 0, "inspected": 24, "kept": 0, "mined": {}, "lost": 0}
        for name in ms
    }
    found = {name: [[BOX]] for name in (LOOP, PREDICT)}
    return Measured(scenario, [dict(blocks), dict(blocks)], found, facts, {ROBOFLOW: "not installed"})


def test_rounds_go_there_and_back() -> None:
    """A steady drift favours nobody, and neighbours stay neighbours."""
    scenario = Scenario(320, 1, {BARE: 1, LOOP: 1, ROBOFLOW: 3}, 10, 200)
    assert [scenario.order(number) for number in range(4)] == [
        (BARE, LOOP, ROBOFLOW), (LOOP, BARE), (BARE, LOOP), (ROBOFLOW, LOOP, BARE),
    ]  # fmt: skip


def test_a_full_run_fits_into_an_hour_and_a_quick_one_into_a_minute() -> None:
    """The plan itself, without the exports; and only what was asked for is planned."""
    assert 30 * 60 < plan_of(Asked()).seconds() < 60 * 60
    assert plan_of(Asked(sizes=(320,), quick=True)).seconds() < 60
    only = plan_of(Asked(only=("tails",)))
    assert (only.scenarios, only.growth, only.sizes) == ((), None, (320,))
    assert [tails.size for tails in plan_of(Asked(full=True)).tails] == [320, 640]


def test_figures_of_a_scenario_are_told_by_name() -> None:
    """Overhead is a difference of times; the share is one of frames per second."""
    told = scenario_figures(measured_of(bare=10.0, loop=10.5, predict=12.0))
    assert told["edge.share_320"].mid == pytest.approx(10 / 10.5)
    assert told["edge.overhead_ms_320"].mid == pytest.approx(0.5)
    assert told["edge.overhead_vs_ultralytics_320"].mid == pytest.approx(0.25)


def test_the_report_names_a_peer_that_could_not_be_measured() -> None:
    """A missing row would look like a peer nobody thought of."""
    measured = measured_of(bare=10.0, loop=10.5, predict=12.0)
    report = markdown(Results(MACHINE, "drawn", [measured], figures=scenario_figures(measured)))
    assert "Roboflow inference | not measured: not installed" in report
    assert "| `edge.share_320` | 0.9524 | 0.9524 to 0.9524 | at least 0.97 | **no** |" in report
    assert "wait" not in report, "between blocks the loop waits for the bench"
    assert "not quiet" not in report


def test_the_report_replaces_only_what_stands_between_its_markers(tmp_path: Path) -> None:
    """What people wrote around it stays; a document without both markers is refused and left as it is."""
    document = tmp_path / "page.md"
    document.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    put_between(document, (BEGIN, END), "new\n")
    assert document.read_text() == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"
    document.write_text("before\nafter\n")
    with pytest.raises(ValueError, match="expected the lines"):
        put_between(document, (BEGIN, END), "new")
    assert document.read_text() == "before\nafter\n"


def test_detections_are_paired_by_class_and_place() -> None:
    """A shifted box is measured, a box of another class or elsewhere has no counterpart."""
    shifted = [10.5, 10.0, 50.0, 60.0, 0.88, 1.0]
    told = agreement([[BOX], []], [[shifted], []])
    assert (told.boxes, told.alone, told.worst_px) == (1, 0, 0.5)
    assert told.worst_score == pytest.approx(0.02)
    assert agreement([[BOX]], [[[*BOX[:5], 2.0]]]).alone == 2
    assert agreement([[BOX]], [[]]).alone == 1


@pytest.mark.parametrize("path", sorted((ROOT / "bench" / "results").glob("*.json")), ids=lambda path: path.name)
def test_results_name_no_folder_of_the_machine(path: Path) -> None:
    """They are kept with the code, and measured wherever somebody has it."""
    assert str(ROOT) not in path.read_text()
    assert re.findall(r'"/[^"]*"', path.read_text()) == []
