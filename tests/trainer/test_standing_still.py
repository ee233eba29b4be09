"""End a training that stands still in a step, and only that."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.trainer.conftest import job_for
from tests.trainer.dying import Death, stands_still_after
from trainer import standing_still
from trainer.backend import run_child, run_to_end
from trainer.backend_job import STEPS_FILE, BackendEvent
from trainer.dataset import DatasetOnDisk
from trainer.errors import StoodStill
from trainer.standing_still import BEAT_SECONDS, LONGEST_STEP_SECONDS, PAUSED_SECONDS, Beat, Stillness

SECOND_PART = {"epochs": 3, "checkpoint_minutes": 1e-6}
"""A checkpoint after every step: the child can be made to stand still within an epoch."""


class Hours:
    """Be a clock of the parent's that leaps while the ordered child stands still, and runs on after it."""

    def __init__(self, death: Death) -> None:
        self._death = death
        self._ahead = 0.0

    def monotonic(self) -> float:
        """Return seconds."""
        if self._death.lasts:
            self._ahead += PAUSED_SECONDS / 2
        return time.monotonic() + self._ahead


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the seconds that both sides go by."""
    told = [100.0]
    monkeypatch.setattr(standing_still, "time", Clock(lambda: told[0]))
    return told


class Clock:
    """Stand for the module `time`."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self.monotonic = monotonic


def looks(stillness: Stillness, now: list[float], seconds: float) -> list[bool]:
    """Let time pass in looks of ten seconds; return what each saw."""
    seen = []
    for _ in range(round(seconds / 10.0)):
        now[0] += 10.0
        seen.append(stillness.is_too_long())
    return seen


def age(path: Path, number: int) -> None:
    """Give a file the time of another touch."""
    os.utime(path, ns=(number, number))


def test_steps_keep_a_training_alive_and_what_is_none_may_take_its_time(tmp_path: Path, now: list[float]) -> None:
    """Before the first step, between epochs and after the last one nothing is too long."""
    path = tmp_path / "steps"
    path.touch()
    stillness, beat = Stillness(path), Beat(path)
    assert not path.exists()
    assert not any(looks(stillness, now, 3 * LONGEST_STEP_SECONDS))
    for number in range(3):
        beat.step()
        age(path, number)
        assert not any(looks(stillness, now, LONGEST_STEP_SECONDS - 20.0))
    beat.rest()
    assert not any(looks(stillness, now, 3 * LONGEST_STEP_SECONDS))
    beat.step()
    assert not stillness.is_too_long()
    assert looks(stillness, now, LONGEST_STEP_SECONDS + 20.0)[-1]


def test_a_machine_that_was_paused_is_not_one_that_stood_still(tmp_path: Path, now: list[float]) -> None:
    """A container that is frozen for a night goes on where it was; a step that hangs after that is still found."""
    stillness, beat = Stillness(tmp_path / "steps"), Beat(tmp_path / "steps")
    beat.step()
    assert not stillness.is_too_long()
    now[0] += 8 * 3600.0
    assert not stillness.is_too_long()
    assert looks(stillness, now, LONGEST_STEP_SECONDS + 20.0)[-1]


def test_a_beat_costs_a_touch_now_and_then(tmp_path: Path, now: list[float]) -> None:
    """Steps of a millisecond touch nothing; a disk that takes no file ends no training."""
    path = tmp_path / "steps"
    beat = Beat(path)
    beat.step()
    age(path, 1)
    beat.step()
    assert path.stat().st_mtime_ns == 1
    now[0] += BEAT_SECONDS
    beat.step()
    assert path.stat().st_mtime_ns > 1
    nowhere = Beat(tmp_path / "no" / "folder")
    nowhere.step()
    nowhere.rest()


def test_a_child_that_stands_still_is_ended_and_says_where(
    dataset: DatasetOnDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error is another start's, and the log holds the stacks."""
    death = stands_still_after(monkeypatch, tmp_path / "stood", "checkpoint", 2)
    monkeypatch.setattr(standing_still, "time", Hours(death))
    job = job_for(dataset, tmp_path / "out", **SECOND_PART)
    with pytest.raises(StoodStill, match=r"_keep_within_epoch(?s:.*)expected a step .* within 30 minutes") as raised:
        run_child(job)
    assert death.fired
    assert raised.value.resumable
    assert raised.value.exit_code < 0


def test_a_run_goes_on_after_a_child_that_stood_still(
    dataset: DatasetOnDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From its last checkpoint, with an event that says why it began again; a healthy child leaves no file."""
    death = stands_still_after(monkeypatch, tmp_path / "stood", "checkpoint", 2)
    monkeypatch.setattr(standing_still, "time", Hours(death))
    events: list[BackendEvent] = []
    result = run_to_end(job_for(dataset, tmp_path / "out", resume=True, **SECOND_PART), events.append)
    assert death.fired
    assert result.epochs == 3
    told = [event for event in events if event.kind == "watch" and event.data["kind"] == "stood-still"]
    assert ["expected a step" in event.data["why"] for event in told] == [True]
    (resumed,) = [event for event in events if event.kind == "resumed"]
    assert (resumed.epoch, resumed.data["images"] > 0) == (2, True)
    assert not (tmp_path / "out" / STEPS_FILE).exists()
