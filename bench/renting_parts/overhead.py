"""Tell the measured beginnings as Markdown and as figures; pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from demo.loop.settings import LoopSettings
from demo.report.overhead import CLOUD, MACHINE

BEGIN, END = "<!-- bench-overhead: begin -->", "<!-- bench-overhead: end -->"
Figures = dict[str, Any]


def markdown(runs: Sequence[Figures]) -> str:
    """Return the table: each part in every run, whose it is, and what they come to."""
    images = LoopSettings().training
    head = ["part", "whose", *(f"run {number + 1}" for number in range(len(runs)))]
    lines = [
        f"{runs[-1]['machine']}, {runs[-1]['date'][:10]}; load when each run began: "
        f"{', '.join(str(run['load']) for run in runs)}. "
        f"About {images.threshold + images.replay_images} training images. Seconds.",
        "",
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
    ]
    for name, what, whose in (*CLOUD, *MACHINE):
        lines.append(_row(what, whose, [run.get(f"rent.beginning.{name}_s") for run in runs]))
    lines.append(
        _row("**overhead of our own** `rent.overhead_s`", "", [run["rent.overhead_s"] for run in runs])
    )
    return "\n".join(lines)


def figures_of(runs: Sequence[Figures]) -> Figures:
    """Return the worst overhead, and every run's parts."""
    each = {
        f"run_{number + 1}.{name}": value
        for number, run in enumerate(runs)
        for name, value in run.items()
        if name == "load" or name.startswith("rent.beginning.")
    }
    worst = max(float(run["rent.overhead_s"]) for run in runs)
    return {"rent.overhead_s": worst, **each, "machine": runs[-1]["machine"], "date": runs[-1]["date"]}


def _row(what: str, whose: str, seconds: list[float | None]) -> str:
    told = ["-" if one is None else f"{one:.1f}" for one in seconds]
    return f"| {what} | {whose} | {' | '.join(told)} |"
