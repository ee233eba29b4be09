"""Scale a trace of small images to sizes never traced, and take the step there for real."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.helpers import ROOT
from tests.trainer.vram.conftest import TINY, TWO_HEADS
from trainer.vram import ModelProfile, TrainingShape
from trainer.vram.persistent import CUBLAS_BYTES
from trainer.vram.profile import TERMS
from trainer.vram.replay import replay

_OPTIMIZER = TERMS.index("optimizer")
_MOST_OFF = 0.02


@pytest.fixture(scope="module")
def real() -> dict[str, list[dict[str, Any]]]:
    """Take the real steps, in one process."""
    command = [sys.executable, "-m", "tests.trainer.vram.real_steps", TINY, TWO_HEADS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, list[dict[str, Any]]] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("name", ["tiny", "two_heads"])
def test_scaling_is_exact_at_sizes_never_traced(
    name: str, real: dict[str, list[dict[str, Any]]], request: pytest.FixtureRequest
) -> None:
    """Another image size, batch, box count and precision: live bytes within two percent of the real step's."""
    profile: ModelProfile = request.getfixturevalue(name)
    for told in real[TINY if name == "tiny" else TWO_HEADS]:
        boxes = told["boxes"]
        shape = TrainingShape(
            told["side"], len(boxes), "bf16" if told["mixed"] else "fp32", boxes_per_image=boxes[0],
            most_boxes=boxes[0], mosaic=False, box_area=0.16,
        )  # fmt: skip
        found = replay(profile, shape)
        scaled = found.peak_allocated - CUBLAS_BYTES - found.at_peak[_OPTIMIZER]
        assert scaled / told["live"] == pytest.approx(1.0, abs=_MOST_OFF), told


@pytest.mark.parametrize("name", ["tiny", "two_heads"])
def test_sizes_are_met_to_the_byte(name: str, request: pytest.FixtureRequest) -> None:
    """Hardly any traced block needs a bound in place of an exact polynomial."""
    profile: ModelProfile = request.getfixturevalue(name)
    assert profile.exact_share > 0.999


def test_attention_grows_with_the_square_of_pixels(two_heads: ModelProfile) -> None:
    """The scores of attention are found to be quadratic, which no proportional rule would see."""
    monomials = {name for one in two_heads.timelines["fp32"].polynomials for name, _factor in one}
    assert "BPP" in monomials


def test_label_assignment_grows_with_boxes_times_pixels(tiny: ModelProfile) -> None:
    """What the assigner holds for each pair of box and anchor is found as such."""
    monomials = {name for one in tiny.timelines["fp32"].polynomials for name, _factor in one}
    assert "BPn" in monomials


def test_two_heads_are_assigned_apart(two_heads: ModelProfile) -> None:
    """The one-to-one head gives each box one anchor, the other ten."""
    assert two_heads.topk == (10, 1)
    assert two_heads.end_to_end
