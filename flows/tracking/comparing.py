"""Compare runs: pure. One line for each thing, with what every run has there and whether they differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from flows.tracking import words
from flows.tracking.planned import plan_words
from flows.tracking.story import Story, facts_of

Part = Literal["plan", "outcome", "measure"]


@dataclass(frozen=True, slots=True)
class Line:
    """Hold one thing about several runs, in the order the runs were given."""

    part: Part
    name: str
    values: tuple[str, ...]

    @property
    def differs(self) -> bool:
        """Tell whether the runs do not agree."""
        return len(set(self.values)) > 1


def compare(stories: Sequence[Story], now: datetime) -> tuple[Line, ...]:
    """Return what was planned, what came of it, and the gate's measures; every name some run has."""
    facts = [facts_of(story, now) for story in stories]
    plans = [plan_words(story.plan) if story.plan else {} for story in stories]
    measures = [{name: words.number(value) for name, value in one.measures.items()} for one in facts]
    return (
        *_lines("plan", plans),
        *_lines("outcome", [words.summary(one) for one in facts]),
        *_lines("measure", measures),
    )


def _lines(part: Part, runs: Sequence[dict[str, str]]) -> list[Line]:
    names = dict.fromkeys(name for run in runs for name in run)
    return [Line(part, name, tuple(run.get(name) or words.NOTHING for run in runs)) for name in names]
