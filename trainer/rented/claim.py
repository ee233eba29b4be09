"""Fetch the run's ticket by the claim, and learn the store's time on the way."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from fleet_contracts.base import MAX_DOCUMENT_BYTES, decode, utc_now
from fleet_contracts.errors import ContractError
from fleet_contracts.training import TrainTicket
from trainer.errors import ClaimEnded, TransferFailed
from trainer.fitness.measure import date_in
from trainer.rented.clock import ClockNote, ticks
from trainer.wire import Reply, Wire, WireDown

_log = logging.getLogger("whetstone.rented")
PATIENCE_SECONDS = 900.0
"""How long the store may be away while a machine is paid for that has nothing to do yet."""
REFUSALS = 3
"""Answers that refuse before the claim counts as ended: a store that just started may refuse everybody."""
_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 20.0
_PASSING = (408, 425, 429)


@dataclass(frozen=True, slots=True)
class Asking:
    """Hold how a claim is presented: the way to the store, the listener for its time, and patience."""

    wire: Wire
    heard: Callable[[ClockNote], None]
    pause: Callable[[float], None] = time.sleep
    patience: float = PATIENCE_SECONDS


def fetch_ticket(claim: str, asking: Asking) -> TrainTicket:
    """Return the ticket a claim gives.

    Raises:
        ClaimEnded: there is no claim, or the store refuses it, or what it gives is no ticket.
        TransferFailed: the store was away for too long.
    """
    if not claim:
        raise _ended("none was given")
    refusals, pause = 0, _PAUSE_SECONDS
    deadline = time.monotonic() + asking.patience
    while True:
        try:
            reply = asking.wire.get(claim)
            asking.heard(_note_of(reply))
            if reply.status == 200:
                return decode(TrainTicket, reply.body(MAX_DOCUMENT_BYTES), where="ticket")
            got = f"HTTP {reply.status}"
            refusals += reply.status < 500 and reply.status not in _PASSING
        except WireDown as error:
            got = f"no answer: {error}"
        except ContractError as error:
            raise _ended(f"no ticket: {error}") from error
        _log.warning("rented.no_ticket got=%s refusals=%s", got, refusals)
        if refusals >= REFUSALS:
            raise _ended(got)
        if time.monotonic() + pause > deadline:
            raise TransferFailed(
                expected=f"the store to answer within {asking.patience / 60.0:.0f} min", got=got,
                where="claim", now="Check that the store's public address can be reached from machines.",
            )  # fmt: skip
        asking.pause(pause)
        pause = min(2.0 * pause, _LONGEST_PAUSE_SECONDS)


def _note_of(reply: Reply) -> ClockNote:
    """Return what the store's clock shows; without it this machine's own has to serve."""
    at = date_in(reply.date)
    return ClockNote(at, ticks()) if at is not None else ClockNote(utc_now(), ticks(), own=True)


def _ended(got: str) -> ClaimEnded:
    return ClaimEnded(expected="a ticket for the claim this machine was started with", got=got, where="claim")
