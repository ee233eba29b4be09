"""Write plans as Markdown for people: what was considered, chosen and why, and what came of it; pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fleet_contracts.training import Considered, RunRecord, TrainPlan, TrainStage, VramEstimate
from trainer.planning.words import dollars, duration, memory

NOT_CONFIRMED = "not confirmed"
"""Stands wherever an estimate is shown that no measured run on a GPU backs."""


def plan_page(plan: TrainPlan) -> str:
    """Return a plan with everything that led to it."""
    parts = [
        f"# {plan.run_id}: the plan",
        "  \n".join(summary_lines(plan)),
        "## Stages",
        table(("stage", "image", "epochs", "batch", "accumulated", "effective", "augmentation", "memory"), (
            (str(number), *stage_cells(stage, plan)) for number, stage in enumerate(plan.stages)
        )),
    ]  # fmt: skip
    if plan.vram is not None:
        parts += ["## Memory", memory_table(plan.vram)]
    if plan.considered:
        parts += [f"## Considered ({len(plan.considered)} ways)", considered_table(plan.considered)]
    if plan.reasons:
        parts += ["## Why", "\n".join(f"* {reason}" for reason in plan.reasons)]
    return "\n\n".join(parts) + "\n"


def outcome_page(plan: TrainPlan, record: RunRecord) -> str:
    """Return what was predicted beside what was measured."""
    rows = [
        *_time_rows(plan, record),
        *(row for number in range(len(plan.stages)) for row in _memory_rows(plan, record, number)),
        ("memory rungs", "0", str(len(record.rungs)), ""),
    ]
    return f"# {plan.run_id}: predicted and measured\n\n" + table(
        ("what", "predicted", "measured", "difference"), rows
    )


def considered_table(rows: Sequence[Considered]) -> str:
    """Return every way that was looked at, the chosen one first and in bold."""
    heads = ("machine", "format", "batch", "memory", "images/s", "time", "cost", "")
    return table(heads, (_considered_row(row) for row in rows))


def memory_table(vram: VramEstimate) -> str:
    """Return the terms of an estimate, largest first."""
    terms = sorted(vram.terms.items(), key=lambda term: (-term[1], term[0]))
    rows = [(name, memory(size), f"{size / max(vram.peak_bytes, 1):.0%}") for name, size in terms]
    told = "" if vram.moment == "" else f", in {vram.moment}"
    state = f"calibrated by {vram.calibration}" if vram.confirmed else f"{NOT_CONFIRMED} on a GPU"
    learned = "" if vram.learned == 1.0 else f"; x {vram.learned:.2f} by finished runs"
    rows.append((f"**peak{told}**", f"**{memory(vram.peak_bytes)}**", f"{state}{learned}"))
    return table(("term", "memory", "share"), rows)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    lines += [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows]
    return "\n".join(lines)


def machine_name(row: Considered) -> str:
    """Return a machine as people call it: how many of which card, and whose."""
    count = f"{row.gpu_count} x " if row.gpu_count > 1 else ""
    return f"{count}{row.gpu}{' spot' if row.spot else ''} ({row.provider})"


def considered_cells(row: Considered) -> tuple[str, ...]:
    """Return what is shown of one way, plain."""
    batch = f"{row.batch} x {row.accumulation}" if row.batch else "-"
    rate = f"{row.images_per_second:.1f}" if row.images_per_second else "unknown"
    told = {"measured": "", "": ""}.get(row.basis, f" ({row.basis})")
    return (
        machine_name(row), row.precision or "-", batch, memory(row.peak_bytes) if row.peak_bytes else "-",
        rate + told, duration(row.seconds) if row.seconds else "unknown",
        "unknown" if row.cost is None else dollars(row.cost), row.why,
    )  # fmt: skip


def _considered_row(row: Considered) -> tuple[str, ...]:
    cells = considered_cells(row)
    return tuple(f"**{cell}**" for cell in cells) if row.chosen else cells


def summary_lines(plan: TrainPlan) -> list[str]:
    """Return what matters first, a line each."""
    offer, told = plan.offer, plan.predicted
    machine = "no machine" if offer is None else f"{offer.gpu} of {offer.provider}"
    if plan.devices > 1:
        machine = f"{plan.devices} x {machine}"
    spot = " at its spot price" if plan.spot else ""
    effective = plan.stages[-1].batch * (plan.stages[-1].accumulation or plan.accumulation)
    lines = [
        f"Tier **{plan.tier}**, recipe {plan.recipe}, on **{machine}**{spot}.",
        f"Effective batch {effective}, {'mixed precision' if plan.amp else 'fp32'}, cache {plan.cache}, "
        f"{plan.workers} workers{' a device' if plan.devices > 1 else ''}.",
    ]
    if told is not None:
        cost = "an unknown price" if told.cost is None else dollars(told.cost)
        lines.append(
            f"Expected: {duration(told.seconds)} ({duration(told.train_seconds)} of it training) for {cost}, "
            f"{told.images_per_second:.1f} images/s, {told.basis}."
        )
    else:
        lines.append("Expected: unknown, nothing was measured on this machine yet.")
    if plan.deadline is not None:
        lines.append(f"Ends by {plan.deadline:%Y-%m-%d %H:%M} UTC at the latest.")
    return lines


def stage_cells(stage: TrainStage, plan: TrainPlan) -> tuple[str, ...]:
    """Return what is shown of one stage, plain."""
    steps = stage.accumulation or plan.accumulation
    peak = "-"
    if stage.vram is not None:
        peak = memory(stage.vram.peak_bytes) + ("" if stage.vram.confirmed else f", {NOT_CONFIRMED}")
    return (f"{stage.image_size} px", str(stage.epochs), str(stage.batch), str(steps),
            str(stage.batch * steps), stage.augmentation, peak)  # fmt: skip


def _time_rows(plan: TrainPlan, record: RunRecord) -> list[tuple[str, ...]]:
    trained = sum(epoch.seconds for epoch in record.epochs)
    whole = (record.ended_at - record.started_at).total_seconds() if record.ended_at else 0.0
    images = sum(epoch.seconds * epoch.images_per_second for epoch in record.epochs)
    rate = images / trained if trained else 0.0
    told = plan.predicted
    if told is None:
        return [("training", "unknown", duration(trained), ""), ("whole run", "unknown", duration(whole), ""),
                ("images/s", "unknown", f"{rate:.1f}", "")]  # fmt: skip
    rows: list[tuple[str, ...]] = [
        ("training", duration(told.train_seconds), duration(trained), _off(trained, told.train_seconds)),
        ("whole run", duration(told.seconds), duration(whole), _off(whole, told.seconds)),
        ("images/s", f"{told.images_per_second:.1f} ({told.basis})", f"{rate:.1f}",
         _off(rate, told.images_per_second)),
    ]  # fmt: skip
    if told.cost is not None and (told.cost or record.cost):
        rows.append(("cost", dollars(told.cost), dollars(record.cost), _off(record.cost, told.cost)))
    return rows


def _memory_rows(plan: TrainPlan, record: RunRecord, number: int) -> list[tuple[str, ...]]:
    stage = plan.stages[number]
    before = sum(one.epochs for one in plan.stages[:number])
    rows = record.epochs[before : before + stage.epochs]
    peak = max((row.peak_memory_bytes for row in rows), default=0)
    if stage.vram is None or peak == 0:
        return []
    # A process sees what its allocator reserved; the card also holds the driver's context.
    seen = peak + stage.vram.terms.get("context", 0)
    told = memory(stage.vram.peak_bytes) + ("" if stage.vram.confirmed else f" ({NOT_CONFIRMED})")
    return [(f"memory, stage {number}", told, memory(seen), _off(seen, stage.vram.peak_bytes))]


def _off(measured: float, predicted: float) -> str:
    return f"{measured / predicted - 1:+.0%}" if predicted > 0 and measured > 0 else ""
