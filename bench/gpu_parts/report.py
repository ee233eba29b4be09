"""Write the rows of the ladder and of a card's rounds as Markdown. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.train_parts.crashes import CRASHES
from bench.train_parts.survival import SIMULATED, Row, figures_of

LADDER = ("<!-- bench-ladder: begin -->", "<!-- bench-ladder: end -->")
SIMULATED_LADDER = ("<!-- bench-ladder-simulated: begin -->", "<!-- bench-ladder-simulated: end -->")


def ladder_markdown(rows: Sequence[Row]) -> str:
    """Return the table of a card's rows, or of simulated ones, which say so; the two are never mixed.

    Raises:
        ValueError: no rows, or rows of both kinds.
    """
    kinds = {row.on == SIMULATED for row in rows}
    if len(kinds) != 1:
        raise ValueError(
            f"expected rows of a card or simulated ones, got {len(rows)} rows of {len(kinds)} kinds"
        )
    return _simulated(rows) if kinds.pop() else _on_card(rows)


def _on_card(rows: Sequence[Row]) -> str:
    figures = figures_of(list(rows))
    died, survived = figures["ladder.died"], figures["ladder.survived"]
    ratio = figures.get("ladder.time_ratio")
    head = ["training", "expected to die in", "cap, MB", "plain", "ours", "rungs", "s", "planned right, s",
            "ratio"]  # fmt: skip
    table = [
        [row.name, _where(row.name), f"{row.cap_mb:.0f}",
         f"died after {row.plain_epochs} epochs" if row.plain_died else "lived: does not count",
         _end(row), _rungs(row), f"{row.ours_s:.0f}", f"{row.planned_s:.0f}", f"{row.ratio:.3f}"]
        for row in rows
    ]  # fmt: skip
    return "\n".join([
        f"{rows[0].on}: {len(rows)} of {len(CRASHES)} listed trainings run; plain training died in "
        f"{died:.0f}, ours finished {survived:.0f} of these (`ladder.survived`, target 20 of 20); worst "
        f"`ladder.time_ratio` {'-' if ratio is None else f'{ratio:.3f}'} (target at most 1.15).",
        "",
        _table(head, table),
    ])  # fmt: skip


def _simulated(rows: Sequence[Row]) -> str:
    table = [[row.name, _where(row.name), _end(row), _rungs(row)] for row in rows]
    done = sum(row.survived for row in rows)
    return "\n".join([
        f"{SIMULATED}, not confirmed by a card: {done} of {len(rows)} of the {len(CRASHES)} listed trainings "
        "went down the ladder to their last epoch. A tiny network trains in place of the listed one, and the "
        "card's memory is a model's; what is shown is that the moment is told, which rungs are taken and "
        "that the run goes on.",
        "",
        _table(["training", "memory runs out in", "end", "rungs"], table),
    ])  # fmt: skip


def _where(name: str) -> str:
    crash = next(one for one in CRASHES if one.name == name)
    return crash.moment + (f", from epoch {crash.epoch} on" if crash.epoch > 1 else "")


def _end(row: Row) -> str:
    return f"finished {row.epochs} epochs" if row.survived else f"**ended after {row.epochs} epochs**"


def _rungs(row: Row) -> str:
    """Return the rungs in order: `amp at epoch 1, batch 2 → 1 at epoch 1`."""
    return (
        ", ".join(f"{rung['rung']}{_change(rung)} at epoch {rung['epoch']}" for rung in row.rungs) or "none"
    )


def _change(rung: dict[str, Any]) -> str:
    for name in ("batch", "image_size", "start"):
        if name in rung["changed"]:
            old, new = rung["changed"][name]
            return f" {old} → {new}"
    return ""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])
