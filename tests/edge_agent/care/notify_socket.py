"""Be systemd's end of the notification socket: a real datagram socket that writes down what it is told."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class NotifySocket:
    """Gather words with the moment they came."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._end = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._end.bind("\0" + address[1:] if address.startswith("@") else address)
        self._end.settimeout(0.1)
        self._stop = threading.Event()
        self._told: list[tuple[float, str]] = []
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def words(self) -> list[str]:
        """Return every word so far."""
        return [word for _, word in list(self._told)]

    def count(self, word: str) -> int:
        """Return how often a word was told."""
        return self.words().count(word)

    def age_s(self, word: str) -> float:
        """Return the seconds since a word was last told."""
        return time.monotonic() - max(at for at, one in list(self._told) if one == word)

    def close(self) -> None:
        """Listen no more."""
        self._stop.set()
        self._thread.join(2)
        self._end.close()

    def _listen(self) -> None:
        while not self._stop.is_set():
            try:
                content = self._end.recv(4096).decode()
            except TimeoutError:
                continue
            now = time.monotonic()
            self._told.extend((now, word) for word in content.splitlines())


@contextmanager
def listening(address: Path | str) -> Iterator[NotifySocket]:
    """Listen for the length of a test; `@name` is an abstract address."""
    heard = NotifySocket(str(address))
    try:
        yield heard
    finally:
        heard.close()
