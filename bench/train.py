"""Measure our training beside plain `YOLO.train()`, and kill it ten times: `make bench-train`.

    python bench/train.py                      two cases, four rounds, ten kills: about twelve minutes
    python bench/train.py --quick              the same, tiny: whether it works, no figures
    python bench/train.py --kills 10           with so many SIGKILLs (0: leave the study out)
    python bench/train.py --write              also into docs/benchmarks.md
    python bench/train.py --images FOLDER      images laid out as for `make demo IMAGES=`, split base_train

The machine should have nothing else to do. Results go to bench/results/train.json (quick ones nowhere).
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
# In place of this folder, in which `demo.py` would hide the package of that name.
sys.path[0] = str(ROOT)

from rich.console import Console  # noqa: E402 - after the path is right
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: E402

from bench.edge_parts.machine import describe_machine, is_quiet  # noqa: E402
from bench.reporting import put_between  # noqa: E402
from bench.train_parts.contend import (  # noqa: E402
    WORK,
    Ready,
    contend,
    device_name,
    make_ready,
    measure_weights,
    study_kills,
)
from bench.train_parts.figures import Rounds, case_figures  # noqa: E402
from bench.train_parts.plan import Asked, Case, Plan, plan_of  # noqa: E402
from bench.train_parts.report import KILLS, TRAIN, Results, kills_markdown, markdown  # noqa: E402

RESULTS = ROOT / "bench" / "results" / "train.json"
DOCUMENT = ROOT / "docs" / "benchmarks.md"


def main() -> int:
    """Measure what was asked for; the exit status does not say whether targets are met."""
    given = _arguments()
    console = Console(stderr=True)
    machine = describe_machine()
    if not is_quiet(machine):
        console.print(
            f"[yellow]The machine is not quiet (load {machine['load_at_start']:.2f}): figures will be noisy."
        )
    device = device_name()
    plan = plan_of(Asked(given.quick, given.kills, given.rounds, device != "cpu", given.seed))
    images = f"split base_train of {given.images.name}" if given.images else "drawn by the demo's line"
    results = Results(machine, device, images)
    with _progress(console) as progress:
        task = progress.add_task("train", total=plan.seconds())
        _measure(
            plan, results, given.images, lambda seconds: progress.update(task, advance=seconds, refresh=True)
        )
    report = markdown(results)
    print(report)
    if results.study is not None:
        print(kills_markdown(results.study, machine))
    _keep(results, report, given)
    return 0


def _measure(plan: Plan, results: Results, images: Path | None, advance: Any) -> None:
    cuda = results.device != "cpu"
    for case in plan.cases:
        ready = make_ready(case, images, plan.seed, cuda=cuda)
        rounds = _rounds(plan, ready, advance)
        results.rounds.append(rounds)
        results.figures |= case_figures(rounds, cuda=cuda)
    if plan.kills:
        ready = make_ready(plan.kill_case, images, plan.seed, cuda=cuda)
        results.study = study_kills(ready, plan.kills, WORK / "kills")
        advance(plan.seconds())


def _rounds(plan: Plan, ready: Ready, advance: Any) -> Rounds:
    rounds = Rounds(ready.case)
    weights = {"start": str(ready.start)}
    for number in range(plan.rounds):
        told = {}
        for name in plan.order(ready.case, number):
            told[name] = contend(name, ready, WORK / "runs" / f"{ready.case.name}-{number}-{name}")
            weights[f"{number}/{name}"] = told[name].weights
            advance(ready.case.seconds())
        rounds.runs.append(told)
    maps = measure_weights(ready, weights)
    rounds.start_map = maps["start"]
    rounds.maps = [
        {name: maps[f"{number}/{name}"] for name in told} for number, told in enumerate(rounds.runs)
    ]
    return rounds


def _progress(console: Console) -> Progress:
    # Refreshed between runs only, since a thread that draws would be measured.
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, auto_refresh=False)


def _keep(results: Results, report: str, given: argparse.Namespace) -> None:
    if given.quick:
        return
    told = _as_json(results)
    if RESULTS.exists() and results.study is None:
        # A part left out does not take its figures away.
        told = {**json.loads(RESULTS.read_text()), **told}
    # Results are kept with the code: where it lay on this machine is nobody's business.
    RESULTS.write_text(json.dumps(told, indent=1).replace(f"{ROOT}/", "") + "\n")
    if given.write:
        put_between(DOCUMENT, TRAIN, report)
        if results.study is not None:
            put_between(DOCUMENT, KILLS, kills_markdown(results.study, results.machine))


def _as_json(results: Results) -> dict[str, Any]:
    """Return every figure under its name, its interval beside it, and the runs they were taken from."""
    told: dict[str, Any] = {
        "machine": results.machine, "device": results.device, "date": results.machine["date"],
    }  # fmt: skip
    for name, figure in results.figures.items():
        told[name] = round(figure.mid, 5)
        told[f"{name}.interval"] = [round(figure.low, 5), round(figure.high, 5), figure.coverage]
    for rounds in results.rounds:
        told[f"case {rounds.case.name}"] = _case(rounds.case)
        told[f"runs {rounds.case.name}"] = [
            {name: {**asdict(run), **maps[name]} for name, run in runs.items()}
            for runs, maps in zip(rounds.runs, rounds.maps, strict=True)
        ]
        told[f"start {rounds.case.name}"] = rounds.start_map
    if results.study is not None:
        told["resume.map_delta"] = round(results.study.map_delta, 4)
        told["resume.worst_loss"] = round(results.study.worst_loss, 4)
        told["resume"] = asdict(results.study)
    return told


def _case(case: Case) -> dict[str, Any]:
    return asdict(case)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="tiny trainings; nothing is kept")
    parser.add_argument("--kills", type=int, help="SIGKILLs of the resume study (10, with --quick 2)")
    parser.add_argument("--rounds", type=int, help="of every case")
    parser.add_argument("--images", type=Path, help="folder of real images instead of drawn ones")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="put the report into docs/benchmarks.md")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
