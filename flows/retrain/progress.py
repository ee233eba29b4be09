"""Say in words and tables how a run goes: pure, for artifacts, the command line and the demo."""

from __future__ import annotations

from collections.abc import Sequence

from fleet_contracts.judging import GateReport
from fleet_contracts.training import RunEvent, TrainPlan


def share_done(plan: TrainPlan, events: Sequence[RunEvent]) -> float:
    """Return how much of a run's epochs are done, in per cent; the export after them counts one more."""
    epochs = sum(stage.epochs for stage in plan.stages)
    done = max((event.epoch for event in events if event.kind == "epoch"), default=0)
    exported = any(event.kind in ("exported", "finished") for event in events)
    return round(100.0 * min(1.0, (done + exported) / (epochs + 1)), 1)


def gate_table(report: GateReport) -> str:
    """Return a verdict as Markdown: every rule with what it expected and got."""
    rows = ["| rule | verdict | expected | got | |", "|---|---|---|---|---|"]
    rows += [
        f"| {one.rule} | {'pass' if one.passed else '**fail**'} | {one.expected} | {one.got} | {one.detail} |"
        for one in report.findings
    ]
    verdict = "promoted" if report.promoted else "refused"
    return f"# {report.candidate_id}: {verdict}\n\n" + "\n".join(rows) + "\n"


def event_line(event: RunEvent) -> str:
    """Return one line about an event."""
    losses = event.data.get("losses")
    named = losses.items() if isinstance(losses, dict) else ()
    told = " ".join(f"{name}={value:.3f}" for name, value in named if isinstance(value, float))
    return f"{event.number:04d} {event.kind} epoch {event.epoch} {told}".rstrip()
