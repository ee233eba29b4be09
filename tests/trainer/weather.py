"""Be the line between a trainer and its store: a TCP proxy that is slow, breaks off, or is away."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress


class Weather:
    """Carry bytes from a port of its own to a server.

    `bytes_per_second` slows answers down (0: as fast as they come); `breaks` holds after how many bytes the next
    connections' answers break off; `away` ends every new connection at once. `carried` counts answers' bytes,
    `broken` and `refused` the faults that fired.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self.bytes_per_second = 0
        self.breaks: list[int] = []
        self.away = False
        self.carried = self.broken = self.refused = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take the line away."""
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            if self.away:
                self.refused += 1
                near.close()
                continue
            far = socket.create_connection(("127.0.0.1", self._target), 5)
            threading.Thread(target=self._questions, args=(near, far), daemon=True).start()
            threading.Thread(target=self._answers, args=(far, near), daemon=True).start()

    def _questions(self, near: socket.socket, far: socket.socket) -> None:
        with suppress(OSError):
            while content := near.recv(65536):
                far.sendall(content)
        with suppress(OSError):
            far.shutdown(socket.SHUT_WR)

    def _answers(self, far: socket.socket, near: socket.socket) -> None:
        left = self.breaks.pop(0) if self.breaks else None
        with suppress(OSError):
            while content := far.recv(16384):
                if left is not None:
                    content, left = content[:left], left - len(content)
                near.sendall(content)
                self.carried += len(content)
                if left is not None and left <= 0:
                    self.broken += 1
                    break
                if self.bytes_per_second:
                    time.sleep(len(content) / self.bytes_per_second)
        for one in (near, far):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
