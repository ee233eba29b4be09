"""Write what was measured as Markdown, with every choice that a reader needs to judge it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from bench.edge_parts.figures import TARGETS, agreement, quantiles_ms
from bench.edge_parts.intervals import Interval, median_interval, share_interval
from bench.edge_parts.machine import is_quiet
from bench.edge_parts.plan import BARE, ENGINE, LOOP, PREDICT, ROBOFLOW, WARM
from bench.edge_parts.rounds import Beside, Measured, Memory

BEGIN, END = "<!-- bench-edge: begin -->", "<!-- bench-edge: end -->"
NAMES = {
    BARE: "bare `session.run`, plain float export",
    ENGINE: "bare `session.run`, our export",
    LOOP: "**Whetstone's loop**",
    PREDICT: "ultralytics `predict()`",
    ROBOFLOW: "Roboflow inference",
}
NOISY = 0.02
"""Share of the measured cores others may take before a reader is warned."""


@dataclass(slots=True)
class Results:
    """Hold everything one run found."""

    machine: dict[str, object]
    model: str
    measured: list[Measured] = field(default_factory=list)
    besides: list[Beside] = field(default_factory=list)
    memory: Memory | None = None
    figures: dict[str, Interval] = field(default_factory=dict)


def markdown(results: Results) -> str:
    """Return the whole report."""
    parts = [_head(results), _targets(results.figures)]
    parts += [_scenario(measured) for measured in results.measured]
    parts += [_beside(beside) for beside in results.besides]
    if results.memory is not None:
        parts.append(_memory(results.memory))
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(results: Results) -> str:
    machine = results.machine
    versions = machine["versions"]
    assert isinstance(versions, dict)
    told = ", ".join(f"{name} {version}" for name, version in versions.items())
    lines = [
        f"{machine['date']}: {machine['cpu']} (family/model {machine['cpu_family_model']}, "
        f"{machine['mhz']} MHz, {machine['cores']} cores{', virtual' if machine['virtual'] else ''}), "
        f"{machine['memory_gib']} GiB, "
        f"governor {machine['governor']}, Linux {machine['kernel']}, Python {machine['python']}, {told}. "
        f"Weights: {results.model}."
    ]
    if not is_quiet(machine):
        lines.append(f"**The machine was not quiet**: load {machine['load_at_start']:.2f} at the start.")
    foreign = _foreign(results)
    if foreign > NOISY:
        lines.append(f"**Others took {foreign:.0%} of the measured cores** in the worst tenth of the blocks.")
    return "\n".join(lines)


def _foreign(results: Results) -> float:
    """Return the share others took in the block at nine tenths."""
    shares = sorted(
        block.foreign for measured in results.measured for told in measured.rounds for block in told.values()
    )
    return shares[int(len(shares) * 0.9)] if shares else 0.0


def _targets(figures: dict[str, Interval]) -> str:
    rows = []
    for name, target in TARGETS.items():
        if name in figures:
            one = figures[name]
            met = "yes" if target.is_met_by(one) else "**no**"
            rows.append([f"`{name}`", f"{one.mid:.4f}", f"{one.low:.4f} to {one.high:.4f}",
                         f"{target.sense} {target.value}", met])  # fmt: skip
    if not rows:
        return ""
    return _table(["figure", "median", "95 % interval", "target", "worse end meets it"], rows)


def _scenario(measured: Measured) -> str:
    scenario = measured.scenario
    head = ["contender", "ms per frame", "95 % interval", "frames/s", "of bare", "over bare, ms", "p99, ms",
            "frames", "peak MB"]  # fmt: skip
    rows = [_row(measured, name) for name in scenario.every]
    rows = [row for row in rows if row]
    lines = [
        f"### {scenario.name}",
        "",
        f"{scenario.blocks} rounds of blocks of {scenario.frames} frames (fewer where the frames say so); "
        f"{WARM} frames at the head of each block are not counted.",
        "",
        _table(head, rows),
        "",
        *_notes(measured),
    ]
    return "\n".join(lines)


def _row(measured: Measured, name: str) -> list[str]:
    if name in measured.missing:
        return [NAMES[name], f"not measured: {measured.missing[name]}", *[""] * 7]
    blocks = measured.blocks(name)
    if not blocks:
        return []
    time = median_interval([block.mean_ms for block in blocks])
    bare, own = measured.paired(BARE, name)
    share = share_interval(bare, own)
    over = median_interval([b - a for a, b in zip(bare, own, strict=True)])
    (p99,) = quantiles_ms(blocks, [0.99])
    return [NAMES[name], f"{time.mid:.3f}", f"{time.low:.3f} to {time.high:.3f}", f"{1000 / time.mid:.1f}",
            f"{share.mid:.1%}", f"{over.mid:+.3f}", f"{p99:.2f}", str(sum(len(block.ms) for block in blocks)),
            f"{measured.facts[name]['peak_rss_mb']:.0f}"]  # fmt: skip


def _notes(measured: Measured) -> Iterator[str]:
    loop = measured.blocks(LOOP)
    if loop:
        stages = {name: told for name, told in loop[-1].told["stages"].items() if name != "wait"}
        told = ", ".join(f"{stage} {median:.3f} ({p99:.3f})" for stage, (median, p99) in stages.items())
        facts = measured.facts[LOOP]
        hard, kept = sum(facts["mined"].values()), facts["kept"]
        yield f"* Stages of the loop, median (p99) in ms: {told}."
        yield (
            f"* The loop decided on every frame as at the start and dropped {facts['dropped']}; of "
            f"{facts['inspected']} frames mining found {hard} worth keeping and kept {kept}; "
            f"{facts['lost']} were lost."
        )
    for name in (PREDICT, ROBOFLOW):
        if name in measured.found:
            same = agreement(measured.found[LOOP], measured.found[name])
            frames = len(measured.found[LOOP])
            yield (
                f"* Against {NAMES[name]}: {same.boxes} boxes in {frames} frames, {same.alone} without a "
                f"counterpart, at most {same.worst_px:.2f} px and {same.worst_score:.4f} in score apart."
            )
    if ROBOFLOW in measured.facts:
        facts = measured.facts[ROBOFLOW]
        yield (
            f"* Roboflow's installation brings onnxruntime {facts['onnxruntime']} (inference "
            f"{facts['inference']}, inference-models {facts['inference_models']}), which is part of its "
            "figure; it rounds its boxes to whole pixels."
        )


def _beside(beside: Beside) -> str:
    rows = []
    for name, blocks in (("idle", beside.idle), ("busy", beside.busy)):
        told = quantiles_ms(blocks, [0.5, 0.99, 0.999, 1.0])
        rows.append([name, *[f"{ms:.2f}" for ms in told], str(sum(len(block.ms) for block in blocks))])
    done, loads = beside.done, beside.done["load_ms"]
    return "\n".join([
        f"### The other core at work, {beside.tails.size} px",
        "",
        _table(["other core", "p50, ms", "p99", "p99.9", "worst", "frames"], rows),
        "",
        f"Meanwhile {done['uploads']} uploads, {done['downloads']} downloads, {done['self_tests']} self-tests"
        f" in a child and {done['loads']} loads of a second session{_median_of(loads)}, by threads of the "
        f"loop's own process as in the agent; {len(beside.idle)} pairs of blocks in turn.",
    ])  # fmt: skip


def _median_of(values: Sequence[float]) -> str:
    return f" of {sorted(values)[len(values) // 2]:.0f} ms (median)" if values else ""


def _memory(memory: Memory) -> str:
    grown = memory.growth
    gaps = sorted(memory.gaps_ms)
    return "\n".join([
        "### Memory of the loop's process",
        "",
        _table(["along", "first, MB", "last", "most"], [
            [f"{grown.frames} frames at {grown.frames_size} px", *_ends(memory.by_frames)],
            [f"{grown.swaps} swaps at {grown.swaps_size} px", *_ends(memory.by_swaps)],
        ]),
        "",
        f"First sample after {grown.sample_every} frames, and after {grown.first_swaps} swaps, which need "
        f"two models at once. Longest wait of a frame for a swap: {gaps[-1]:.3f} ms, median "
        f"{gaps[len(gaps) // 2]:.3f} ms.",
    ])  # fmt: skip


def _ends(samples: Sequence[float]) -> list[str]:
    return [f"{samples[0]:.1f}", f"{samples[-1]:.1f}", f"{max(samples):.1f}"]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])
