"""Send the end of a machine's log to the bucket: `python -m trainer.rented.farewell TICKET LOG`.

A process of its own, so that a store that hangs costs seconds and never the machine's end.
"""

from __future__ import annotations

import logging
import re
import sys
from pathlib import Path

from fleet_contracts.base import decode
from fleet_contracts.errors import ContractError
from fleet_contracts.keys import LOG_NAME
from fleet_contracts.training import TrainTicket
from trainer.errors import TrainerError
from trainer.ticket_desk import TicketDesk
from trainer.wire import HttpWire, WireDown

_log = logging.getLogger("whetstone.rented")
TAIL_BYTES = 64 << 10
_SIGNED = re.compile(rb"(https?://[^\s'\"<>?]+)\?[^\s'\"<>]+")


def tail_of(log: Path) -> bytes:
    """Return the end of a log, whole lines, without what follows the question mark of any URL.

    Presigned URLs are secrets and none is logged by us; a library's own words may hold one.
    """
    with log.open("rb") as stream:
        size = stream.seek(0, 2)
        stream.seek(max(size - TAIL_BYTES, 0))
        content = stream.read()
    if size > TAIL_BYTES:
        content = content.partition(b"\n")[2]
    return _SIGNED.sub(rb"\1?...", content)


def main(arguments: list[str]) -> int:
    """Send it if the ticket allows it; nothing depends on that."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    ticket_file, log = map(Path, arguments)
    try:
        ticket = decode(TrainTicket, ticket_file.read_bytes(), where="ticket")
        if LOG_NAME not in ticket.put_urls:
            return 0
        desk = TicketDesk(ticket, HttpWire(connect_seconds=5.0, read_seconds=10.0))
        desk.put(LOG_NAME, tail_of(log))
    except (TrainerError, ContractError, WireDown, OSError) as error:
        _log.warning("rented.log_not_sent error=%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
