"""Measure what passes from "enough is labelled" to the first training step on a rented machine.

    python bench/renting_overhead.py [--runs 3] [--write]

Each run is the demo on the simulated cloud from an empty folder, with every real part: database, Prefect
with its automation and worker, the flow's process, plan, lease, launch, a machine of its own that claims its
ticket, is checked, fetches its data and trains. It trains two epochs only, and no machine is taken away.
`--write` puts the table into docs/benchmarks.md and the figures into `bench/results/renting_overhead.json`.
The computer should have nothing else to do; the load when each run began is told.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
# In place of this folder, in which `demo.py` would hide the package of that name.
sys.path[0] = str(ROOT)

from bench.renting_parts.overhead import BEGIN, END, Figures, figures_of, markdown  # noqa: E402 - after the path
from bench.reporting import put_between  # noqa: E402

DOCUMENT = ROOT / "docs" / "benchmarks.md"
RESULTS = ROOT / "bench" / "results" / "renting_overhead.json"
SETTINGS: dict[str, Any] = {
    "training": {"epochs": 2, "precisions": ["fp32"], "short_card": None},
    "cloud": {"kind": "simulated"},
    "unseen_parts": 40,
    # Two epochs need not make a good model: what is measured is over by then.
    "gate": {"max_golden_loss": 1.0, "max_golden_loss_worst": 1.0, "max_class_loss": 1.0,
             "class_ap50_floor": 0.0, "max_more_escapes_per_1000": 1000,
             "max_more_false_rejects_per_1000": 1000,
             "min_val_gain": -1.0, "max_latency_ratio": 50.0, "latency_slack_ms": 500.0, "ship": ["fp32"]},
}  # fmt: skip


def measure(work: Path) -> Figures:
    """Run the demo once and return its figures, with the load when it began."""
    settings = work / "settings.json"
    settings.write_text(json.dumps(SETTINGS))
    load = os.getloadavg()[0]
    command = [sys.executable, "-m", "demo.loop", "--folder", str(work / "demo"), "--settings", str(settings),
               "--no-random"]  # fmt: skip
    subprocess.run(command, check=True, stdout=sys.stderr, cwd=ROOT)
    figures: Figures = json.loads((work / "demo" / "report" / "summary.json").read_text())
    if "rent.overhead_s" not in figures:
        raise SystemExit(
            "expected every part of the beginning to be told, got some missing: see the demo's logs"
        )
    return {**figures, "load": round(load, 2)}


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description="Measure the way from enough labels to the first step.")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks.md and bench/results")
    given = parser.parse_args()
    runs = []
    for _ in range(given.runs):
        with tempfile.TemporaryDirectory() as work:
            runs.append(measure(Path(work)))
    print(markdown(runs))
    if given.write:
        put_between(DOCUMENT, (BEGIN, END), markdown(runs))
        RESULTS.write_text(json.dumps(figures_of(runs), indent=1) + "\n")


if __name__ == "__main__":
    main()
