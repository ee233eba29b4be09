"""Compare our cast rules with CUDA's own dispatcher, which a torch built for CUDA can run without a card."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.helpers import ROOT, missing
from tests.trainer.vram.conftest import TWO_HEADS


def test_forward_makes_the_same_tensors_as_cudas_autocast() -> None:
    """Every tensor of a forward pass under autocast has CUDA's shape and number format, and none is missing."""
    command = [sys.executable, "-m", "tests.trainer.vram.fake_cuda", TWO_HEADS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout.splitlines()[-1])
    if told is None:
        missing("a torch built for CUDA", "install torch from the package index, not its +cpu build")
    ours, cudas = told
    assert len(cudas) > 100
    assert ours == cudas
