"""Walk the whole ladder with real trainings on a simulated card: every rung, every moment, and every restart."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from fleet_contracts.base import decode, encode
from fleet_contracts.training import MemoryPolicy, RunRecord, TrainStage
from tests.helpers import ROOT, wait_until
from tests.trainer.conftest import job_for
from tests.trainer.scenes import MODEL, SIZE
from tests.trainer.store import RunStore
from trainer.backend import run_to_end
from trainer.backend_job import JOB_FILE, BackendEvent, BackendJob, BackendResult
from trainer.dataset import DatasetOnDisk
from trainer.errors import LadderExhausted
from trainer.ladder import Ladder, read_taken
from trainer.memory import Load, SimulatedMemory, Surge
from trainer.memory.simulator import ENVIRONMENT, Moment
from trainer.run import run_ticket

MIB = 2**20
CARD = 100 * MIB
EPOCHS = 6


class Leg(NamedTuple):
    """Say where memory runs out, which rung it must lead to, and what the child must then report."""

    moment: Moment
    epoch: int
    step: int
    rung: str
    shows: dict[str, Any]
    after: dict[str, Any]
    """What the step holds once the rung is taken, as the simulated card counts it."""


LEGS = (
    Leg("forward", 1, 1, "amp", {"amp": True, "precision": "bf16"}, {"half": True}),
    Leg("loss", 1, 2, "batch", {"batch": 4, "nbs": 8}, {"batch": 4}),
    Leg("backward", 2, 1, "mixing-off", {"mixup": 0.0, "cutmix": 0.0, "copy_paste": 0.0}, {"mixing": False}),
    Leg("optimizer", 2, 2, "mosaic-off", {"mosaic": 0.0}, {"mosaic": False}),
    Leg("ema", 3, 2, "expandable-segments", {"expandable_segments": True}, {"expandable": True}),
    Leg("validation", 3, 3, "smaller-image", {"image_size": SIZE}, {"image_size": SIZE}),
    Leg("loader", 5, 2, "smaller-model", {"batch": 4}, {"model": "smaller.yaml"}),
)
KILLED_AFTER = 2
"""Rungs after which the whole trainer is killed, and another one goes on."""
PARENT = """
import sys
from pathlib import Path
from fleet_contracts.training import MemoryPolicy
from trainer.backend import run_to_end
from trainer.backend_job import BackendJob
from trainer.ladder import Ladder

folder = Path(sys.argv[1])
job = BackendJob.model_validate_json((folder / "asked.json").read_bytes())
policy = MemoryPolicy.model_validate_json((folder / "policy.json").read_bytes())

def tell(event):
    with (folder / "told.jsonl").open("a") as stream:
        stream.write(event.to_line())

run_to_end(job, tell, ladder=Ladder(policy=policy))
"""


class Tour(NamedTuple):
    """Hold one run that went down all of the ladder, and what its second parent told again."""

    result: BackendResult
    events: list[BackendEvent]
    told_again: list[BackendEvent]


def card_for_tour() -> SimulatedMemory:
    """Return a card on which each leg's need is just too much before its rung and not after it."""
    model = SimulatedMemory(
        card_bytes=CARD, fixed_bytes=MIB, model_shares={"smaller.yaml": 0.5}, rigid_share=0.3, surges=()
    )
    load: dict[str, Any] = {
        "batch": 8,
        "image_size": 2 * SIZE,
        "mosaic": True,
        "mixing": True,
        "expandable": False,
    }
    surges = []
    for leg in LEGS:
        factor = (1.03 * CARD - MIB) / (model.need(Load(**load)) - MIB)
        surges.append(Surge(moment=leg.moment, epoch=leg.epoch, step=leg.step, factor=factor))
        load |= leg.after
        assert model.need(Load(**load), factor) < CARD
    return model.model_copy(update={"surges": tuple(surges)})


@pytest.fixture(scope="module")
def tour(dataset: DatasetOnDisk, tmp_path_factory: pytest.TempPathFactory) -> Tour:
    """Return a run whose memory ran out seven times, at as many places, and whose parent was killed once."""
    folder = tmp_path_factory.mktemp("tour")
    smaller = folder / "smaller.yaml"
    smaller.write_text(MODEL.read_text().replace("[32, 3, 2]", "[24, 3, 2]"))
    job = job_for(
        dataset, folder / "out", image_size=2 * SIZE, epochs=EPOCHS, batch=8, augmentation="heavy",
        precision="fp32", expandable_segments=False, validate_every=1, export=False, simulated_memory=card_for_tour(),
    )  # fmt: skip
    policy = MemoryPolicy(smaller_images=(SIZE,), smaller_models=(str(smaller),), least_batch=4)
    first = _killed_parent(folder, job, policy)
    events: list[BackendEvent] = []
    result = run_to_end(job, events.append, ladder=Ladder(policy=policy))
    return Tour(result, [*first, *events[KILLED_AFTER:]], events[:KILLED_AFTER])


def _killed_parent(folder: Path, job: BackendJob, policy: MemoryPolicy) -> list[BackendEvent]:
    """Let another process train, kill it while the child after its second rung starts, and return what it told."""
    (folder / "asked.json").write_text(job.model_dump_json())
    (folder / "policy.json").write_text(policy.model_dump_json())
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(folder)], cwd=ROOT)

    def next_child_starts() -> bool:
        assert parent.poll() is None, "the first parent ended by itself"
        taken = read_taken(job.out)
        return (
            len(taken) == KILLED_AFTER and json.loads((job.out / JOB_FILE).read_text())["batch"] < job.batch
        )

    try:
        wait_until(next_child_starts, 120, "two rungs")
    finally:
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
    return [BackendEvent.from_line(line) for line in (folder / "told.jsonl").read_text().splitlines()]


def rungs_of(events: list[BackendEvent]) -> list[BackendEvent]:
    """Return the rung events."""
    return [event for event in events if event.kind == "rung"]


def test_memory_that_runs_out_anywhere_leads_down_a_rung_and_the_run_ends(tour: Tour) -> None:
    """In forward, loss, backward, optimizer, EMA, validation and loader, in early and late epochs, in order."""
    told = [
        (one.data["moment"], one.epoch, one.data["step"], one.data["rung"]) for one in rungs_of(tour.events)
    ]
    assert told == [(leg.moment, leg.epoch, leg.step, leg.rung) for leg in LEGS]
    assert all(one.data["error"] == "OutOfMemoryError" for one in rungs_of(tour.events)), "torch's own error"
    assert tour.result.weights.is_file()
    assert tour.events[-1].kind == "finished"


@pytest.mark.parametrize("number", range(len(LEGS)), ids=[f"{leg.rung}-{leg.moment}" for leg in LEGS])
def test_each_rung_changes_what_is_really_in_force(tour: Tour, number: int) -> None:
    """The settings that the trainer reports after a rung are those it promised, and stay so."""
    rung = rungs_of(tour.events)[number]
    later = [event for event in tour.events[tour.events.index(rung) :] if event.kind == "epoch"]
    assert later, "no epoch was finished after the rung"
    wanted = LEGS[number].shows
    assert {name: later[0].data["settings"][name] for name in wanted} == wanted
    for name, value in rung.data["must_show"].items():
        assert later[0].data["settings"][name] == value


def test_every_rung_says_why_and_what_was_seen(tour: Tour) -> None:
    """Reason, kind, bytes, and old and new values are in the record's words."""
    for rung in rungs_of(tour.events):
        assert rung.data["kind"] == "device"
        assert rung.data["limit_bytes"] == CARD
        assert rung.data["seen_bytes"] + rung.data["asked_bytes"] > CARD
        assert rung.data["changed"]
        assert "card's memory ran out" in rung.data["reason"]
    assert [rung.data["ships_changed"] for rung in rungs_of(tour.events)] == [False] * 5 + [True, True]


def test_a_killed_parent_s_rungs_hold_for_the_next_one(tour: Tour) -> None:
    """SIGKILL of the whole trainer: another parent tells what it finds, and starts on those rungs."""
    told = rungs_of(tour.events)[:KILLED_AFTER]
    assert [one.data for one in tour.told_again] == [one.data for one in told]
    settings = next(one for one in tour.events if one.kind == "epoch").data["settings"]
    assert (settings["precision"], settings["batch"]) == ("bf16", 4)


def test_no_epoch_is_lost_and_none_is_told_twice(tour: Tour) -> None:
    """Every start goes on from the last checkpoint; only a smaller model begins again."""
    places = [number for number, event in enumerate(tour.events) if event.kind == "rung"]
    same_model = tour.events[: places[-1]]
    assert [event.epoch for event in same_model if event.kind == "epoch"] == [1, 2, 3, 4]
    for place in places[:-1]:
        rung = tour.events[place]
        resumed = [event.epoch for event in tour.events[place : place + 3] if event.kind == "resumed"]
        assert resumed == ([rung.epoch - 1] if rung.epoch > 1 else [])
    again = [event.epoch for event in tour.events[places[-1] :] if event.kind == "epoch"]
    assert again == list(range(1, EPOCHS + 1)), "the smaller model trains all epochs"


def test_live_weights_after_a_rung_are_those_before_it(tour: Tour) -> None:
    """What a checkpoint held is what the next child goes on from, to the bit."""
    pairs = [
        (earlier, later)
        for earlier, later in pairwise(one for one in tour.events if one.kind in ("epoch", "resumed"))
        if later.kind == "resumed"
    ]
    assert len(pairs) >= 3
    assert all(earlier.data["weights"] == later.data["weights"] for earlier, later in pairs)


def test_a_card_that_holds_nothing_ends_the_run_with_the_reason(
    dataset: DatasetOnDisk, tmp_path: Path
) -> None:
    """With no rung left the run ends with what was seen and what to do; it is not tried again."""
    tiny = SimulatedMemory(card_bytes=MIB, fixed_bytes=MIB // 2, surges=(Surge(moment="forward"),))
    job = job_for(dataset, tmp_path, batch=1, precision="bf16", simulated_memory=tiny, export=False)
    events: list[BackendEvent] = []
    with pytest.raises(LadderExhausted, match=r"(?s)forward, epoch 1, step 1.*no rung was left") as caught:
        run_to_end(job, events.append)
    assert not caught.value.resumable
    assert [event.kind for event in events] == ["started"]


def test_another_machine_starts_on_the_rung_and_later_stages_below_it(
    trained: tuple[BackendResult, list[BackendEvent]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From bucket alone: the rung in force is applied at once, and the next stage does not die of the same."""
    card = SimulatedMemory(card_bytes=8 * MIB, fixed_bytes=MIB, surges=(Surge(moment="backward", epoch=2),))
    monkeypatch.setenv(ENVIRONMENT, card.model_dump_json())
    store = RunStore(trained[0].weights.read_bytes())
    stages = (TrainStage(image_size=SIZE, epochs=8, batch=8), TrainStage(image_size=SIZE, epochs=2, batch=8))
    store.plan = store.plan.model_copy(update={"stages": stages, "amp": True})
    store.put("plan.json", encode(store.plan))

    def rungs_and_checkpoint() -> bool:
        record = store.get("run.json")
        note = json.loads(store.get("checkpoint.json") or b'{"epoch": 0}')
        return record is not None and b'"rung":"amp' in record.replace(b" ", b"") and note["epoch"] >= 2

    what = "a rung in the record and a checkpoint after it"
    store.interrupt(tmp_path / "lost", rungs_and_checkpoint, what)
    shutil.rmtree(tmp_path / "lost")
    rungs_before = store.events().count("rung")
    run_ticket(store.ticket_file(tmp_path), tmp_path / "new", wire=store.wire)
    record = decode(RunRecord, store.get("run.json") or b"", where="run.json")
    told = [(event.data["stage"], event.data["rung"], event.data["foreseen"]) for event in record.rungs]
    assert rungs_before >= 1
    assert told[0] == (0, "amp+batch", False)
    assert [row for row in told if row[0] == 0] == told[:1], "the other machine did not die of it again"
    assert [row for row in told if row[0] == 1], "the next stage was not stepped down before it began"
    assert all(foreseen for stage, _, foreseen in told if stage == 1)
    assert [row.epoch for row in record.epochs] == list(range(1, 11))
