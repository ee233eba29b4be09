"""Write what was measured as Markdown. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.edge_parts.machine import QUIET_LOAD
from bench.vram_parts.figures import TARGETS, Scored, met, scored
from trainer.vram.calibration import MeasuredRun, fit_calibration

MARKERS = ("<!-- bench-vram: begin -->", "<!-- bench-vram: end -->")
_MIB = 2**20
_CPU_SAYS = """Bytes alive at the peak of a whole step on the processor, traced at full size, against what was
scaled from 64 and 96 px. This says that scaling is exact, not that CUDA agrees: under bf16 the processor
follows CUDA's cast rules, and allocator, context and most of what kernels take are not in it."""
_EACH = ("model-px-batch-precision-boxes-optimizer", "traced MiB", "scaled MiB", "error", "formula MiB",
         "MemTracker MiB", "s to trace")  # fmt: skip
_RIVALS = {
    "parameters x 4 x 3 + batch": "naive_bytes",
    "ultralytics autobatch": "autobatch_bytes",
    "torch MemTracker, fake tensors, no loss": "tracked_bytes",
}
Row = Mapping[str, Any]


def markdown(content: Mapping[str, Any], gpu: Sequence[Row] = ()) -> str:
    """Return the whole report.

    Args:
        content: the processor's rows and its machine.
        gpu: runs measured on a card.
    """
    tracked = {row["name"]: row["tracked_bytes"] for row in content.get("tracked", [])}
    parts = [
        _head(content),
        _gpu(gpu, tracked),
        _cpu(content.get("cpu_steps", [])),
        _timed(content.get("timed", [])),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def calibrated_pairs(runs: Sequence[Row], role: str) -> list[tuple[float, float]]:
    """Return (predicted, measured) peaks of the runs of a role, corrected by the calibration runs."""
    read = [MeasuredRun.model_validate(run) for run in runs]
    found = fit_calibration(read, "bench")
    reserved, context = (found.factors.reserved, found.factors.context_bytes) if found else (1.0, 560 * _MIB)
    return [(run.predicted_reserved_bytes * reserved + context, float(run.process_bytes))
            for run in read if run.role == role]  # fmt: skip


def _head(content: Mapping[str, Any]) -> str:
    machine = content.get("machine", {})
    if not machine:
        return ""
    versions = ", ".join(f"{name} {number}" for name, number in machine.get("versions", {}).items())
    return (
        f"{machine['date']}: {machine['cpu']}, {machine['cores']} cores, "
        f"load {machine['load_at_start']:.2f} at the start, {versions}."
        + (
            ""
            if machine["load_at_start"] <= QUIET_LOAD
            else " **The machine was not quiet**: seconds are too long."
        )
    )


def _gpu(runs: Sequence[Row], tracked: Mapping[str, int]) -> str:
    if not runs:
        return (
            "**No run has been measured on a card yet**, so no estimate is confirmed and the targets "
            + ", ".join(f"`{name}`" for name in list(TARGETS)[:3])
            + " are open. `bench/gpu.sh vram` measures 42 listed configurations; 20 of them may calibrate."
        )
    rows = []
    for role in ("calibration", "held-out"):
        ours = scored(calibrated_pairs(runs, role))
        rows.append([role, "**ours**", *_scores(ours)])
        of_role = [run for run in runs if run["role"] == role]
        told = [{**run, "tracked_bytes": tracked.get(run["name"])} for run in of_role]
        for rival, key in _RIVALS.items():
            seen = [run for run in told if run.get(key)]
            if seen:
                rows.append([role, rival, *_scores(_against(seen, key))])
    held = met(scored(calibrated_pairs(runs, "held-out")))
    verdict = ", ".join(f"`{name}` {'met' if good else '**not met**'}" for name, good in held.items())
    head = ["runs", "estimate", "count", "median error", "worst", "worst under"]
    return f"{_table(head, rows)}\n\nOn what was held out: {verdict}."


def _against(runs: Sequence[Row], key: str) -> Scored:
    return scored([(run[key], run["process_bytes"]) for run in runs])


def _scores(found: Scored) -> list[str]:
    return [
        str(found.count),
        f"{found.median_error:.1%}",
        f"{found.worst_error:.1%}",
        f"{found.worst_under:.1%}",
    ]


def _cpu(rows: Sequence[Row]) -> str:
    if not rows:
        return ""
    ours = scored([(row["predicted_live_bytes"], row["live_bytes"]) for row in rows])
    naive = scored([(row["naive_bytes"], row["live_bytes"]) for row in rows])
    lines = [["**scaled trace**", *_scores(ours)], ["parameters x 4 x 3 + batch", *_scores(naive)]]
    seen = [row for row in rows if row.get("tracked_bytes")]
    if seen:
        tracked = scored([(row["tracked_bytes"], row["live_bytes"]) for row in seen])
        lines.append(["torch MemTracker, fake tensors, no loss", *_scores(tracked)])
    heads = ["estimate", "count", "median error", "worst", "worst under"]
    return "\n\n".join((_CPU_SAYS, _table(heads, lines), _table(_EACH, [_one(row) for row in rows])))


def _one(row: Row) -> list[str]:
    traced, scaled, tracked = row["live_bytes"], row["predicted_live_bytes"], row.get("tracked_bytes")
    return [
        row["name"], f"{traced / _MIB:,.1f}", f"{scaled / _MIB:,.1f}", f"{scaled / traced - 1:+.2%}",
        f"{row['naive_bytes'] / _MIB:,.1f}", f"{tracked / _MIB:,.1f}" if tracked else "-",
        f"{row['seconds']:.1f}",
    ]  # fmt: skip


def _timed(rows: Sequence[Row]) -> str:
    if not rows:
        return ""
    worst = max(row["seconds"] for row in rows)
    told = "met" if worst <= TARGETS["vram.seconds"] else "**not met**"
    lines = [_timing(row) for row in rows]
    table = _table(
        ["network", "million parameters", "s", "processor s", "bytes met exactly by a polynomial"], lines
    )
    return f"Seconds from a name to an estimate without a cache; target `vram.seconds` 20: {told}.\n\n{table}"


def _timing(row: Row) -> list[str]:
    size, seconds = row["parameters"] / 1e6, row["seconds"]
    used = row.get("cpu_seconds")
    told = f"{used:.1f}" if used else "-"
    return [row["name"], f"{size:.1f}", f"{seconds:.1f}", told, f"{row['exact_share']:.4%}"]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])
