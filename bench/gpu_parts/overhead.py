"""Measure plain `YOLO.train()` against ours on a card, round by round: `train.overhead`.

    python -m bench.gpu_parts.overhead [--out FOLDER] [--rounds 6] [--smoke]

Each row of `train-cuda.json` is one round. With `--smoke` it is tiny and runs anywhere.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from bench.edge_parts.intervals import Interval
from bench.gpu_parts.kept import LIMIT_S, Kept, out_folder, still_to_do
from bench.train_parts.contend import WORK, Run, contend, device_name, make_ready, measure_weights
from bench.train_parts.figures import Rounds, case_figures
from bench.train_parts.plan import Asked, Plan, plan_of


def main(arguments: list[str] | None = None) -> int:
    """Run rounds until the time is up."""
    given = _arguments(arguments)
    device = device_name()
    cuda = device != "cpu"
    if not cuda and not given.smoke:
        print("no card here: bench/train.py measures on processors")
        return 2
    out, earlier = out_folder(given.out, given.smoke)
    kept = Kept(out, "train-cuda", earlier)
    plan = plan_of(Asked(quick=given.smoke, kills=0, rounds=1 if given.smoke else given.rounds, cuda=cuda))
    case = plan.cases[0]
    ready = make_ready(case, None, plan.seed, cuda=cuda)
    for name in still_to_do([f"round-{number}" for number in range(plan.rounds)], kept, given.seconds):
        order = plan.order(case, int(name.removeprefix("round-")))
        runs = {who: contend(who, ready, WORK / "runs" / f"cuda-{who}") for who in order}
        maps = measure_weights(ready, {who: run.weights for who, run in runs.items()})
        kept.add(name, {who: {**asdict(run), **maps[who]} for who, run in runs.items()})
    figures = figures_of(kept, plan, cuda=cuda)
    told = {name: [one.low, one.mid, one.high] for name, one in figures.items()}
    kept.write(device=device, case=asdict(case), figures=told)
    print(told)
    return 0


def figures_of(kept: Kept, plan: Plan, *, cuda: bool) -> dict[str, Interval]:
    """Return the figures of the rounds kept so far."""
    rounds = Rounds(plan.cases[0])
    for row in kept.rows.values():
        fields = Run.__dataclass_fields__
        rounds.runs.append({
            who: Run(**{name: value for name, value in told.items() if name in fields})
            for who, told in row.items()
        })  # fmt: skip
    return case_figures(rounds, cuda=cuda)


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument(
        "--seconds", type=float, default=LIMIT_S, help="no round is begun that would end later"
    )
    parser.add_argument("--smoke", action="store_true", help="tiny: whether it works")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
