"""Feel a training's pulse: what its trainer calls at every step and at every epoch's end.

>>> pulse = Pulse(job, emit)
>>> pulse.ask()                    # an epoch begins: the loader is asked for its first batch
>>> pulse.before_batch()           # a batch is there, its step begins
>>> pulse.after_batch(16)          # the step is done, the loader is asked for the next batch
>>> pulse.rest()                   # the epoch's steps are done
>>> data.update(pulse.epoch_data())
>>> cure = pulse.cure(settings)    # after the epoch's checkpoint; raises MemoryNear where a rung is due
>>> pulse.close()
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

from trainer.backend_job import STEPS_FILE, BackendEvent, BackendJob
from trainer.errors import MemoryNear
from trainer.standing_still import Beat
from trainer.ultralytics_backend.card import card_reader, step_clock
from trainer.watch.cure import Advice, Cure, LoaderSettings, Treatment, Ward, advise, measured
from trainer.watch.diagnose import Diagnosis, Scene, diagnose, means_of
from trainer.watch.host import ThisHost
from trainer.watch.room import Room
from trainer.watch.sample import Sample
from trainer.watch.sampler import PERIOD_SECONDS, Sampler
from trainer.watch.timings import StepTimes
from trainer.watch.ward_book import Notes, read_notes, write_notes

_log = logging.getLogger("whetstone.trainer")
Emit = Callable[[BackendEvent], None]


class Pulse:
    """Time the steps of a training, watch the machine beside it, and say what to change.

    Args:
        job: the work.
        emit: told what was found and what is done about it.
        environment: may name a simulated card.
    """

    def __init__(self, job: BackendJob, emit: Emit, environment: Mapping[str, str] = os.environ) -> None:
        self._job = job
        self._emit = emit
        self._clock = step_clock()
        self._beat = Beat(job.out / STEPS_FILE)
        host = ThisHost(job.devices)
        self._cores = host.cores
        self._room = Room(job.dataset, host.cores, job.devices)
        period = min(PERIOD_SECONDS, job.watch.long_seconds / 10)
        self._sampler = Sampler(host, card_reader(environment, job.memory_share), period)
        self._sampler.start()
        base = LoaderSettings(job.workers, job.cache, job.batch, job.accumulation)
        self._notes = read_notes(job.out, base)
        self._taken_up = self._notes.now == base
        self._settling = False
        self._epoch = 0
        self._epoch_began = self._since = time.monotonic()
        self._times = StepTimes()
        self._told: set[str] = set()

    def ask(self, epoch: int = 0) -> None:
        """Say that an epoch begins (0 where it does not matter which): its first batch is asked for."""
        self._epoch = epoch
        self._epoch_began = time.monotonic()
        if self._times.steps == 0:
            self._since = self._epoch_began  # what went before, building caches or a checkpoint, is no step
        self._clock.ask()
        self._beat.step()

    def before_batch(self) -> None:
        """Say that a batch is there and its step begins (ultralytics' `on_train_batch_start`)."""
        self._clock.got()
        self._beat.step()

    def after_batch(self, images: int) -> None:
        """Say that a step on so many images is done (ultralytics' `on_train_batch_end`)."""
        self._clock.done(images)
        self._beat.step()

    def rest(self) -> None:
        """Say that an epoch's steps are done; what comes before the next one's may take its time."""
        self._beat.rest()

    def epoch_data(self) -> dict[str, Any]:
        """Return what the epoch's event says about it; utilisation and power where they could be read."""
        times = self._clock.total()
        means = means_of(self._sampler.since(self._epoch_began))
        data = {"data_wait_share": times.wait_share, "wait_seconds": times.wait_seconds}
        if means.seconds:
            card = means.gpu_utilisation
            data["utilisation"] = means.cpu_share if card is None else card
        if means.power_watts is not None:
            data["power_watts"] = means.power_watts
        return {name: round(value, 4) for name, value in data.items()}

    def cure(self, settings: Mapping[str, Any]) -> Cure | None:
        """Return the settings to go on with from the next epoch, or None when nothing is to change.

        Args:
            settings: those in force: `workers`, `cache`, `batch`, and `accumulation` or `nbs`.

        Raises:
            MemoryNear: memory is near its limit; the checkpoint of this epoch is to go on from.
        """
        now = self._settings(settings)
        if not self._taken_up:
            return self._take_up(now)
        if self._settling:
            # The epoch after a change also pays for new loader processes and a new cache: not judged.
            self._settling = False
            self._look_anew()
            return None
        self._times += self._clock.total()
        samples = self._sampler.since(self._since)
        diagnosis = diagnose(
            samples, self._times, Scene(now.workers, now.cache, self._cores), self._job.watch
        )
        if diagnosis.kind == "memory-near-limit":
            self._ask_for_rung(diagnosis, samples[-1])
        if not samples or means_of(samples).seconds < self._job.watch.long_seconds:
            return None
        try:
            return self._treat(diagnosis, now, samples[-1])
        except OSError as error:  # a full or vanished disk costs the cure, not the training
            _log.warning("watch.not_treated kind=%s error=%s", diagnosis.kind, error)
            return None

    def close(self) -> None:
        """End the watch."""
        self._beat.rest()
        self._sampler.close()

    def _treat(self, diagnosis: Diagnosis, now: LoaderSettings, latest: Sample) -> Cure | None:
        rate = self._times.images_per_second
        history = measured(self._notes.history, rate)
        limits = self._room.limits(latest, image_size=self._job.image_size, batch=now.batch)
        advice = advise(diagnosis, Ward(now, limits, self._job.watch, history))
        cure = advice.cure
        self._tell(diagnosis, advice, now)
        if cure is not None:
            history = (*history, Treatment(cure.lever, now, cure.settings, rate))
            self._settling = True
        kept = Notes(self._notes.base, now if cure is None else cure.settings, history)
        if kept != self._notes:
            self._notes = kept
            write_notes(self._job.out, kept)
        self._look_anew()
        return cure

    def _take_up(self, now: LoaderSettings) -> Cure | None:
        """Return to the settings a restarted child had before it died."""
        self._taken_up = True
        self._look_anew()
        then = self._notes.now
        if then == now:
            return None
        self._settling = True
        why = "settings from before the restart"
        cure = Cure(then.workers, then.cache, then.batch, then.accumulation, why, "undo")
        self._tell(Diagnosis("fine", why), Advice(cure, why), now)
        return cure

    def _ask_for_rung(self, diagnosis: Diagnosis, latest: Sample) -> None:
        if self._job.watch.near_limit >= 1.0:
            return
        self._tell(diagnosis, Advice(None, "a rung of the memory ladder"), self._notes.now)
        card, host = latest.gpu, latest.host
        if diagnosis.memory == "device" and card is not None:
            limit = card.limit_bytes or card.total_bytes
            raise MemoryNear("device", round(card.full_share * limit), limit)
        raise MemoryNear("host", host.total_bytes - host.free_bytes, host.total_bytes)

    def _tell(self, diagnosis: Diagnosis, advice: Advice, now: LoaderSettings) -> None:
        """Report a finding; what is fine is not news, and what stays as it is is said once."""
        cure = advice.cure
        if cure is None and (diagnosis.kind == "fine" or diagnosis.kind in self._told):
            return
        self._told.add(diagnosis.kind)
        changes = None if cure is None else _changes(now, cure.settings)
        data = {"kind": diagnosis.kind, "why": diagnosis.why, "evidence": diagnosis.evidence,
                "cure": changes, "advice": advice.why}  # fmt: skip
        self._emit(BackendEvent("watch", self._epoch, data))

    def _look_anew(self) -> None:
        self._since = time.monotonic()
        self._times = StepTimes()

    def _settings(self, told: Mapping[str, Any]) -> LoaderSettings:
        batch = int(told.get("batch") or self._job.batch)
        accumulation = told.get("accumulation")
        if accumulation is None and told.get("nbs"):
            accumulation = max(round(int(told["nbs"]) / batch), 1)
        return LoaderSettings(
            workers=int(told.get("workers", self._job.workers)),
            cache=_cache(told.get("cache", self._job.cache)),
            batch=batch,
            accumulation=int(accumulation or self._job.accumulation),
        )


def _cache(told: Any) -> Literal["none", "ram", "disk"]:
    """Return our word for what ultralytics calls its cache."""
    if told in ("ram", True):
        return "ram"
    return "disk" if told == "disk" else "none"


def _changes(old: LoaderSettings, new: LoaderSettings) -> dict[str, list[Any]]:
    names = ("workers", "cache", "batch", "accumulation")
    return {name: [getattr(old, name), getattr(new, name)] for name in names
            if getattr(old, name) != getattr(new, name)}  # fmt: skip
