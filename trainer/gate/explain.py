"""Put a verdict into Markdown tables that a person can read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fleet_contracts.judging import GateFinding, VariantVerdict


def explain(findings: Sequence[GateFinding]) -> str:
    """Return the findings as a Markdown table."""
    rows = ["| rule | | expected | got | detail |", "|---|---|---|---|---|"]
    rows += [
        f"| {one.rule} | {'pass' if one.passed else 'FAIL'} | {one.expected} | {one.got} | {one.detail} |"
        for one in findings
    ]
    return "\n".join(rows)


def explain_formats(verdicts: Sequence[VariantVerdict]) -> str:
    """Return the number formats beside one another, what was measured of each, and why it ships or not."""
    rows = [
        "| format | file | MiB | ms a frame | mAP50 | escapes | false rejects | parity (px, score) | |",
        "|---|---|--:|--:|--:|--:|--:|--:|---|",
    ]
    rows += [_format_row(one) for one in verdicts]
    return "\n".join(rows)


def _format_row(one: VariantVerdict) -> str:
    measured = one.measures
    kind = "mean" if one.precision == "int8" else "max"
    box = _figure(measured, f"parity_{kind}_box_px", ".2g")
    score = _figure(measured, f"parity_{kind}_score", ".2g")
    cells = [
        f"**{one.precision}**" if one.promoted else one.precision,
        one.model_id[:12],
        _figure(measured, "onnx_mib", ".2f"),
        _figure(measured, "latency_p50_ms", ".2f"),
        _figure(measured, "val_map50", ".4f"),
        _figure(measured, "escapes_per_1000", ".1f"),
        _figure(measured, "false_rejects_per_1000", ".1f"),
        f"{kind} {box}, {score}",
        one.why,
    ]
    return f"| {' | '.join(cells)} |"


def _figure(measures: Mapping[str, float], name: str, form: str) -> str:
    value = measures.get(f"candidate.{name}")
    return "-" if value is None else format(value, form)
