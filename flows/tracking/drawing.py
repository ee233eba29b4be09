"""Draw runs into one picture: losses, rate, speed, memory, use; rungs and resumes are vertical marks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from flows.tracking import words
from flows.tracking.curves import Curve, Style, fields_of
from flows.tracking.errors import NothingToDraw
from flows.tracking.story import Story, facts_of

_SIZE = (11.0, 6.2)  # inches
_DOTS = 80
_STYLES: dict[Style, str] = {"measured": ".-", "level": "--", "aside": ".:"}
_RUNG, _RESUME = "tab:red", "tab:purple"


def draw(stories: Sequence[Story], path: Path, now: datetime) -> Path:
    """Draw runs into a PNG file and return it; a field nobody measured says so.

    Raises:
        NothingToDraw: no run has an epoch in its record.
    """
    drawn = [story for story in stories if story.record and story.record.epochs]
    if not drawn:
        raise NothingToDraw(
            expected="runs with at least one epoch in their record",
            got=", ".join(story.run_id for story in stories) or "no run",
            where="run.json of each",
            now="A record arrives with the first uploaded checkpoint; see 'whetstone runs list'.",
        )
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    fields = [fields_of(story, alone=len(drawn) == 1) for story in drawn]
    figure = Figure(figsize=_SIZE, dpi=_DOTS, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, title in zip(figure.subplots(2, 3).flat, fields[0], strict=True):
        _field(axes, title, [one[title] for one in fields])
        for story in drawn:
            _marks(axes, story)
    figure.suptitle("; ".join(_title(story, now) for story in drawn), fontsize=9)
    figure.savefig(path, format="png")
    return path


def _field(axes: Any, title: str, runs: Sequence[Sequence[Curve]]) -> None:
    axes.set_title(title, fontsize=9)
    if not any(runs):
        axes.text(0.5, 0.5, "not measured", ha="center", va="center", transform=axes.transAxes, color="grey")
        axes.set_xticks([])
        axes.set_yticks([])
        return
    for number, curves in enumerate(runs):
        # One run has a colour for each curve, several have one for each run.
        colour = {"color": f"C{number}"} if len(runs) > 1 else {}
        for curve in curves:
            look = {"label": curve.name, "linewidth": 1.2, "markersize": 3, **colour}
            axes.plot(curve.epochs, curve.values, _STYLES[curve.style], **look)
    axes.tick_params(labelsize=7)
    axes.set_xlabel("epoch", fontsize=7)
    axes.locator_params(axis="x", integer=True)
    axes.legend(fontsize=6, framealpha=0.6)


def _marks(axes: Any, story: Story) -> None:
    record = story.record
    # A rung is followed by a resume at the same epoch, so each has a half of the field.
    for event in record.rungs if record else ():
        axes.axvline(event.epoch, ymin=0.5, color=_RUNG, linewidth=1.4)
    for event in record.resumes if record else ():
        axes.axvline(event.epoch, ymax=0.5, color=_RESUME, linewidth=1.4)


def _title(story: Story, now: datetime) -> str:
    facts = facts_of(story, now)
    marks = [f"{words.count(len(facts.rungs), 'rung')} (red)"] if facts.rungs else []
    marks += [f"{words.count(facts.resumes, 'resume')} (violet)"] if facts.resumes else []
    return ", ".join([f"{facts.run_id}: {facts.state}", *marks])
