"""Work out what people ask about a run, from documents of every age."""

from __future__ import annotations

import io
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fleet_contracts import keys, utc_now
from fleet_contracts.judging import GateReport
from flows.context import Context
from flows.gpus.money import cost_of_run
from flows.tracking import words
from flows.tracking.comparing import compare
from flows.tracking.drawing import draw
from flows.tracking.errors import NothingToDraw, UnknownRun
from flows.tracking.gather import find_run, known_runs, story_of
from flows.tracking.story import Story, facts_of
from tests.fleet_contracts.examples import examples
from tests.flows.kit import TASK
from tests.flows.tracking.seeded import (
    BEGAN,
    FAILED,
    FITS,
    GIB,
    NEW,
    OLD,
    lease,
    old_record,
    plan,
    put,
    record,
    seed,
    story,
)

NOW = BEGAN + timedelta(hours=1)


def test_facts_of_a_whole_run() -> None:
    """State, epochs, speed, money, memory, data and verdict come out as the documents have them."""
    facts = facts_of(story(), NOW)
    assert (facts.state, facts.epochs, facts.epochs_planned, facts.seconds) == ("finished", 6, 6, 600.0)
    assert facts.images_per_second == 93.5
    assert facts.cost == pytest.approx(0.25)
    assert (facts.vram_planned, facts.vram_seen, facts.vram_confirmed) == (5 * GIB, 4 * GIB, False)
    assert (facts.data_wait, facts.utilisation, facts.hit_rate) == (pytest.approx(0.1), 0.8, 0.75)
    assert facts.rungs == ("epoch 4: batch; batch 16 to 8, accumulation 1 to 2; out of memory in backward",)
    assert facts.watch == ("epoch 2: loader: waits for data 40 % of the time",)
    assert (facts.resumes, facts.verdict, facts.release_version) == (1, "promoted", 2)
    assert facts.elapsed == 2400.0


def test_estimates_no_gpu_confirmed_say_so() -> None:
    """Predicted memory is marked wherever it is put into words, until a measured run confirmed it."""
    assert words.vram_planned(facts_of(story(), NOW)) == "5.00 GiB (not confirmed)"
    confirmed = plan(vram=FITS.model_copy(update={"confirmed": True}), stages=plan().stages[:1])
    assert words.vram_planned(facts_of(story(plan=confirmed), NOW)) == "5.00 GiB"


def test_a_record_of_the_first_version_has_dashes_not_zeros() -> None:
    """What nobody measured is unknown: no wait of 0 %, no memory of 0 GiB, no money of $0."""
    facts = facts_of(Story(TASK, OLD, record=old_record()), NOW)
    said = words.summary(facts)
    for name in (
        "VRAM predicted",
        "VRAM seen",
        "data wait",
        "utilisation",
        "data cache hits",
        "cost",
        "gate",
    ):
        assert said[name] == "-", name
    assert (said["state"], said["epochs"], said["device"]) == ("finished", "2/-", "cpu")


def test_a_run_without_any_document_is_told() -> None:
    """A run that only has a name makes a line of dashes."""
    facts = facts_of(Story(TASK, FAILED), NOW)
    assert (facts.state, facts.epochs, words.summary(facts)["time of epochs"]) == ("planned", 0, "-")


def test_costs_follow_the_leases() -> None:
    """Each lease costs its own price for its own time, live ones until now; an unknown price is not nothing."""
    assert cost_of_run((), NOW) is None
    live = lease(state="launched", ended_at=None, spot=True)
    assert cost_of_run((lease(), live), NOW) == pytest.approx(0.25 + 0.2)
    assert cost_of_run((lease(cost=0.75),), NOW) == 0.75
    unknown = lease(offer=lease().offer.model_copy(update={"on_demand_price": None}))
    assert cost_of_run((lease(), unknown), NOW) is None
    never = lease(machine="", state="ended")
    assert cost_of_run((never,), NOW) == 0.0


def test_comparison_marks_what_differs() -> None:
    """Plan and outcome lie side by side; only what the runs disagree on is marked."""
    other = Story(TASK, OLD, plan=plan(OLD, learning_rate=0.01), record=old_record())
    lines = {(line.part, line.name): line for line in compare([story(), other], NOW)}
    assert lines["plan", "learning_rate"].values == ("0.001", "0.01")
    assert lines["plan", "learning_rate"].differs
    assert not lines["plan", "optimizer"].differs
    assert lines["outcome", "rungs"].values == ("1", "0")
    assert lines["measure", "candidate.val_map50"].values == ("0.75", "-")


def test_a_picture_has_curves_and_marks(tmp_path: Path) -> None:
    """The file is a PNG in which curves, rung and resume can be seen; several runs fit into one."""
    plain = record(rungs=(), resumes=())
    marked = _pixels(draw([story()], tmp_path / "marked.png", NOW))
    unmarked = _pixels(draw([story(record=plain)], tmp_path / "plain.png", NOW))
    assert marked.shape[0] > 400
    assert len(np.unique(marked.reshape(-1, 3), axis=0)) > 50
    for colour in ("red", "violet"):
        assert _count(marked, colour) > _count(unmarked, colour) + 300
    both = draw([story(), Story(TASK, OLD, record=old_record())], tmp_path / "both.png", NOW)
    assert both.stat().st_size > 10_000


def test_nothing_to_draw_is_told(tmp_path: Path) -> None:
    """Runs without an epoch make no empty picture."""
    with pytest.raises(NothingToDraw, match=FAILED):
        draw([Story(TASK, FAILED)], tmp_path / "none.png", NOW)
    assert not (tmp_path / "none.png").exists()


def test_stories_come_from_bucket_and_database(ctx: Context) -> None:
    """A run is whole again from both; the newest comes first, one that only the bucket has comes last."""
    seed(ctx)
    lost = "run-1111111111111111"
    put(ctx, keys.run(TASK, lost, "events/000000.json"), b"{}")
    put(ctx, keys.run(TASK, lost, "plan.json"), b"not a plan")
    assert known_runs(ctx, TASK) == (NEW, OLD, FAILED, lost)
    found = facts_of(story_of(ctx, TASK, NEW), NOW)
    assert (found.cost, found.release_version, found.verdict) == (pytest.approx(0.25), 2, "promoted")
    broken = story_of(ctx, TASK, lost)
    assert broken.plan is None
    assert "plan.json" in broken.problems[0]


def test_a_run_is_found_by_how_it_begins_or_near_ones_are_named(ctx: Context) -> None:
    """A beginning that fits one run is enough; one that fits several, or none, names what is near."""
    seed(ctx)
    assert find_run(ctx, "run-99").run_id == FAILED
    assert find_run(ctx, "99aa").run_id == FAILED
    with pytest.raises(UnknownRun, match=f"such as {NEW}, {OLD}"):
        find_run(ctx, "run-00")
    with pytest.raises(UnknownRun, match=NEW):
        find_run(ctx, "run-00aa11bb22cc33de")
    with pytest.raises(UnknownRun, match="one of the runs"):
        find_run(ctx, "xyz")
    with pytest.raises(UnknownRun):
        find_run(ctx, "")


def test_no_run_at_all_says_what_to_do(ctx: Context) -> None:
    """An installation without a run names the command that starts one."""
    with pytest.raises(UnknownRun) as told:
        find_run(ctx, "run-1")
    assert "whetstone retrain" in told.value.diagnostics()


def _pixels(path: Path) -> np.ndarray:
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def _count(pixels: np.ndarray, colour: str) -> int:
    """Count the pixels of a mark's colour, which is never pure: lines lie between two columns."""
    red, green, blue = (pixels[:, :, channel].astype(int) for channel in range(3))
    if colour == "red":
        return int(((red > 200) & (green < 120) & (blue < 120)).sum())
    return int(((blue > 190) & (red > 140) & (green < red - 20)).sum())


def test_the_format_that_ships_is_named_where_several_were_judged() -> None:
    """Who reads the verdict sees which of the files went out."""
    gate = examples()["gate_report_on_two_formats.v1"]
    assert isinstance(gate, GateReport)
    facts = facts_of(Story("pcb", gate.candidate_id, gate=gate), utc_now())
    assert words.verdict(facts) == "promoted as fp32"
