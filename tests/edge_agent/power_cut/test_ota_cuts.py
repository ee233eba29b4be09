"""Test that no power cut takes a release away that had been installed: the real slots, on real files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.helpers import ROOT


def test_a_cut_while_releases_are_installed_leaves_a_whole_one(shim: Path, fast_folder: Path) -> None:
    """Cut at every step: what serves is whole, and never older than what was said to serve."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.edge_agent.power_cut.ota_cuts", str(fast_folder)],
        cwd=ROOT,
        env={**os.environ, "LD_PRELOAD": str(shim)},
        capture_output=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    lives = [json.loads(line) for line in done.stdout.splitlines()]
    assert [life["cut"] for life in lives] == [True] * (len(lives) - 1) + [False]
    assert len(lives) > 40
    for life in lives:
        switched = max((int(one.split()[1]) for one in life["done"] if one.startswith("switched")), default=0)
        assert life["whole"], life
        assert life["current"] >= switched, life
    assert lives[-1] == {
        "done": ["switched 1", "confirmed 1", "switched 2", "confirmed 2"],
        "cut": False,
        "current": 2,
        "confirmed": True,
        "whole": True,
    }
