"""Show a running demo: a live table on a terminal, and a line for everything that happens.

Where output is not a terminal the table is left out, and a status line is printed now and then.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from demo.loop.glance import Glance

_STATUS_EVERY = 15.0  # seconds


@dataclass(frozen=True, slots=True)
class TrainingGlance:
    """Say how far a training is; 0 epochs is not begun."""

    epoch: int = 0
    epochs: int = 0


class Show:
    """Tell one person what happens; a context manager around the whole demo."""

    def __init__(self, console: Console, devices: tuple[str, ...], threshold: int) -> None:
        """Take where to print, and what the table is about."""
        self._console = console
        self._devices = devices
        self._threshold = threshold
        self._begun = time.monotonic()
        terminal = console.is_terminal
        self._live = Live(console=console, auto_refresh=False, transient=True) if terminal else None
        self._next_status = 0.0

    def __enter__(self) -> Show:
        """Begin to show."""
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Take the live table away; what was noted stays."""
        if self._live:
            self._live.stop()

    def note(self, text: str) -> None:
        """Tell that something happened, with the seconds since the demo began."""
        seconds = time.monotonic() - self._begun
        self._console.print(f"[dim]{seconds:7.1f} s[/dim]  {text}", soft_wrap=True)

    def status(self, glance: Glance, training: TrainingGlance) -> None:
        """Show how things stand."""
        if self._live:
            self._live.update(self._table(glance, training), refresh=True)
        elif time.monotonic() >= self._next_status:
            self._next_status = time.monotonic() + _STATUS_EVERY
            line = status_line(glance, training, self._threshold)
            self._console.print(f"           {line}", highlight=False, soft_wrap=True)

    def _table(self, glance: Glance, training: TrainingGlance) -> Table:
        table = Table(title="whetstone demo", expand=False)
        table.add_column("station")
        table.add_column("now")
        table.add_column("")
        for device in self._devices:
            report = glance.devices.get(device)
            said = "not heard of yet" if report is None else (
                f"{report.state}, release {report.release_version}, {report.frames_inspected} frames, "
                f"{sum(report.kept.values())} kept, {report.outbox_waiting} waiting, "
                f"{report.frames_dropped} dropped"
            )
            table.add_row(device, said, "")
        reasons = ", ".join(f"{count} {name}" for name, count in sorted(glance.reasons.items()))
        table.add_row("catalog", f"{glance.mined} uploaded ({reasons})", "")
        labels = ProgressBar(total=self._threshold, completed=glance.labelled, width=24)
        table.add_row("labels", f"{glance.labelled} verified", labels)
        epochs = ProgressBar(total=training.epochs or 1, completed=training.epoch, width=24)
        table.add_row("run", f"{glance.run.run_id} {glance.run.state}".strip() or "none yet", epochs)
        candidate = glance.candidate.state if glance.candidate else "none yet"
        table.add_row("candidate", candidate, "")
        table.add_row("rollout", glance.rollout_state or "none yet", "")
        return table


def status_line(glance: Glance, training: TrainingGlance, threshold: int) -> str:
    """Put how things stand into one line."""
    boxes = ", ".join(
        f"{name} release {report.release_version} {report.frames_inspected} frames"
        for name, report in sorted(glance.devices.items())
    )
    parts = [boxes or "no box yet", f"{glance.mined} uploaded", f"{glance.labelled}/{threshold} labelled"]
    if training.epochs:
        parts.append(f"epoch {training.epoch}/{training.epochs}")
    if glance.rollout_state:
        parts.append(f"rollout {glance.rollout_state}")
    return " · ".join(parts)
