"""Walk down the ladder: hold the job in force, take rungs, keep them and tell about them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from fleet_contracts.training import MemoryPolicy
from trainer.backend_job import BackendEvent, BackendJob
from trainer.errors import LadderExhausted
from trainer.ladder.choose import next_rung
from trainer.ladder.expect import Expect, Outlook, load_of
from trainer.ladder.keeping import RUNGS_FILE, Taken, read_taken, write_taken
from trainer.memory.trouble import Trouble

_log = logging.getLogger("whetstone.trainer")
OnEvent = Callable[[BackendEvent], None]
_CARRIED = {"precision", "expandable_segments", "cache", "workers"}
"""What one stage changed for want of memory and later ones take over: machine and card stay the same."""

_EARLIER = "an earlier stage needed it: "
_HARMLESS: dict[str, Any] = {"smaller_images": (), "smaller_models": (), "allow_mix_off": False}
"""What a policy must not allow where a rung is taken before memory really ran out."""


@dataclass(frozen=True, slots=True)
class Ladder:
    """Hold how a stage may step down.

    Args:
        policy: how far.
        expect: bytes that a job is expected to take of the card; None scales what was seen.
        images: training images, 0 when unknown.
        told: rungs of this stage that the run's record already holds.
        earlier: rungs of earlier stages; what they showed keeps this one from starting too large.
    """

    policy: MemoryPolicy = field(default_factory=MemoryPolicy)
    expect: Expect | None = None
    images: int = 0
    told: tuple[Taken, ...] = ()
    earlier: tuple[Taken, ...] = ()


class Descent:
    """Be one stage's way down; `job` is what the next child does.

    Args:
        planned: the stage as planned.
        ladder: how far it may go, and what was taken before.
        tell: told about every rung, also about one that an earlier parent died before telling.
    """

    def __init__(self, planned: BackendJob, ladder: Ladder, tell: OnEvent) -> None:
        self.job = planned
        self._ladder = ladder
        self._tell = tell
        self._in_force: dict[str, Any] = {}
        if not planned.resume:
            (planned.out / RUNGS_FILE).unlink(missing_ok=True)
        # The record may know of rungs that another machine took since this folder was left, or lack the last.
        self._taken = max(read_taken(planned.out), ladder.told, key=len) if planned.resume else ()
        for taken in self._taken:
            self.job = taken.apply(self.job)
        for taken in self._taken[len(ladder.told) :]:
            tell(taken.event())
        if not self._taken:
            self._foresee()

    @property
    def taken(self) -> tuple[Taken, ...]:
        """Return the rungs in force, in the order they were taken."""
        return self._taken

    def heard(self, event: BackendEvent) -> None:
        """Take in what a child reports as in force, and say so when a rung shows no effect there."""
        reported = event.data.get("settings")
        if event.kind != "epoch" or not isinstance(reported, dict):
            return
        self._in_force = reported
        wanted = self._taken[-1].must_show if self._taken else {}
        for name, value in wanted.items():
            if name in reported and not _same(reported[name], value):
                _log.warning(
                    "trainer.rung_without_effect setting=%s expected=%s got=%s", name, value, reported[name]
                )

    def step_down(self, trouble: Trouble) -> None:
        """Change the job after memory ran out, or came near its end.

        Raises:
            LadderExhausted: nothing is left to change, or the plan's number of rungs is used up.
        """
        near = trouble.moment == "watch"
        policy = self._ladder.policy.model_copy(update=_HARMLESS if near else {})
        walked = sum(1 for one in self._taken if not one.foreseen)
        outlook = Outlook(self._ladder.expect, self._in_force, self._ladder.images)
        rung = next_rung(self.job, trouble, policy, outlook) if walked < policy.most_rungs else None
        if rung is not None:
            self._take(Taken.of(rung, self.job))
            _log.warning("trainer.rung rung=%s changed=%s reason=%s", rung.name, rung.changed, rung.reason)
        elif near:
            self._stay_near(trouble)
        else:
            raise self._exhausted(trouble)

    def _stay_near(self, trouble: Trouble) -> None:
        """Go on as it is where memory is only near its end: a run that may live is not ended for that."""
        watch = self.job.watch.model_copy(update={"near_limit": 1.0})
        self.job = self.job.model_copy(update={"watch": watch})
        why = f"{trouble.in_words()}; nothing harmless is left to give up, so the run goes on as it is"
        self._tell(BackendEvent("watch", trouble.epoch, {"kind": "memory-near-limit", "why": why}))

    def _take(self, taken: Taken) -> None:
        """Keep first, then tell: a parent that dies in between is made up for by the next one."""
        self._taken = (*self._taken, taken)
        write_taken(self.job.out, self._taken)
        self.job = taken.apply(self.job)
        self._in_force = {}
        self._tell(taken.event())

    def _foresee(self) -> None:
        """Take over what earlier stages changed for good, and step down while they say it cannot fit."""
        kept = {
            name: new
            for taken in self._ladder.earlier
            for name, (_, new) in taken.changed.items()
            if name in _CARRIED
        }
        different = {name: value for name, value in kept.items() if getattr(self.job, name) != value}
        if different:
            because = [one for one in self._ladder.earlier if different.keys() & one.changed.keys()]
            self._take(_carried(self.job, different, because[-1]))
        known = [one for one in self._ladder.earlier if one.kind == "device" and one.load and one.limit_bytes]
        lightest = min(known, key=lambda one: one.load, default=None)  # whatever is heavier would die too
        if lightest is None:
            return
        needed = max(lightest.seen_bytes + lightest.asked_bytes, lightest.limit_bytes + 1)
        expected = int(needed * load_of(self.job) / lightest.load)
        if expected <= lightest.limit_bytes:
            return
        foreseen = Trouble("device", "planned", 0, 0, expected, lightest.limit_bytes)
        policy = self._ladder.policy.model_copy(update=_HARMLESS)
        rung = next_rung(self.job, foreseen, policy, Outlook(images=self._ladder.images))
        if rung is not None:
            why = f"a step no heavier than this stage's did not fit in an earlier one: {lightest.reason}"
            self._take(Taken.of(replace(rung, reason=why), self.job, foreseen=True))

    def _exhausted(self, trouble: Trouble) -> LadderExhausted:
        walked = [
            f"{number}. {one.rung} ({_in_words(one)}) because {one.reason}"
            for number, one in enumerate(self._taken, 1)
        ]
        history = "\n".join(walked) or "no rung was left to take"
        return LadderExhausted(
            expected="a training that fits into memory",
            got=f"{trouble.in_words()} ({trouble.message[:500]})\nrungs taken before:\n{history}",
            where=str(self.job.out),
            now=LadderExhausted.remedy,
        )


def _carried(job: BackendJob, different: dict[str, Any], last: Taken) -> Taken:
    changed = {name: (getattr(job, name), value) for name, value in different.items()}
    return Taken(
        rung="carried", reason=_EARLIER + last.reason.removeprefix(_EARLIER), kind=last.kind, changed=changed,
        seen_bytes=last.seen_bytes, limit_bytes=last.limit_bytes, foreseen=True,
    )  # fmt: skip


def _in_words(taken: Taken) -> str:
    return ", ".join(f"{name} {old} -> {new}" for name, (old, new) in taken.changed.items())


def _same(got: object, wanted: object) -> bool:
    if isinstance(wanted, bool):
        return bool(got) == wanted
    return got == wanted
