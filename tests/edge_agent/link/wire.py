"""Cut, swallow and restore what goes between a box and its broker: a TCP proxy without mercy."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress


class Wire:
    """Be a wire from a port of its own to a server.

    `swallows` lets connections stand and takes every byte to nowhere, as a dead router does; `cut` ends all
    connections and refuses new ones.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self.swallows = False
        self.swallowed = 0
        self.connections = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self._open: list[socket.socket] = []
        self._is_cut = False
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """End every connection; new ones are ended at once."""
        self._is_cut = True
        for one in self._open:
            # A listener in another thread's recv would keep the connection open.
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self._open.clear()

    def restore(self) -> None:
        """Carry again."""
        self._is_cut = self.swallows = False

    def close(self) -> None:
        """Take the wire away."""
        self.cut()
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            self.connections += 1
            if self._is_cut:
                near.close()
                continue
            try:
                far = socket.create_connection(("127.0.0.1", self._target), 5)
            except OSError:
                near.close()
                continue
            self._open += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._carry, args=(source, sink), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while content := source.recv(65536):
                if self.swallows:
                    self.swallowed += len(content)
                else:
                    sink.sendall(content)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)
