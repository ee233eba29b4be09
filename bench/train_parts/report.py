"""Write what was measured as Markdown, with every choice that a reader needs to judge it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.edge_parts.intervals import Interval
from bench.edge_parts.machine import is_quiet
from bench.train_parts.figures import Rounds, spread, target_of
from bench.train_parts.kills import Study
from bench.train_parts.plan import EVERY_THREAD, OURS, PLAIN, Case

TRAIN = ("<!-- bench-train: begin -->", "<!-- bench-train: end -->")
KILLS = ("<!-- bench-kills: begin -->", "<!-- bench-kills: end -->")
NAMES = {
    PLAIN: "plain `YOLO.train()`",
    EVERY_THREAD: "plain, told to use every thread",
    OURS: "**Whetstone**",
}
NOISY = 0.02
"""Share of all cores others may take before a reader is warned."""
STARTS = {"demo": "the demo's first champion, its head grown to four classes"}


@dataclass(slots=True)
class Results:
    """Hold everything one run found."""

    machine: dict[str, object]
    device: str
    images: str
    rounds: list[Rounds] = field(default_factory=list)
    study: Study | None = None
    figures: dict[str, Interval] = field(default_factory=dict)


def markdown(results: Results) -> str:
    """Return the report on plain against ours."""
    parts = [_head(results), _targets(results.figures)]
    parts += [_case(rounds) for rounds in results.rounds]
    return "\n\n".join(part for part in parts if part) + "\n"


def kills_markdown(study: Study, machine: dict[str, object]) -> str:
    """Return the report on the resume study."""
    rows = [
        [str(number), f"{kill.asked:.2f}", f"{kill.at:.2f}", f"{kill.resumed:.2f}", f"{kill.lost:.2f}",
         {None: "nothing to compare", True: "yes", False: "**no**"}[kill.proven]]
        for number, kill in enumerate(study.kills, 1)
    ]  # fmt: skip
    delta, loss = study.map_delta, study.worst_loss
    same = "the same to the bit" if study.same_weights else "**not the same to the bit**"
    minutes = f"{study.checkpoint_minutes * 60:.1f} s within an epoch of {study.epoch_s:.1f} s"
    return "\n".join([
        f"{machine['date']}: {len(study.kills)} SIGKILLs in a run of {study.epochs} epochs, drawn before "
        f"it began; a checkpoint after every epoch and every {minutes}. Each signal was sent to a training "
        "child that was looked up as alive.",
        "",
        _table(["figure", "value", "target", "met"], [
            ["`resume.map_delta`, points of mAP50-95", f"{delta:.3f}", "at most 0.5", _met(delta <= 0.5)],
            ["most lost by a kill, epochs", f"{loss:.2f}", "at most 1", _met(loss <= 1.0)],
        ]),
        "",
        f"mAP50-95 {study.map_whole:.4f} undisturbed, {study.map_killed:.4f} killed; the final weights are "
        f"{same}. {study.seconds_whole:.0f} s undisturbed, {study.seconds_killed:.0f} s with "
        f"{len(study.kills)} more starts.",
        "",
        _table(["kill", "drawn at epoch", "sent at", "went on from", "lost", "weights as they were"], rows),
    ])  # fmt: skip


def _head(results: Results) -> str:
    machine = results.machine
    versions = machine["versions"]
    assert isinstance(versions, dict)
    told = ", ".join(f"{name} {versions[name]}" for name in ("torch", "ultralytics") if name in versions)
    lines = [
        f"{machine['date']}: {machine['cpu']} ({machine['cores']} cores"
        f"{', virtual' if machine['virtual'] else ''}), {machine['memory_gib']} GiB, "
        f"trains on {results.device}, Linux {machine['kernel']}, Python {machine['python']}, "
        f"{told}. Images: {results.images}."
    ]  # fmt: skip
    if not is_quiet(machine):
        lines.append(f"**The machine was not quiet**: load {machine['load_at_start']:.2f} at the start.")
    shares = sorted(run.foreign for rounds in results.rounds for told in rounds.runs for run in told.values())
    worst = shares[int(len(shares) * 0.9)] if shares else 0.0
    if worst > NOISY:
        lines.append(f"**Others took {worst:.0%} of the cores** in the worst tenth of the runs.")
    return "\n".join(lines)


def _targets(figures: dict[str, Interval]) -> str:
    rows = []
    for name, figure in figures.items():
        target = target_of(name)
        wanted = (
            [f"{target.sense} {target.value:+.0%}", _met(target.is_met_by(figure))] if target else ["", ""]
        )
        rows.append([f"`{name}`", f"{figure.mid:+.1%}", f"{figure.low:+.1%} to {figure.high:+.1%}", *wanted])
    return _table(["figure", "mean", "95 % interval", "target", "worse end meets it"], rows) if rows else ""


def _case(rounds: Rounds) -> str:
    case = rounds.case
    head = ["contender", "whole run, s", "after the first epoch, s", "images/s", "processor s",
            "of all cores", "waits for data", "peak MB", "loss, first → last epoch", "mAP50 after",
            "runs"]  # fmt: skip
    rows = [_row(rounds, name) for name in (PLAIN, EVERY_THREAD, OURS) if rounds.of(name)]
    before = rounds.start_map.get("map50")
    lines = [f"### {case.name}", "", _words(case), "", _table(head, rows)]
    if before is not None:
        lines += ["", f"mAP50 of the start weights on the same images: {before:.3f}."]
    return "\n".join(lines)


def _words(case: Case) -> str:
    start = STARTS.get(case.start, f"`{case.start}`, drawn by a seed")
    return (
        f"From {start}; {case.images} images at {case.size} px, {case.epochs} epochs, batch {case.batch} × "
        f"{case.accumulation} (`nbs` {case.batch * case.accumulation}), AdamW at {case.learning_rate:g}, "
        f'augmentation "{case.augmentation}".'
    )


def _row(rounds: Rounds, name: str) -> list[str]:
    runs = rounds.of(name)
    total, steady = spread(runs, lambda run: run.total_s), spread(runs, lambda run: run.steady_s)
    waits = [run.wait_share for run in runs if run.wait_share is not None]
    maps = rounds.map50s(name)
    return [
        NAMES[name], f"{total.mid:.1f} ({total.low:.1f} to {total.high:.1f})", f"{steady.mid:.1f}",
        f"{spread(runs, lambda run: run.images_per_s).mid:.1f}",
        f"{spread(runs, lambda run: run.cpu_s).mid:.1f}",
        f"{spread(runs, lambda run: run.busy_share).mid:.0%}",
        f"{sorted(waits)[len(waits) // 2]:.1%}" if waits else "not told",
        f"{max(run.peak_rss_mb for run in runs):.0f}",
        f"{runs[-1].loss_first:.2f} → {runs[-1].loss_last:.2f}",
        f"{sorted(maps)[len(maps) // 2]:.3f}" if maps else "-", str(len(runs)),
    ]  # fmt: skip


def _met(is_met: bool) -> str:  # noqa: FBT001 - one word of a table
    return "yes" if is_met else "**no**"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])
