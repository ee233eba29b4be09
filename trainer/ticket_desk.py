"""Keep the run's ticket fresh: the flow rewrites it before it ends, we read it again in time.

>>> desk = TicketDesk(ticket, wire)
>>> desk.put("run.json", content)
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import datetime, timedelta

from fleet_contracts.base import MAX_DOCUMENT_BYTES, decode, utc_now
from fleet_contracts.errors import ContractError
from fleet_contracts.training import TrainTicket
from trainer.errors import TicketRefused, TransferFailed
from trainer.wire import Reply, Wire, WireDown

_log = logging.getLogger("whetstone.trainer")
_RENEW_BEFORE = timedelta(minutes=5)
_RENEW_AT_MOST_EVERY = timedelta(seconds=20)
_REFUSED = (400, 401, 403)
"""What stores answer to a presigned URL whose time is over."""


class TicketDesk:
    """Hand out URLs of one run and renew the ticket when it is about to end or was refused.

    Args:
        ticket: the ticket the trainer was started with.
        wire: the way to the store.
        now: the present moment; a test may turn it.
    """

    def __init__(self, ticket: TrainTicket, wire: Wire, now: Callable[[], datetime] = utc_now) -> None:
        self._ticket = ticket
        self._wire = wire
        self._now = now
        self._lock = threading.Lock()
        self._asked_at: datetime | None = None

    def current(self) -> TrainTicket:
        """Return the ticket, renewed when it ends within five minutes."""
        with self._lock:
            if self._ticket.expires_at - self._now() < _RENEW_BEFORE:
                self._renew()
            return self._ticket

    def get(self, url_of: Callable[[TrainTicket], str | None], name: str, *, start: int = 0) -> Reply:
        """Ask for an object, with a renewed ticket if the first URL is refused.

        Raises:
            TicketRefused: the ticket has no such URL.
            WireDown: no answer.
        """
        reply = self._wire.get(_required(url_of(self.current()), name), start=start)
        if reply.status in _REFUSED and self._renewed():
            reply = self._wire.get(_required(url_of(self._ticket), name), start=start)
        return reply

    def put(self, name: str, content: bytes | memoryview) -> None:
        """Store one of the run's objects.

        Raises:
            TicketRefused: the ticket does not allow this name.
            TransferFailed: the store refused.
            WireDown: no answer.
        """
        status = self._wire.put(_required(self.current().put_urls.get(name), name), content)
        if status in _REFUSED and self._renewed():
            status = self._wire.put(_required(self._ticket.put_urls.get(name), name), content)
        if not 200 <= status < 300:
            raise TransferFailed(expected="the store to keep the object", got=f"HTTP {status}", where=name)

    def read(self, name: str) -> bytes | None:
        """Return one of the run's objects as it lies in the store now, or None when there is none.

        Raises:
            TransferFailed: the store refused.
            WireDown: no answer.
        """
        if self.current().get_urls.get(name) is None:
            return None
        reply = self.get(lambda ticket: ticket.get_urls.get(name), name)
        if reply.status == 404:
            return None
        if reply.status != 200:
            raise TransferFailed(expected="the object or 404", got=f"HTTP {reply.status}", where=name)
        return reply.body(MAX_DOCUMENT_BYTES)

    def _renewed(self) -> bool:
        with self._lock:
            return self._renew()

    def _renew(self) -> bool:
        """Read the ticket's own object again; keep the old one when that fails, it may still serve."""
        now = self._now()
        if self._asked_at is not None and now - self._asked_at < _RENEW_AT_MOST_EVERY:
            return False
        self._asked_at = now
        try:
            reply = self._wire.get(self._ticket.renew_url)
            if reply.status != 200:
                _log.warning("trainer.ticket_not_renewed status=%s", reply.status)
                return False
            fresh = decode(TrainTicket, reply.body(MAX_DOCUMENT_BYTES), where="ticket.json")
        except (WireDown, ContractError) as error:
            _log.warning("trainer.ticket_not_renewed error=%s", type(error).__name__)
            return False
        if (fresh.run_id, fresh.task_id) != (self._ticket.run_id, self._ticket.task_id):
            _log.warning("trainer.ticket_not_renewed error=foreign")
            return False
        self._ticket = fresh
        return True


def _required(url: str | None, name: str) -> str:
    if url is None:
        raise TicketRefused(
            expected=f"a URL for {name}", got="none", where="ticket", now="Let the flow write a new ticket."
        )
    return url
