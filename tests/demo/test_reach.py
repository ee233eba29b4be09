"""What the demo must reach on two cores; long, so run by `make soak` and not by `make test`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import ROOT, shared_data


def _run(*arguments: str, folder: Path, seconds: float) -> dict[str, float]:
    command = [sys.executable, "-m", "flows.cli", "demo", "--folder", str(folder), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    figures: dict[str, float] = json.loads((folder / "report" / "summary.json").read_text())
    return figures


@pytest.mark.soak
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_line_that_changed(tmp_path: Path, seed: int) -> None:
    """Within six minutes the boxes find what changed and what is new; no frame and no example is lost."""
    figures = _run("--seed", str(seed), "--no-random-choice", folder=tmp_path / "demo", seconds=1400)
    assert figures["demo.seconds"] <= 360
    assert figures["demo.recall_before"] < 0.4
    assert figures["demo.recall_after"] > 0.8
    assert figures["demo.frames_dropped"] == 0
    assert figures["demo.examples_lost"] == 0


@pytest.mark.soak
@pytest.mark.timeout(1500)
def test_a_line_that_changed_on_rented_machines(tmp_path: Path) -> None:
    """Trained on spot, with a preemption in the middle: as good, within the same time, cheaper, nothing lost."""
    figures = _run(
        "--gpu", "simulated", "--no-random-choice", folder=tmp_path / "demo", seconds=1400
    )  # fmt: skip
    assert figures["rent.demo_preemptions"] == 1
    assert figures["rent.demo_machines"] == 2
    assert figures["rent.demo_lost_epochs"] <= 1.0
    assert figures["rent.demo_saved_share"] > 0.0
    assert figures["rent.demo_cost"] >= figures["rent.demo_bill"]
    assert figures["demo.seconds"] <= 360
    assert figures["demo.recall_after"] > 0.8
    assert figures["demo.frames_dropped"] == 0
    assert figures["demo.examples_lost"] == 0


@pytest.mark.soak
@pytest.mark.timeout(2400)
def test_real_boards(tmp_path: Path) -> None:
    """On real images the new boards gain ten points, and the old ones lose at most one."""
    figures = _run(
        "--images", str(shared_data("data/deeppcb")), "--model", str(shared_data("models/deeppcb-base.pt")),
        folder=tmp_path / "demo", seconds=2300,
    )  # fmt: skip
    assert figures["real.promoted"] == 1
    assert figures["real.new_val_gain"] >= 10.0
    assert figures["real.base_val_loss"] <= 1.0
    assert figures["real.seconds"] <= 1500
