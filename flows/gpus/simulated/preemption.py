"""Take a spot machine away at a chosen moment of its run: after so many epochs, or in the middle of one.

The machine's own host asks the bucket for the run's newest checkpoint, with the machine's ticket. It counts
what was uploaded, so a machine is never taken before that: at 9.5, nine epochs are safe and half of the tenth
is lost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fleet_contracts.base import MAX_DOCUMENT_BYTES, decode
from fleet_contracts.errors import ContractError
from fleet_contracts.training import TrainPlan, TrainTicket
from trainer.errors import TrainerError
from trainer.report_back import read_note
from trainer.ticket_desk import TicketDesk
from trainer.wire import HttpWire, WireDown


@dataclass(slots=True)
class Moment:
    """Be the moment after `epochs` of a run: whole ones uploaded, a part of one by what the last took."""

    epochs: float
    _count: int = 0
    _reached_at: float | None = None
    _last_seconds: float = 0.0

    def saw(self, uploaded: int, now: float) -> None:
        """Take note of how many epochs are uploaded; `now` in seconds of any clock."""
        if self._reached_at is not None and uploaded <= self._count:
            return
        if self._reached_at is not None:
            self._last_seconds = (now - self._reached_at) / (uploaded - self._count)
        self._count, self._reached_at = uploaded, now

    def has_come(self, now: float) -> bool:
        """Tell whether the machine is to be taken now."""
        whole = int(self.epochs)
        if self._reached_at is None or self._count < whole:
            return False
        return self._count > whole or now - self._reached_at >= (self.epochs - whole) * self._last_seconds


class Uploaded:
    """Count the epochs of a run whose checkpoint lies in the bucket.

    Args:
        claim: URL of the run's ticket.
        said: hears once when nothing can be read; a later look may.
    """

    def __init__(self, claim: str, said: Callable[[str], None]) -> None:
        self._claim = claim
        self._said = said
        self._wire = HttpWire(connect_seconds=1.0, read_seconds=2.0)
        self._desk: TicketDesk | None = None
        self._before: tuple[int, ...] = ()
        self._blind = False

    def __call__(self) -> int | None:
        """Return the number, None while it cannot be read."""
        try:
            if self._desk is None:
                self._desk = self._at_the_desk()
            note = read_note(self._desk)
        except (WireDown, TrainerError, ContractError) as error:
            if not self._blind:
                self._said(f"progress unknown: {type(error).__name__}")
            self._blind = True
            return None
        self._blind = False
        return 0 if note is None else self._before[note.stage] + note.epoch

    def _at_the_desk(self) -> TicketDesk:
        ticket = decode(TrainTicket, self._read(self._claim), where="ticket")
        plan = decode(TrainPlan, self._read(ticket.plan_url), where="plan")
        epochs = [stage.epochs for stage in plan.stages]
        self._before = tuple(sum(epochs[:stage]) for stage in range(len(epochs)))
        return TicketDesk(ticket, self._wire)

    def _read(self, url: str) -> bytes:
        reply = self._wire.get(url)
        if reply.status != 200:
            raise WireDown(f"HTTP {reply.status}")
        return reply.body(MAX_DOCUMENT_BYTES)
