"""Feel the pulse of a training: what an epoch says, what is cured, what a restart remembers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fleet_contracts.training import WatchPolicy
from tests.helpers import wait_until
from tests.trainer.conftest import job_for
from tests.trainer.scenes import NAMES, items
from trainer.backend_job import BackendEvent, BackendJob
from trainer.dataset import DatasetOnDisk, write_dataset
from trainer.errors import MemoryNear
from trainer.ultralytics_backend.pulse import Pulse
from trainer.watch.gpu import SIMULATED_GPU
from trainer.watch.ward_book import WATCH_FILE, read_notes

QUICK = WatchPolicy(long_seconds=0.2)
SETTINGS: dict[str, Any] = {"workers": 0, "cache": "ram", "batch": 4, "nbs": 16}


@pytest.fixture
def data(tmp_path: Path) -> DatasetOnDisk:
    """Return eight scenes."""
    return write_dataset(tmp_path / "data", NAMES, items(8, val=2))


def job_in(data: DatasetOnDisk, folder: Path, **changes: object) -> BackendJob:
    """Return a job with a watch that is quick to judge."""
    folder.mkdir(exist_ok=True)
    return job_for(data, folder, **{"batch": 4, "accumulation": 4, "watch": QUICK, **changes})


def card_script(folder: Path, *, utilisation: float, used: int) -> dict[str, str]:
    """Return an environment with a simulated card of 100 bytes."""
    path = folder / "card.json"
    path.write_text(json.dumps([
        {"seconds": 1, "utilisation": utilisation, "used_bytes": used, "total_bytes": 100, "power_watts": 70.0}
    ]))  # fmt: skip
    return {SIMULATED_GPU: str(path)}


def epoch_of(pulse: Pulse, number: int, images: int = 4) -> None:
    """Live through an epoch that is long enough to be judged."""
    pulse.ask(number)
    pulse.before_batch()
    before = pulse._sampler.since(0.0)
    wait_until(lambda: len(pulse._sampler.since(before[-1].at if before else 0.0)) > 13, 30, "samples")
    pulse.after_batch(images)


def test_a_card_that_idles_gets_a_larger_batch_of_the_same_step(data: DatasetOnDisk, tmp_path: Path) -> None:
    """The event names kind, reason, numbers and the change; the effective batch stays the recipe's."""
    events: list[BackendEvent] = []
    job = job_in(data, tmp_path / "out")
    pulse = Pulse(job, events.append, card_script(tmp_path, utilisation=0.3, used=20))
    try:
        epoch_of(pulse, 1)
        told = pulse.epoch_data()
        cure = pulse.cure(SETTINGS)
    finally:
        pulse.close()
    assert told["utilisation"] == 0.3
    assert told["power_watts"] == 70.0
    assert told["data_wait_share"] < 0.1
    assert cure is not None
    assert (cure.batch, cure.accumulation, cure.workers) == (8, 2, 0)
    [event] = events
    assert (event.kind, event.epoch, event.data["kind"]) == ("watch", 1, "small-batch")
    assert event.data["cure"] == {"batch": [4, 8], "accumulation": [4, 2]}
    assert event.data["evidence"]["gpu_utilisation"] == 0.3
    json.loads(event.to_line())


def test_a_restarted_child_takes_its_cures_up_again(data: DatasetOnDisk, tmp_path: Path) -> None:
    """After a death the settings in force come back at the first epoch's end, without a new diagnosis."""
    job = job_in(data, tmp_path / "out")
    environment = card_script(tmp_path, utilisation=0.3, used=20)
    for expected_why in ("small-batch", "before the restart"):
        pulse = Pulse(job, lambda _: None, environment)
        try:
            epoch_of(pulse, 1)
            cure = pulse.cure(SETTINGS)
        finally:
            pulse.close()
        assert cure is not None
        assert (cure.batch, cure.accumulation) == (8, 2)
        assert expected_why in cure.why


def test_a_rung_ends_the_cures_that_may_have_led_to_it(data: DatasetOnDisk, tmp_path: Path) -> None:
    """A job that comes back smaller keeps its settings, and the lever that was pulled stays where it is."""
    environment = card_script(tmp_path, utilisation=0.3, used=20)
    for job in (job_in(data, tmp_path / "out"), job_in(data, tmp_path / "out", batch=2, accumulation=8)):
        pulse = Pulse(job, lambda _: None, environment)
        try:
            epoch_of(pulse, 1)
            cure = pulse.cure({**SETTINGS, "batch": job.batch})
        finally:
            pulse.close()
        assert (cure is not None) == (job.batch == 4)


def test_memory_near_the_limit_asks_for_a_rung(data: DatasetOnDisk, tmp_path: Path) -> None:
    """The request carries what was seen; a watch told to keep quiet about it does."""
    environment = card_script(tmp_path, utilisation=0.9, used=97)
    events: list[BackendEvent] = []
    pulse = Pulse(job_in(data, tmp_path / "out"), events.append, environment)
    try:
        epoch_of(pulse, 3)
        with pytest.raises(MemoryNear) as near:
            pulse.cure(SETTINGS)
    finally:
        pulse.close()
    assert (near.value.kind, near.value.seen_bytes, near.value.limit_bytes) == ("device", 97, 100)
    assert [event.data["kind"] for event in events] == ["memory-near-limit"]
    quiet = job_in(data, tmp_path / "out", watch=QUICK.model_copy(update={"near_limit": 1.0}))
    pulse = Pulse(quiet, events.append, environment)
    try:
        epoch_of(pulse, 4)
        assert pulse.cure(SETTINGS) is None
    finally:
        pulse.close()


def test_the_epoch_after_a_change_is_not_judged(data: DatasetOnDisk, tmp_path: Path) -> None:
    """New loader processes and caches cost their first epoch time; the second one says what came of it."""
    pulse = Pulse(
        job_in(data, tmp_path / "out"), lambda _: None, card_script(tmp_path, utilisation=0.3, used=2)
    )
    now = dict(SETTINGS)
    changed = []
    try:
        for number in range(1, 5):
            epoch_of(pulse, number, images=4 * 10**number)
            cure = pulse.cure(now)
            changed.append(cure is not None)
            if cure is not None:
                now = {**now, "batch": cure.batch}
    finally:
        pulse.close()
    assert changed == [True, False, True, False]
    assert now["batch"] == 16


def test_notes_that_cannot_be_read_are_as_good_as_none(data: DatasetOnDisk, tmp_path: Path) -> None:
    """A torn file costs the memory of cures, not the run."""
    pulse = Pulse(
        job_in(data, tmp_path / "out"), lambda _: None, card_script(tmp_path, utilisation=0.3, used=2)
    )
    try:
        epoch_of(pulse, 1)
        assert pulse.cure(SETTINGS) is not None
    finally:
        pulse.close()
    file = tmp_path / "out" / WATCH_FILE
    base = replace(pulse._notes.base)
    assert read_notes(tmp_path / "out", base).history
    for content in (b"{half", b"[]", b'{"base": {"wheels": 4}, "now": {}, "history": []}'):
        file.write_bytes(content)
        assert read_notes(tmp_path / "out", base).history == ()
