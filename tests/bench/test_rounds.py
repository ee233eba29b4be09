"""Test the bench's children for real: a tiny model, the real loop, pinned processes, a busy other core."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from bench.edge_parts import rounds
from bench.edge_parts.children import ChildFailed
from bench.edge_parts.exports import Exports
from bench.edge_parts.plan import BARE, ENGINE, LOOP, ROBOFLOW, Growth, Scenario, Tails
from tests.detection.onnx_models import TinyModel, save

CORES = sorted(os.sched_getaffinity(0))


@pytest.fixture
def exports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Exports:
    """Make a tiny model that finds one box for sure, and frames for it."""
    monkeypatch.setattr(rounds, "WORK", tmp_path)
    model = save(TinyModel(), tmp_path / "tiny.onnx")
    frames = tmp_path / "frames.npy"
    np.save(frames, np.random.default_rng(0).integers(0, 255, (2, 1080, 1920, 3), dtype=np.uint8))
    return Exports(64, tmp_path / "none.pt", model, model, frames, TinyModel().class_names)


def ignore(_seconds: float) -> None:
    """Show no bar."""


def test_contenders_are_measured_in_turn_on_one_core(exports: Exports) -> None:
    """Each block has every frame; the loop decided on all of them; no thread left the measured core."""
    scenario = Scenario(64, 1, {ENGINE: 1, BARE: 1, LOOP: 1}, 2, 30)
    measured = rounds.run_scenario(scenario, exports, ignore)
    assert [list(told) for told in measured.rounds] == [[ENGINE, BARE, LOOP], [LOOP, BARE, ENGINE]]
    assert all(
        len(block.ms) == 30 and min(block.ms) > 0 for told in measured.rounds for block in told.values()
    )
    assert {tuple(facts["cores"]) for facts in measured.facts.values()} == {(rounds.MEASURED_CORE,)}
    loop = measured.facts[LOOP]
    assert (loop["dropped"], loop["lost"], loop["problems"]) == (0, 0, {})
    assert loop["inspected"] == 2 + 2 * (30 + 5 + 1)
    assert measured.found[LOOP][0][0][4] == pytest.approx(0.9)
    assert measured.blocks(LOOP)[0].told["stages"]["engine"][0] > 0


def test_a_peer_that_is_not_installed_is_told_and_not_fatal(
    exports: Exports, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The other contenders are measured; the table says why one is missing."""
    monkeypatch.setattr(rounds, "PEERS", tmp_path / "nowhere")
    measured = rounds.run_scenario(Scenario(64, 1, {BARE: 1, ROBOFLOW: 1}, 1, 5), exports, ignore)
    assert "scripts/peers.sh" in measured.missing[ROBOFLOW]
    assert list(measured.rounds[0]) == [BARE]


def test_a_child_that_cannot_start_says_why(exports: Exports, tmp_path: Path) -> None:
    """A model that is no model ends the bench with the child's own words."""
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    bad = Exports(64, broken, broken, broken, exports.frames, exports.names)
    with pytest.raises(ChildFailed, match="ModelFileError"):
        rounds.open_child(LOOP, bad, [rounds.MEASURED_CORE])


@pytest.mark.skipif(len(CORES) < 2, reason="needs a second core to be busy")
def test_the_other_core_works_only_when_it_should(exports: Exports) -> None:
    """Uploads arrive, releases are downloaded, tested and loaded; idle blocks come first and last."""
    beside = rounds.run_tails(Tails(64, 2, 2000), exports, CORES[1], ignore)
    assert [len(block.ms) for block in (*beside.idle, *beside.busy)] == [2000] * 4
    assert beside.done["uploads"] == beside.done["received"] > 0
    assert beside.done["downloads"] > 0
    assert beside.done["self_tests"] > 0


def test_memory_is_sampled_along_frames_and_swaps(exports: Exports) -> None:
    """Every swap put another model into service, and every sample is there."""
    growth = Growth(
        frames=200, frames_size=64, sample_every=100, swaps=3, swaps_size=64, frames_per_swap=3, first_swaps=1
    )
    memory = rounds.run_growth(growth, {64: exports}, ignore)
    assert (len(memory.by_frames), len(memory.by_swaps), len(memory.gaps_ms)) == (2, 3, 3)
    assert min(*memory.by_frames, *memory.by_swaps) > 20
