"""Say in words and tables how a run goes: pure, for artifacts, the command line and the demo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fleet_contracts.judging import GateReport
from fleet_contracts.training import RunEvent, TrainPlan
from trainer.gate.explain import explain_formats


def share_done(plan: TrainPlan, events: Sequence[RunEvent]) -> float:
    """Return how much of a run's epochs are done, in per cent; the export after them counts one more."""
    epochs = sum(stage.epochs for stage in plan.stages)
    done = max((event.epoch for event in events if event.kind == "epoch"), default=0)
    exported = any(event.kind in ("exported", "finished") for event in events)
    return round(100.0 * min(1.0, (done + exported) / (epochs + 1)), 1)


def gate_table(report: GateReport) -> str:
    """Return a verdict as Markdown: every rule with what it expected and got, and the number formats."""
    rows = ["| rule | verdict | expected | got | |", "|---|---|---|---|---|"]
    rows += [
        f"| {one.rule} | {'pass' if one.passed else '**fail**'} | {one.expected} | {one.got} | {one.detail} |"
        for one in report.findings
    ]
    verdict = "promoted" if report.promoted else "refused"
    table = f"# {report.candidate_id}: {verdict}\n\n" + "\n".join(rows) + "\n"
    if len(report.variants) <= 1:
        return table
    return f"{table}\n## Number formats\n\n{explain_formats(report.variants)}\n"


def event_line(event: RunEvent) -> str:
    """Return one line about an event."""
    return f"{event.number:04d} {event.kind} epoch {event.epoch} {event_words(event)}".rstrip()


def event_words(event: RunEvent) -> str:
    """Say in plain words what an event tells beside its kind and epoch; "" when that is all."""
    if event.kind == "rung":
        return rung_words(event.data)
    if event.kind in ("watch", "rollback"):
        return "; ".join(str(event.data[name]) for name in ("why", "advice") if event.data.get(name))
    if event.kind == "exported":
        said = (event.data.get(name) for name in ("precision", "step", "failed", "method"))
        return ": ".join(str(one) for one in said if one)
    losses = event.data.get("losses")
    named = losses.items() if isinstance(losses, dict) else ()
    return " ".join(f"{name}={value:.3f}" for name, value in named if isinstance(value, float))


def rung_words(data: Mapping[str, Any]) -> str:
    """Say what a rung changed and why, as a person reads it; `data` is a rung event's."""
    changed = data.get("changed")
    pairs = changed.items() if isinstance(changed, dict) else ()
    # A rented machine wrote it: what is not a pair is left out.
    told = ", ".join(
        f"{name} {_shown(pair[0])} -> {_shown(pair[1])}"
        for name, pair in pairs
        if isinstance(pair, list | tuple) and len(pair) == 2
    )
    ships = "; what ships changes" if data.get("ships_changed") else ""
    return f"{told or data.get('rung', '')}{ships}: {data.get('reason', '')}"


def _shown(value: object) -> str:
    return "the level's" if value is None else str(value).rsplit("/", 1)[-1]
