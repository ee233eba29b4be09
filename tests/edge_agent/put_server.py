"""Be an object store as a box sees it: an HTTP server that takes PUTs; it can be slow, away, or refuse."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class PutServer:
    """Keep what is put, by path. Failures are switched on by the test and counted, so it can see they hit."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.order: list[str] = []
        self.answer_with = 0
        """Status to fail every PUT with, 0 = work."""
        self.refused_paths: set[str] = set()
        self.delay_s = 0.0
        self.failures = 0
        self._server: ThreadingHTTPServer | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """Return the address without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Listen, on the port it had before if there was one."""
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), _handler_of(self))
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()

    def stop(self) -> None:
        """Stop listening: connections are refused from now on."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def take(self, path: str, content: bytes) -> int:
        """Take one PUT and return the status to answer with."""
        time.sleep(self.delay_s)
        plain = path.partition("?")[0]
        status = 403 if plain in self.refused_paths else self.answer_with
        if status:
            self.failures += 1
            return status
        self.order.append(plain)
        self.objects[plain] = content
        return 200


def _handler_of(store: PutServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            status = store.take(self.path, content)
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    return Handler


@contextmanager
def running_store() -> Iterator[PutServer]:
    """Run a store for the length of a test."""
    store = PutServer()
    store.start()
    try:
        yield store
    finally:
        store.stop()
