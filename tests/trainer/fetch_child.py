"""Fetch one object of a ticket, in a process that may be killed: `python -m tests.trainer.fetch_child TICKET CACHE`."""

from __future__ import annotations

import sys
from pathlib import Path

from fleet_contracts.base import decode
from fleet_contracts.training import TrainTicket
from trainer.fetch import Fetcher
from trainer.ticket_desk import TicketDesk
from trainer.wire import HttpWire


def main() -> None:
    """Fetch the ticket's first shard."""
    ticket = decode(TrainTicket, Path(sys.argv[1]).read_bytes(), where=sys.argv[1])
    Fetcher(TicketDesk(ticket, HttpWire()), Path(sys.argv[2])).object(ticket.shards[0])


if __name__ == "__main__":
    main()
