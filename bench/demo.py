"""Measure the demo from an empty folder and keep the worst figures: `bench/results/demo.json`, `real.json`.

    python bench/demo.py line --seeds 1 2 3
    python bench/demo.py real --images FOLDER --model WEIGHTS.pt

The machine should have nothing else to do. Each seed's own figures are kept under `demo.seed_<n>.*`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

RESULTS = Path(__file__).resolve().parent / "results"
WORST = {
    "demo.seconds": max,
    "demo.recall_before": max,
    "demo.recall_after": min,
    "demo.frames_dropped": max,
    "demo.examples_lost": max,
    "demo.train_seconds": max,
    "demo.known_recall_before": min,
    "demo.known_recall_after": min,
}


def run_demo(work: Path, *arguments: str) -> dict[str, float | str]:
    """Run the demo in a new folder and return its summary."""
    folder = work / "demo"
    command = [sys.executable, "-m", "flows.cli", "demo", "--folder", str(folder), *arguments]
    subprocess.run(command, check=True, stdout=sys.stderr, cwd=Path(__file__).resolve().parent.parent)
    summary: dict[str, float | str] = json.loads((folder / "report" / "summary.json").read_text())
    return summary


def measure_line(seeds: list[int]) -> dict[str, float | str]:
    """Return the worst figure of all seeds under its name, and each seed's figures beside it."""
    figures: dict[str, float | str] = {}
    runs = []
    for seed in seeds:
        with tempfile.TemporaryDirectory() as work:
            runs.append(run_demo(Path(work), "--seed", str(seed), "--no-random-choice"))
    for name, worst in WORST.items():
        figures[name] = worst(float(run[name]) for run in runs)
        for seed, run in zip(seeds, runs, strict=True):
            figures[name.replace("demo.", f"demo.seed_{seed}.")] = run[name]
    return {**figures, "machine": runs[-1]["machine"], "date": runs[-1]["date"]}


def main() -> None:
    """Measure what was asked for and write the result."""
    parser = argparse.ArgumentParser(description="Measure the demo; see the head of this file.")
    parser.add_argument("what", choices=("line", "real"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--images")
    parser.add_argument("--model")
    given = parser.parse_args()
    if given.what == "line":
        name, figures = "demo", measure_line(given.seeds)
    else:
        with tempfile.TemporaryDirectory() as work:
            name, figures = "real", run_demo(Path(work), "--images", given.images, "--model", given.model)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
