"""Test the log: one line per event, fields apart, no secrets, and a loop that never waits for its reader."""

from __future__ import annotations

import io
import json
import logging
import os
import threading
import time

import pytest

from edge_agent.events import Events
from edge_agent.logs import LogOutput, formatter
from edge_agent.redaction import redact
from tests.helpers import wait_until

SIGNED = (
    "http://store:9000/b/incoming/x?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=abc&X-Amz-Signature=def"
)


class Tap(logging.Handler):
    """Format what it hears."""

    def __init__(self, *, json: bool) -> None:
        super().__init__()
        self.setFormatter(formatter(json=json))
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@pytest.fixture(params=[True, False], ids=["json", "text"])
def tap(request: pytest.FixtureRequest):
    handler = Tap(json=request.param)
    root = logging.getLogger()
    level = root.level
    root.setLevel("INFO")
    root.addHandler(handler)
    yield handler
    root.removeHandler(handler)
    root.setLevel(level)


def test_an_event_is_a_name_and_fields() -> None:
    """A collector reads fields, a person reads a line."""
    handler = Tap(json=True)
    logging.getLogger("whetstone.edge").addHandler(handler)
    logging.getLogger("whetstone.edge").setLevel("INFO")
    events = Events()
    events.note("outbox.kept", sample="e3b0", level="high", boxes=[1, 2])
    events.set_problem("source.away", "no camera")
    events.clear_problem("source.away")
    logging.getLogger("whetstone.edge").removeHandler(handler)
    kept, problem, over = (json.loads(line) for line in handler.lines)
    assert kept["event"] == "outbox.kept"
    assert (kept["sample"], kept["boxes"], kept["level"], kept["level_"]) == ("e3b0", [1, 2], "info", "high")
    assert kept["logger"] == "whetstone.edge"
    assert kept["timestamp"].endswith("Z")
    assert (problem["event"], problem["problem"], problem["level"]) == ("source.away", "no camera", "warning")
    assert over["over"] is True


def test_text_is_one_line_with_the_traceback_below() -> None:
    """The line reads without a tool."""
    handler = Tap(json=False)
    logger = logging.getLogger("whetstone.edge.test")
    logger.addHandler(handler)
    try:
        raise ValueError("bad")
    except ValueError:
        logger.exception("loop.died")
    logger.removeHandler(handler)
    first, *rest = handler.lines[0].splitlines()
    assert first.endswith("ERROR whetstone.edge.test loop.died")
    assert rest[0].startswith("Traceback")
    assert rest[-1] == "ValueError: bad"


def test_no_secret_leaves(tap: Tap) -> None:
    """Neither in an event's fields, however deep, nor in a message of a library, nor in a traceback."""
    Events().note("x.y", url=SIGNED, deep={"list": ["rtsp://me:hunter2@cam/1"]}, password="hunter3")
    logging.getLogger("somebody").warning("PUT %s failed", SIGNED)
    try:
        raise ValueError("http://me:hunter2@host/ and token=hunter4")
    except ValueError:
        logging.getLogger("somebody").exception("failed")
    text = "\n".join(tap.lines)
    assert len(tap.lines) == 3
    for secret in ("hunter", "Signature=def", "Credential=abc"):
        assert secret not in text
    for kept in ("store:9000/b/incoming/x", "cam/1", "host/"):
        assert kept in text


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("rtsp://u:p@w@cam:554/x", "rtsp://***@cam:554/x"),
        ("https://host/path?x=1", "https://host/path?x=1"),
        ("https://h/p?sig=abc&x=1 and more", "https://h/p?*** and more"),
        ('{"password": "abc d"}', '{"password": ***}'),
        ("mail me@host.local", "mail me@host.local"),
        ("password_file = /etc/x", "password_file = /etc/x"),
        ("user-pw=geheim rtspsrc", "user-pw=*** rtspsrc"),
    ],
)
def test_only_secrets_are_taken_out(text: str, clean: str) -> None:
    """What is no secret stays readable."""
    assert redact(text) == clean


def test_an_end_does_not_wait_for_a_reader_that_hangs() -> None:
    """With nobody reading, closing gives up after a moment."""
    reading, writing = os.pipe()
    stream = io.TextIOWrapper(os.fdopen(writing, "wb", 0), write_through=True)
    output = LogOutput("INFO", "json", stream)
    for number in range(11_000):
        Events().note("x.y", number=number, filler="x" * 100)
    began = time.monotonic()
    output.close()
    assert time.monotonic() - began < 5

    def drain() -> None:
        while os.read(reading, 65536):
            pass

    # Let the writing thread go on, so that it does not hold a pipe for the rest of the tests.
    threading.Thread(target=drain, daemon=True).start()
    wait_until(lambda: output.waiting() == 0, 20, "the lines to be written")


def test_a_reader_that_hangs_does_not_hold_whoever_logs() -> None:
    """A full pipe costs log lines, counted, never the loop's time."""
    reading, writing = os.pipe()
    with io.TextIOWrapper(os.fdopen(writing, "wb", 0), write_through=True) as stream:
        output = LogOutput("INFO", "json", stream)
        events = Events()
        began = time.monotonic()
        for number in range(11_500):
            events.note("x.y", number=number, filler="x" * 100)
        took_s = time.monotonic() - began
        read = bytearray()
        done = threading.Event()

        def drain() -> None:
            while chunk := os.read(reading, 65536):
                read.extend(chunk)
            done.set()

        threading.Thread(target=drain, daemon=True).start()
        wait_until(lambda: output.waiting() == 0, 20, "the lines to be written")
        events.note("x.last")
        output.close()
    assert done.wait(10)
    os.close(reading)
    assert took_s < 10
    last = json.loads(bytes(read).splitlines()[-1])
    assert last["event"] == "x.last"
    assert last["lines_dropped_before"] > 0
