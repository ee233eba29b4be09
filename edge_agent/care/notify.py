"""Speak systemd's notification protocol: lines of text in one datagram to the socket it names.

Thirty lines of standard library; docs/adr/0010-care-of-the-box.md says why no package does it.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass

logger = logging.getLogger("whetstone.edge.care")
SEND_WITHIN_S = 1.0
MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True)
class Notifier:
    """Tell systemd how the service fares; without systemd every word is dropped.

    Attributes:
        address: path of the socket, or `@name` for an abstract one; "" = nobody listens.
        watchdog_s: systemd ends the service when it was not fed for so long; 0.0 = it does not watch.
    """

    address: str = ""
    watchdog_s: float = 0.0

    @property
    def is_watched(self) -> bool:
        """Tell whether systemd ends the service when it is not fed."""
        return bool(self.address) and self.watchdog_s > 0.0

    def tell(self, *words: str) -> bool:
        """Send words such as `READY=1` in one datagram; return whether they were handed over."""
        if not self.address:
            return False
        # A leading NUL names a socket in the kernel's abstract space; systemd writes it as "@".
        address = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as end:
                end.settimeout(SEND_WITHIN_S)
                end.sendto("\n".join(words).encode(), address)
        except OSError as error:
            logger.warning("care.notify-failed %s", error)
            return False
        return True


def notifier_from(environment: Mapping[str, str], pid: int | None = None) -> Notifier:
    """Read what systemd put into the environment; a watchdog meant for another process is not fed."""
    address = environment.get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@"):
        return Notifier()
    meant_for = environment.get("WATCHDOG_PID", "")
    if meant_for and meant_for != str(os.getpid() if pid is None else pid):
        return Notifier(address)
    try:
        watchdog_s = int(environment.get("WATCHDOG_USEC", "0")) / MICROSECONDS
    except ValueError:
        watchdog_s = 0.0
    return Notifier(address, max(0.0, watchdog_s))
