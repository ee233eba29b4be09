"""The table of beginnings: every part has its row in every run, and the worst run is the figure."""

from __future__ import annotations

from bench.renting_parts.overhead import figures_of, markdown
from demo.report.overhead import CLOUD, MACHINE


def run(seconds: float) -> dict[str, object]:
    """Return the figures of a run whose every part took as long."""
    parts = {f"rent.beginning.{name}_s": seconds for name, *_ in (*CLOUD, *MACHINE)}
    return {**parts, "rent.overhead_s": 12 * seconds, "load": 0.5, "machine": "a Xeon", "date": "2026-11-21T12:00:00"}


def test_every_part_is_told_for_every_run() -> None:
    """A part that a run did not tell is a dash, not a zero."""
    second = run(2.0)
    del second["rent.beginning.claim_s"]
    lines = markdown([run(1.0), second]).splitlines()
    rows = [line for line in lines if line.startswith("|")][2:]
    assert len(rows) == len(CLOUD) + len(MACHINE) + 1
    assert "| machine: ticket by the claim | ours | 1.0 | - |" in rows
    assert rows[-1].endswith("| 12.0 | 24.0 |")
    assert "load when each run began: 0.5, 0.5" in lines[0]


def test_the_worst_run_counts() -> None:
    """What is claimed is the slowest beginning that was seen."""
    figures = figures_of([run(1.0), run(3.0), run(2.0)])
    assert figures["rent.overhead_s"] == 36.0
    assert figures["run_2.rent.beginning.event_s"] == 3.0
