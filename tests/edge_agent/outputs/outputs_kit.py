"""Build outputs, workers and decided parts for the tests of outputs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from detection.decision import Decision
from edge_agent.counters import Counters
from edge_agent.events import Events
from edge_agent.outputs.base import Output, Shot, Write
from edge_agent.outputs.choose import open_output
from edge_agent.outputs.sorter import LoopSigns, Sorter, build_sorter
from edge_agent.parts import FinishedPart
from edge_agent.settings.outputs import AnyOutput, Outputs
from fleet_contracts.base import utc_now
from fleet_contracts.samples import Verdict
from tests.edge_agent.builders import config_of
from tests.helpers import wait_until

QUICK = {"recover_ms": 50, "failsafe_after_ms": 100, "reconnect_max_s": 0.3, "late_ok_ms": 5000}
SHOT = Shot("P1", "cam0", "reject", 1, utc_now(), 0.0)


def outputs_of(*tables: dict[str, Any]) -> tuple[AnyOutput, ...]:
    """Read outputs as the configuration does."""
    return TypeAdapter(Outputs).validate_python(tables)


def part_of(verdict: Verdict, part_id: str = "P1", *, age_s: float = 0.0) -> FinishedPart:
    """Build a decided part whose picture was taken so long ago."""
    return FinishedPart(
        part_id, Decision(verdict), (), 1, camera="cam0", captured_mono=time.monotonic() - age_s
    )


def shot_of(verdict: Verdict, due: float, number: int = 1) -> Shot:
    """Build a part that is due at a moment."""
    return replace(SHOT, verdict=verdict, due_mono=due, number=number)


class Line:
    """Be a sorter with its notes."""

    def __init__(
        self,
        folder: Path,
        outputs: Sequence[AnyOutput],
        opener: Callable[[AnyOutput], Output],
        silent_s: Callable[[], float] | None = None,
    ) -> None:
        config = config_of(folder).model_copy(update={"outputs": tuple(outputs)})
        self.counters, self.events = Counters(), Events()
        self.signs = Signs()
        loop_signs = LoopSigns(self.signs, lambda: self.signs.serving, silent_s)
        self.sorter: Sorter = build_sorter(config, self.counters, self.events, loop_signs, opener)

    def healthy(self, *names: str) -> None:
        """Wait until outputs (all, if none is named) may be relied on."""
        wanted = set(names) or {worker.name for worker in self.sorter.workers}
        wait_until(
            lambda: all(one.state == "healthy" for one in self.sorter.status() if one.name in wanted),
            10,
            f"{sorted(wanted)} to be healthy, problems {self.events.problems()}",
        )

    def counted(self, name: str, what: str) -> int:
        """Return how often something was counted for an output."""
        return self.counters.value(f"output.{name}.{what}")


class Signs:
    """Be a loop that turns for as long as nobody says otherwise; stands for the heartbeat."""

    def __init__(self) -> None:
        self.serving = True
        self.beats = 1
        self.engine_since_mono = 0.0
        self._stopped_at: float | None = None

    @property
    def last_beat_mono(self) -> float:
        """Return when it last turned."""
        return self._stopped_at or time.monotonic()

    @last_beat_mono.setter
    def last_beat_mono(self, moment: float) -> None:
        self._stopped_at = moment

    def hang(self) -> None:
        """Stop turning, within an engine call."""
        self.engine_since_mono = time.monotonic()

    def go_on(self) -> None:
        """Turn again."""
        self.engine_since_mono = 0.0


@contextmanager
def running_line(
    folder: Path, outputs: Sequence[AnyOutput], opener: Callable[[AnyOutput], Output] = open_output
) -> Iterator[Line]:
    """Run a sorter for the length of a test."""
    line = Line(folder, outputs, opener)
    line.sorter.start()
    try:
        yield line
    finally:
        line.sorter.stop(3.0)


def write(point: str, value: int = 1) -> Write:
    """Build a write of a part."""
    return Write(point, value, SHOT)  # type: ignore[arg-type]
