"""Choose rungs: order, exact batches, jumps, what the policy forbids, and what later stages learn; pure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fleet_contracts.training import MemoryPolicy, VramEstimate
from trainer.backend_job import BackendEvent, BackendJob
from trainer.errors import LadderExhausted
from trainer.ladder import Descent, Ladder, Outlook, Taken, expect_from_estimate, next_rung, read_taken
from trainer.ladder.expect import load_of
from trainer.ladder.keeping import write_taken
from trainer.ladder.rungs import MIXES_OF_LEVEL
from trainer.memory import Trouble
from trainer.memory.trouble import SHARED_MEMORY

MIB = 2**20
EVERYTHING = MemoryPolicy(smaller_images=(96, 64), smaller_models=("small.yaml", "tiny.yaml"))
CARD = Trouble(
    "device", "backward", 3, 7, seen_bytes=900 * MIB, limit_bytes=1000 * MIB, asked_bytes=120 * MIB
)
MACHINE = Trouble("host", "start", seen_bytes=900 * MIB, limit_bytes=1000 * MIB)


def job(out: Path = Path("/out"), **changes: Any) -> BackendJob:
    """Return a job that every rung has something to take from."""
    values = {
        "start": "large.yaml", "dataset": "/data", "out": out, "class_names": ("scratch",), "image_size": 128,
        "epochs": 10, "batch": 16, "precision": "fp32", "augmentation": "heavy", "workers": 4,
        "expandable_segments": False, "lineage": "run/stage-0", **changes,
    }  # fmt: skip
    return BackendJob.model_validate(values)


def walk(start: BackendJob, trouble: Trouble, policy: MemoryPolicy) -> list[tuple[str, dict[str, Any]]]:
    """Walk the whole ladder and return each rung's name with the new values."""
    walked = []
    now = start
    while (rung := next_rung(now, trouble, policy)) is not None:
        walked.append((rung.name, {name: new for name, (_, new) in rung.changed.items()}))
        now = rung.job
    return walked


def test_the_card_s_ladder_goes_down_in_its_order() -> None:
    """Half precision, batches, mixing, mosaic, segments, then what ships: each once it has nothing more."""
    walked = walk(job(), CARD, EVERYTHING)
    assert [name for name, _ in walked] == [
        "amp", "batch", "batch", "batch", "batch", "mixing-off", "mosaic-off", "expandable-segments",
        "smaller-image", "smaller-image", "smaller-model", "smaller-model",
    ]  # fmt: skip
    assert [new["batch"] for name, new in walked if name == "batch"] == [8, 4, 2, 1]
    assert [new["image_size"] for name, new in walked if name == "smaller-image"] == [96, 64]
    assert [new["start"] for name, new in walked if name == "smaller-model"] == ["small.yaml", "tiny.yaml"]


def test_the_machine_s_ladder_begins_with_cache_and_workers() -> None:
    """Cache from memory to disk to none, workers halved to none, and only then the batch."""
    walked = walk(job(), MACHINE, MemoryPolicy())
    assert [name for name, _ in walked] == [
        "cache", "cache", "workers", "workers", "workers", "batch", "batch", "batch", "batch", "mixing-off",
        "mosaic-off",
    ]  # fmt: skip
    assert [new["cache"] for name, new in walked if name == "cache"] == ["disk", "none"]
    assert [new["workers"] for name, new in walked if name == "workers"] == [2, 1, 0]


def test_shared_memory_is_no_matter_of_the_cache() -> None:
    """Where /dev/shm is full, fewer workers come first."""
    rung = next_rung(job(), replace(MACHINE, cause=SHARED_MEMORY), MemoryPolicy())
    assert rung is not None
    assert rung.name == "workers"


@pytest.mark.parametrize(
    ("batch", "accumulation", "devices", "offered"),
    [
        (16, 1, 1, [8, 4, 2, 1]),
        (12, 1, 1, [6, 3, 1]),
        (6, 4, 1, [3, 1]),  # 24: 4 and 2 come after 6 only where half of it is not passed
        (7, 1, 1, [1]),
        (16, 2, 4, [8, 4]),  # no fewer than one image a device
        (1, 16, 1, []),
    ],
)
def test_only_batches_that_keep_the_effective_one_are_offered(
    batch: int, accumulation: int, devices: int, offered: list[int]
) -> None:
    """Batch times accumulation stays exact, and every device gets a whole number of images."""
    now = job(precision="auto", batch=batch, accumulation=accumulation, devices=devices, augmentation="none",
              expandable_segments=True)  # fmt: skip
    seen = []
    while (rung := next_rung(now, CARD, MemoryPolicy())) is not None:
        now = rung.job
        seen.append(now.batch)
        assert now.batch * now.accumulation == batch * accumulation
        assert now.batch % devices == 0
    assert seen == offered


def test_a_policy_keeps_what_it_does_not_allow() -> None:
    """Without leave, neither mixing nor image nor model is touched, and no batch below the least is offered."""
    policy = MemoryPolicy(allow_mix_off=False, least_batch=4)
    assert [name for name, _ in walk(job(), CARD, policy)] == ["amp", "batch", "batch", "expandable-segments"]


def test_rungs_that_change_what_ships_say_so() -> None:
    """A smaller image or model is marked; a smaller model starts fresh, under checkpoints of its own."""
    low = job(precision="auto", batch=1, augmentation="none", expandable_segments=True, freeze_layers=10)
    image = next_rung(low, CARD, EVERYTHING)
    assert image is not None
    assert image.ships
    model = next_rung(low.model_copy(update={"image_size": 64}), CARD, EVERYTHING)
    assert model is not None
    assert model.ships
    assert (model.job.start, model.job.freeze_layers) == ("small.yaml", 0)
    assert model.job.lineage != low.lineage
    assert not any(rung.ships for rung in [next_rung(job(), CARD, EVERYTHING)] if rung)


def test_a_setting_that_is_off_in_the_child_is_no_rung() -> None:
    """What the child reports counts: with mosaic closed already, switching it off would change nothing."""
    low = job(precision="auto", batch=1, augmentation="full")
    off = next_rung(low, CARD, MemoryPolicy(), Outlook(in_force={"mosaic": 0.0}))
    assert off is not None
    assert off.name == "expandable-segments"
    fewer = next_rung(
        job(batch=16), replace(CARD), MemoryPolicy(), Outlook(in_force={"batch": 8}, expect=lambda _job: 0)
    )
    assert fewer is not None
    assert fewer.name == "amp"
    clipped = next_rung(job(batch=16, precision="auto"), CARD, MemoryPolicy(), Outlook(in_force={"batch": 8}))
    assert clipped is not None
    assert clipped.job.batch == 4, "the data hold 8 images, so 8 is no less"


def test_rungs_that_are_expected_not_to_fit_are_jumped_over() -> None:
    """With an estimate at hand one start takes as many harmless rungs as it needs, and says so."""
    needs = {16: 4000 * MIB, 8: 2200 * MIB, 4: 1300 * MIB, 2: 800 * MIB, 1: 600 * MIB}
    rung = next_rung(job(precision="auto"), CARD, EVERYTHING, Outlook(expect=lambda one: needs[one.batch]))
    assert rung is not None
    assert (rung.name, rung.job.batch, rung.job.accumulation) == ("batch", 2, 8)
    assert rung.expected_bytes == 800 * MIB
    assert "3 rungs at once" in rung.reason


def test_a_prediction_alone_changes_neither_training_nor_what_ships() -> None:
    """Where nothing harmless is expected to fit, the lowest harmless rung is still tried first."""
    rung = next_rung(job(), CARD, EVERYTHING, Outlook(expect=lambda _one: 10**12))
    assert rung is not None
    assert (rung.name, rung.job.batch) == ("amp+batch", 1)
    assert not rung.ships
    assert rung.job.augmentation_values == {}


def test_an_estimate_that_promised_too_much_is_raised_by_what_was_seen() -> None:
    """An estimate of half the truth is doubled before it chooses the next rung."""
    planned = job(precision="auto", augmentation="none")
    estimate = VramEstimate(terms={"weights": 0, "activations": 510 * MIB}, peak_bytes=510 * MIB)
    rung = next_rung(planned, CARD, MemoryPolicy(), Outlook(expect=expect_from_estimate(estimate, planned)))
    assert rung is not None
    assert rung.expected_bytes == pytest.approx(510 * MIB, rel=0.01)


def test_host_rungs_that_free_less_than_was_asked_for_are_jumped_over() -> None:
    """An allocation of 400 MiB in the forward pass is not answered by dropping a cache of 1 MiB."""
    trouble = Trouble("host", "forward", 1, 1, 900 * MIB, 1000 * MIB, asked_bytes=60 * MIB)
    rung = next_rung(job(image_size=128, workers=0), trouble, MemoryPolicy(), Outlook(images=20))
    assert rung is not None
    assert rung.job.cache == "none"
    assert rung.job.batch < 16
    unknown = next_rung(job(workers=0), trouble, MemoryPolicy())
    assert unknown is not None
    assert unknown.name == "cache", "without the number of images nobody knows, and the order holds"


def test_the_levels_mixes_are_those_of_the_backend() -> None:
    """What the ladder thinks a level mixes is what the backend's settings switch on."""
    from trainer.ultralytics_backend.settings import overrides_of

    for level, mixes in MIXES_OF_LEVEL.items():
        values = overrides_of(job(augmentation=level), masked=False, device="cpu")
        assert tuple(
            sorted(one for one in ("mosaic", "mixup", "cutmix", "copy_paste") if values[one])
        ) == tuple(sorted(mixes)), level


def test_rungs_taken_are_kept_told_once_and_applied_again(tmp_path: Path) -> None:
    """A new parent begins on the rung where the last one was, and tells only what was not told."""
    told: list[BackendEvent] = []
    first = Descent(job(tmp_path), Ladder(), told.append)
    first.step_down(CARD)
    first.step_down(CARD)
    assert [event.data["rung"] for event in told] == ["amp", "batch"]
    assert (told[0].epoch, told[0].data["moment"], told[0].data["seen_bytes"]) == (3, "backward", 900 * MIB)
    assert told[1].data["changed"]["batch"] == [16, 8]
    again: list[BackendEvent] = []
    second = Descent(job(tmp_path), Ladder(told=read_taken(tmp_path)[:1]), again.append)
    assert second.job == first.job
    assert [event.data["rung"] for event in again] == ["batch"], "the record held the first one alone"


def test_another_machine_goes_on_from_the_record(tmp_path: Path) -> None:
    """Without the folder, the rungs that the record holds are applied and kept."""
    rungs: list[BackendEvent] = []
    Descent(job(tmp_path / "lost"), Ladder(), rungs.append).step_down(CARD)
    kept = tuple(Taken.model_validate(event.data) for event in rungs)
    elsewhere = Descent(job(tmp_path / "new"), Ladder(told=kept), rungs.append)
    assert elsewhere.job.precision == "auto"
    assert len(rungs) == 1, "the record tells it already"


def test_a_damaged_list_of_rungs_costs_the_rungs_and_not_the_run(tmp_path: Path) -> None:
    """Bytes that are no list of rungs are set aside with a word."""
    (tmp_path / "rungs.json").write_bytes(b"\x00 not json")
    assert Descent(job(tmp_path), Ladder(), lambda _event: None).taken == ()


def test_the_end_of_the_ladder_tells_all_of_it(tmp_path: Path) -> None:
    """With nothing left to change, the error names every rung, what was seen and what to do."""
    policy = MemoryPolicy(least_batch=8, allow_mix_off=False)
    descent = Descent(job(tmp_path, expandable_segments=True), Ladder(policy=policy), lambda _event: None)
    descent.step_down(CARD)
    descent.step_down(CARD)
    with pytest.raises(LadderExhausted) as caught:
        descent.step_down(replace(CARD, epoch=5))
    text = str(caught.value)
    assert "1. amp (precision fp32 -> auto)" in text
    assert "2. batch (batch 16 -> 8" in text
    assert "epoch 5" in text
    assert "900 MiB taken of 1000 MiB" in text
    assert not caught.value.resumable
    assert "larger" in caught.value.diagnostics() or "more memory" in caught.value.diagnostics()


def test_the_plan_s_number_of_rungs_ends_the_ladder(tmp_path: Path) -> None:
    """No run restarts for memory more often than its plan allows."""
    descent = Descent(job(tmp_path), Ladder(policy=MemoryPolicy(most_rungs=1)), lambda _event: None)
    descent.step_down(CARD)
    with pytest.raises(LadderExhausted):
        descent.step_down(CARD)


def test_memory_that_is_only_near_its_end_changes_nothing_that_matters(tmp_path: Path) -> None:
    """A watch's word leads down harmless rungs alone, and a run that has none left goes on as it is."""
    near = replace(CARD, moment="watch", asked_bytes=0)
    told: list[BackendEvent] = []
    descent = Descent(job(tmp_path, batch=2), Ladder(policy=EVERYTHING), told.append)
    for _ in range(4):
        descent.step_down(near)
    assert [event.data["rung"] for event in told if event.kind == "rung"] == [
        "amp",
        "batch",
        "expandable-segments",
    ]
    assert told[-1].kind == "watch"
    assert "goes on as it is" in told[-1].data["why"]
    assert descent.job.watch.near_limit == 1.0
    assert descent.job.image_size == 128


def test_a_later_stage_does_not_begin_where_the_earlier_one_died(tmp_path: Path) -> None:
    """A step as heavy as the one that did not fit is stepped down before it is tried; a light one is not."""
    small = job(tmp_path / "0", precision="auto", augmentation="none")
    first = Descent(small, Ladder(), lambda _event: None)
    first.step_down(CARD)
    assert first.job.batch == 8
    told: list[BackendEvent] = []
    large = job(
        tmp_path / "1", precision="auto", augmentation="none", image_size=256, batch=8, accumulation=2
    )
    assert load_of(large) > load_of(small)
    later = Descent(large, Ladder(earlier=first.taken), told.append)
    assert later.job.batch * later.job.accumulation == 16
    assert load_of(later.job) < load_of(small)
    assert told[0].data["foreseen"]
    assert "did not fit in an earlier one" in told[0].data["reason"]
    light = job(tmp_path / "2", precision="auto", augmentation="none", batch=4, accumulation=4)
    assert Descent(light, Ladder(earlier=first.taken), told.append).job == light


def test_what_a_machine_could_not_hold_it_does_not_hold_later(tmp_path: Path) -> None:
    """Cache, workers and number format that an earlier stage gave up stay given up."""
    first = Descent(job(tmp_path / "0"), Ladder(), lambda _event: None)
    first.step_down(MACHINE)
    first.step_down(CARD)
    later = Descent(
        job(tmp_path / "1", batch=2, accumulation=8), Ladder(earlier=first.taken), lambda _event: None
    )
    assert (later.job.cache, later.job.precision) == ("disk", "auto")
    assert later.job.batch == 2


def test_a_fresh_start_forgets_the_rungs(tmp_path: Path) -> None:
    """A job that is not to be resumed begins as planned."""
    write_taken(tmp_path, Descent(job(tmp_path / "x"), Ladder(), lambda _event: None).taken)
    fresh = Descent(job(tmp_path, resume=False), Ladder(), lambda _event: None)
    assert fresh.taken == ()
    assert not (tmp_path / "rungs.json").exists()
