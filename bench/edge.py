"""Measure the box's loop beside the bare engine, ultralytics and Roboflow: `make bench-edge`.

    python bench/edge.py                       320 and 640 px, tails, memory: about three quarters of an hour
    python bench/edge.py --quick               the same with few frames: whether it works, no figures
    python bench/edge.py --only blocks --sizes 320
    python bench/edge.py --write               also into docs/benchmarks.md
    python bench/edge.py --model x.pt --images FOLDER

The machine should have nothing else to do. Results go to bench/results/edge.json (quick ones nowhere).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
# In place of this folder, in which `demo.py` would hide the package of that name.
sys.path[0] = str(ROOT)

from rich.console import Console  # noqa: E402 - after the path is right
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: E402

from bench.edge_parts.children import Block  # noqa: E402
from bench.edge_parts.exports import DEFAULT_START, Exports, Wanted, exports_of  # noqa: E402
from bench.edge_parts.figures import TARGETS, memory_figures, scenario_figures, tail_figures  # noqa: E402
from bench.edge_parts.machine import describe_machine, is_quiet, rest_on  # noqa: E402
from bench.edge_parts.plan import Asked, Plan, plan_of  # noqa: E402
from bench.edge_parts.report import BEGIN, END, Results, markdown  # noqa: E402
from bench.edge_parts.rounds import run_growth, run_scenario, run_tails  # noqa: E402
from bench.reporting import put_between  # noqa: E402 - after the path is right

RESULTS = ROOT / "bench" / "results" / "edge.json"
DOCUMENT = ROOT / "docs" / "benchmarks.md"
REAL = ROOT.parent / "shared" / "data" / "deeppcb" / "images"
OTHER_CORE = 1
PARTS = ("blocks", "tails", "growth")


def main() -> int:
    """Measure what was asked for; the exit status does not say whether targets are met."""
    given = _arguments()
    console = Console(stderr=True)
    machine = describe_machine()
    if not is_quiet(machine):
        console.print(
            f"[yellow]The machine is not quiet (load {machine['load_at_start']:.2f}): figures will be noisy."
        )
    if (os.cpu_count() or 1) < 2:
        console.print("[red]expected two cores, got one: the second is what waits, overlaps and is busy")
        return 1
    asked = Asked(tuple(given.sizes), tuple(given.only), given.frames_p99, given.quick, given.full)
    plan = plan_of(asked)
    rest_on(OTHER_CORE)
    wanted = _wanted(given)
    exports = exports_of(wanted, plan.sizes, console.print)
    results = Results(machine, _model_name(wanted))
    with _progress(console) as progress:
        task = progress.add_task("edge", total=plan.seconds())
        _measure(plan, exports, results, _Teller(progress, task))
    report = markdown(results)
    print(report)
    _keep(results, report, given)
    return 0


def _measure(plan: Plan, exports: dict[int, Exports], results: Results, tell: _Teller) -> None:
    for scenario in plan.scenarios:
        tell.title(scenario.name)
        measured = run_scenario(scenario, exports[scenario.size], tell)
        results.measured.append(measured)
        results.figures |= scenario_figures(measured)
    for number, tails in enumerate(plan.tails):
        tell.title(f"other core at work, {tails.size} px")
        beside = run_tails(tails, exports[tails.size], OTHER_CORE, tell)
        results.besides.append(beside)
        results.figures |= tail_figures(beside, first=number == 0)
    if plan.growth is not None:
        tell.title("memory")
        results.memory = run_growth(plan.growth, exports, tell)
        results.figures |= memory_figures(results.memory)


class _Teller:
    """Move the bar; refreshed between blocks only, since a thread that draws would be measured."""

    def __init__(self, progress: Progress, task: Any) -> None:
        self._progress, self._task = progress, task

    def title(self, text: str) -> None:
        """Say what is measured now."""
        self._progress.update(self._task, description=text, refresh=True)

    def __call__(self, seconds: float) -> None:
        """Say that about so much of the work is done."""
        self._progress.update(self._task, advance=seconds, refresh=True)


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, auto_refresh=False)


def _keep(results: Results, report: str, given: argparse.Namespace) -> None:
    if given.quick:
        return
    told = _as_json(results)
    if RESULTS.exists() and set(given.only) != set(PARTS):
        # A part measured again does not take the others' figures away.
        told = {**json.loads(RESULTS.read_text()), **told}
    RESULTS.write_text(json.dumps(told, indent=1) + "\n")
    if given.write:
        put_between(DOCUMENT, (BEGIN, END), report)


def _as_json(results: Results) -> dict[str, Any]:
    """Return every figure under its name, its interval beside it, and the blocks they were taken from."""
    told: dict[str, Any] = {
        "machine": results.machine,
        "model": results.model,
        "date": results.machine["date"],
    }
    for name, figure in results.figures.items():
        told[name] = round(figure.mid, 5)
        told[f"{name}.interval"] = [round(figure.low, 5), round(figure.high, 5), figure.coverage]
        if name in TARGETS:
            told[f"{name}.met"] = TARGETS[name].is_met_by(figure)
    for measured in results.measured:
        told[f"blocks {measured.scenario.name}"] = {
            name: [_block(block) for block in measured.blocks(name)] for name in measured.scenario.every
        }
        told[f"missing {measured.scenario.name}"] = measured.missing
        told[f"facts {measured.scenario.name}"] = measured.facts
    for beside in results.besides:
        told[f"tails {beside.tails.size} px"] = {
            "idle": [_block(block) for block in beside.idle],
            "busy": [_block(block) for block in beside.busy],
            "done": {**beside.done, "load_ms": len(beside.done["load_ms"])},
        }
    if results.memory is not None:
        told["memory"] = asdict(results.memory)
    return told


def _block(block: Block) -> dict[str, Any]:
    ordered = sorted(block.ms)
    return {"mean_ms": round(block.mean_ms, 4), "p50_ms": round(ordered[len(ordered) // 2], 4),
            "worst_ms": round(ordered[-1], 4), "foreign": round(block.foreign, 4)}  # fmt: skip


def _wanted(given: argparse.Namespace) -> Wanted:
    """Name weights and frames; trained weights are shown real images where there are any."""
    if not given.model:
        return Wanted(DEFAULT_START, given.seed, given.images)
    return Wanted(
        str(Path(given.model).resolve()), given.seed, given.images or (REAL if REAL.is_dir() else None)
    )


def _model_name(wanted: Wanted) -> str:
    if wanted.start == DEFAULT_START:
        return f"yolo11n of ultralytics' yaml, drawn with seed {wanted.seed}, 80 classes"
    return f"{Path(wanted.start).name}, shown {'real images' if wanted.images else 'drawn frames'}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few frames; nothing is kept")
    parser.add_argument("--full", action="store_true", help="tails at every size (hours)")
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[320, 640], choices=(320, 640), help="input sides in pixels"
    )
    parser.add_argument("--only", nargs="+", default=list(PARTS), choices=PARTS)
    parser.add_argument(
        "--frames-p99", type=int, default=20_000, help="frames behind each 99th percentile of the tails"
    )
    parser.add_argument("--model", help="weights .pt of a detector instead of drawn ones")
    parser.add_argument("--images", type=Path, help="folder of real images instead of drawn ones")
    parser.add_argument("--seed", type=int, default=0, help="of the drawn weights")
    parser.add_argument("--write", action="store_true", help="put the report into docs/benchmarks.md")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
