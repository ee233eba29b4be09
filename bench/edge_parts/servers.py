"""Be the object store and the release server the box speaks with, on the other core; a child.

PUT anything        read whole and answered 200
GET /releases/...   a file of the folder, with Range
"""

from __future__ import annotations

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from bench.edge_parts.protocol import process_facts, serve, spec_of

PIECE = 1 << 16


class Handler(BaseHTTPRequestHandler):
    """Answer one box."""

    protocol_version = "HTTP/1.1"
    folder = Path()
    received = 0

    def do_PUT(self) -> None:
        """Take an upload in."""
        left = int(self.headers["Content-Length"])
        while left > 0:
            left -= len(self.rfile.read(min(PIECE, left)))
        type(self).received += 1
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self) -> None:
        """Give a file, from where it was asked for."""
        path = self.folder / Path(self.path).name
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        size = path.stat().st_size - start
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        with path.open("rb") as file:
            file.seek(start)
            while piece := file.read(PIECE):
                self.wfile.write(piece)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name http.server uses
        """Say nothing."""


class Servers:
    """Serve a folder and take uploads on a port of its own."""

    def __init__(self, spec: dict[str, Any]) -> None:
        import threading

        Handler.folder = Path(spec["folder"])
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def facts(self) -> dict[str, Any]:
        """Say where it listens and how many uploads came."""
        return {**process_facts(), "port": self._server.server_port, "received": Handler.received}


def main() -> int:
    """Serve the parent."""
    spec = spec_of(sys.argv)
    serve(lambda: Servers(spec))
    return 0


if __name__ == "__main__":
    sys.exit(main())
