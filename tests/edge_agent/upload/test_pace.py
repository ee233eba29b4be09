"""Test how fast, when and in which order examples are uploaded."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.errors import ConfigError, StoreAway
from edge_agent.settings.upload import UploadConfig
from edge_agent.settings.windows import DAYS, is_open, parse_windows
from edge_agent.upload.http import HttpPutter
from edge_agent.upload.rate import PacedBody, TokenBucket
from edge_agent.upload.schedule import Schedule
from tests.edge_agent.builders import config_of, example_of
from tests.edge_agent.put_server import PutServer
from tests.edge_agent.upload.upload_bench import Bench
from tests.helpers import wait_until

MONDAY = datetime(2026, 11, 16, tzinfo=timezone.utc)
NewBench = Callable[..., Bench]


@pytest.fixture
def new_bench(tmp_path: Path, store: PutServer) -> Iterator[NewBench]:
    made: list[Bench] = []

    def make(**upload: object) -> Bench:
        made.append(Bench(config_of(tmp_path, upload=upload), tmp_path / "outbox", store))
        return made[-1]

    yield make
    for bench in made:
        bench.stop()


# Windows.


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("mon-fri 18:00-06:00", ["mon 18:00", "tue 05:59", "fri 23:59", "sat 05:59"],
         ["mon 05:59", "mon 17:59", "tue 06:00", "sat 06:00", "sat 18:00", "sun 03:00"]),
        ("sat,sun 00:00-24:00", ["sat 00:00", "sun 23:59"], ["fri 23:59", "mon 00:00"]),
        ("22:00-05:30", ["mon 22:00", "sun 23:00", "mon 05:29"], ["mon 05:30", "wed 21:59"]),
        ("FRI-mon 12:00-12:30", ["fri 12:00", "sat 12:00", "sun 12:29", "mon 12:00"], ["tue 12:00", "mon 12:30"]),
        ("sun 23:00-01:00", ["sun 23:30", "mon 00:30"], ["mon 01:00", "sat 23:30", "sun 00:30"]),
    ],
)  # fmt: skip
def test_a_window_holds_what_it_says(text: str, inside: list[str], outside: list[str]) -> None:
    """Windows over midnight belong to the day they begin on."""
    windows = parse_windows([text])
    assert [moment for moment in inside if not is_open(windows, at(moment))] == []
    assert [moment for moment in outside if is_open(windows, at(moment))] == []


def at(moment: str) -> datetime:
    day, clock = moment.split()
    hour, minute = clock.split(":")
    return MONDAY + timedelta(days=DAYS.index(day), hours=int(hour), minutes=int(minute))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "expected days and times"),
        ("mon 18:00", "HH:MM-HH:MM"),
        ("monday 18:00-19:00", "'monday'"),
        ("mon-fry 18:00-19:00", "'mon-fry'"),
        ("25:00-26:00", "25:00"),
        ("18:60-19:00", "18:60"),
        ("18:00-18:00", "must last"),
        ("24:00-06:00", "must last"),
        ("mon fri 18:00-19:00", "expected days and times"),
    ],
)
def test_a_window_that_cannot_be_read_is_quoted(tmp_path: Path, text: str, words: str) -> None:
    """The configuration is refused with what was expected and what was got."""
    with pytest.raises(ValueError, match=words):
        parse_windows([text])
    with pytest.raises(ConfigError, match="upload"):
        config_of(tmp_path, upload={"windows": [text]})


@given(
    st.sets(st.integers(0, 6), min_size=1),
    st.integers(0, 1439),
    st.integers(0, 1440),
    st.integers(0, 7 * 1440 - 1),
)
def test_windows_say_what_minutes_say(days: set[int], begin: int, end: int, moment: int) -> None:
    """A window is the minutes from its begin to its end, counted from each of its days."""
    if begin == end:
        return
    names = ",".join(DAYS[day] for day in days)
    text = f"{names} {begin // 60:02d}:{begin % 60:02d}-{end // 60:02d}:{end % 60:02d}"
    length = (end - begin) % 1440 or 1440
    expected = any((moment - day * 1440 - begin) % (7 * 1440) < length for day in days)
    assert is_open(parse_windows([text]), MONDAY + timedelta(minutes=moment)) == expected


def test_outside_its_windows_a_box_brings_only_what_is_urgent(new_bench: NewBench) -> None:
    """What was asked for goes at once, the rest when the window opens; nothing is lost meanwhile."""
    bench = new_bench(windows=["mon-fri 18:00-06:00"])
    now = [at("mon 12:00")]
    bench.uploader.schedule = Schedule(UploadConfig(windows=("mon-fri 18:00-06:00",)), lambda: now[0])
    bench.fill(5, values=(0.2, 1.0, 0.9, 1.0, 0.1))
    bench.start()
    urgent = {bench.ids[1], bench.ids[3]}
    wait_until(lambda: set(bench.cloud.catalog) == urgent, 10, "the urgent ones")
    wait_until(lambda: bench.outbox.waiting() == 3, 10, "their receipts")
    bench.uploader.wake()
    asked = bench.cloud.heard.count("grant-request")
    now[0] = at("mon 18:00")
    wait_until(bench.all_arrived, 10, "the rest in the window")
    assert asked == 1


def test_nothing_is_urgent_above_one() -> None:
    """A limit that no value reaches keeps everything for the window."""
    schedule = Schedule(UploadConfig(windows=("12:00-13:00",), urgent_value=1.5), lambda: at("mon 14:00"))
    assert schedule.least_value() == 1.5
    assert Schedule(UploadConfig(), lambda: at("mon 14:00")).least_value() == 0.0


# Order, and what has no answer.


def test_the_most_valuable_arrives_first(new_bench: NewBench) -> None:
    """Also over several grants: 130 examples, best first."""
    rng = random.Random(1)
    values = [round(rng.random(), 3) for _ in range(130)]
    bench = new_bench()
    bench.fill(130, values=values)
    bench.start()
    wait_until(bench.all_arrived, 20, "everything")
    worth = dict(zip(bench.ids, values, strict=True))
    arrived = [worth[path.split("/")[2]] for path in bench.store.order if not path.endswith(".json")]
    assert arrived == sorted(values, reverse=True)


def test_what_was_put_is_announced_again_until_its_receipt(new_bench: NewBench) -> None:
    """Under the same grant, with growing pauses, and asked for again only after that: no byte goes twice."""
    bench = new_bench()
    announced: list[float] = []

    def loses(topic: str) -> bool:
        if topic.endswith("/uploaded"):
            announced.append(time.monotonic())
        return topic.endswith("/uploaded") and len(announced) < 3

    bench.broker.loses = loses
    bench.fill(3)
    bench.start()
    wait_until(bench.all_arrived, 20, "the receipts")
    assert len(announced) == 3
    assert bench.events.count("upload.announced-again") == 2
    assert bench.cloud.heard.count("grant-request") == 1
    assert len(bench.store.order) == 6


def test_what_was_put_before_a_restart_is_announced_before_it_is_asked_for(
    new_bench: NewBench, tmp_path: Path
) -> None:
    """The grant is remembered with the row."""
    bench = new_bench()
    bench.cloud.gives_receipts = False
    bench.fill(2)
    bench.start()
    wait_until(lambda: bench.outbox.states() == {"sent": 2}, 10, "both to be put")
    bench.stop()
    again = new_bench()
    again.ids, again.cloud._grants = bench.ids, bench.cloud._grants
    again.start()
    wait_until(again.all_arrived, 10, "the receipts")
    assert "grant-request" not in again.cloud.heard
    assert len(bench.store.order) == 4


def test_days_offline_cost_neither_memory_nor_messages(new_bench: NewBench) -> None:
    """With the broker away nothing is asked; a thousand rows are asked for 64 at a time when it is back."""
    bench = new_bench()
    bench.start()
    wait_until(lambda: bench.link.is_connected(), 5, "the link")
    bench.broker.go_away()
    passed = len(bench.broker.passed)
    bench.fill(300)
    wait_until(lambda: len(bench.outbox.due(1000)) == 300, 5, "rows")
    assert len(bench.broker.passed) == passed
    bench.broker.come_back()
    wait_until(bench.all_arrived, 30, "everything")
    assert bench.cloud.heard.count("grant-request") == 5
    assert bench.cloud.outcomes == {"stored": 300}


# Rate.


class Clock:
    """Be a clock the test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@given(
    st.lists(st.tuples(st.integers(1, 50_000), st.floats(0, 3)), min_size=1, max_size=60),
    st.integers(500, 90_000),
)
def test_no_more_goes_out_than_the_rate_lets_through(takes: list[tuple[int, float]], rate: int) -> None:
    """Over any life, bytes are at most the rate times the time, and one burst."""
    clock = Clock()
    bucket = TokenBucket(rate, clock)
    sent = 0
    for count, pause in takes:
        clock.now += bucket.take(count)
        sent += count
        assert sent <= rate * clock.now + max(rate, 16 * 1024) + 1e-3
        clock.now += pause


def test_a_limited_box_keeps_to_its_rate(store: PutServer) -> None:
    """Real puts by two threads over one bucket: both arrive, together no faster than allowed."""
    putter = HttpPutter(bucket=TokenBucket(200 * 1024))
    began = time.monotonic()
    threads = [
        threading.Thread(target=putter.put, args=(f"{store.url}/{name}", bytes(150 * 1024), "image/jpeg"))
        for name in "ab"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    took = time.monotonic() - began
    assert set(store.objects) == {"/a", "/b"}
    assert all(len(content) == 150 * 1024 for content in store.objects.values())
    assert 1.2 < took < 6.0


def test_a_slow_put_is_given_up_when_the_agent_stops(store: PutServer) -> None:
    """Closing does not wait for the bucket."""
    putter = HttpPutter(bucket=TokenBucket(1024))
    failed: list[StoreAway] = []

    def put() -> None:
        try:
            putter.put(f"{store.url}/a", bytes(200_000), "image/jpeg")
        except StoreAway as error:
            failed.append(error)

    thread = threading.Thread(target=put)
    thread.start()
    thread.join(0.2)
    assert thread.is_alive()
    putter.close()
    thread.join(5)
    assert len(failed) == 1


def test_a_limited_box_asks_for_no_more_than_a_grant_lives(tmp_path: Path, store: PutServer) -> None:
    """At 1 KiB/s one image of 200 kB takes the life of a grant; without a limit all are asked for."""
    for rate, expected in ((1, 1), (2, 3), (0, 5)):
        bench = Bench(
            config_of(tmp_path, upload={"rate_limit_kib_s": rate}), tmp_path / f"outbox-{rate}", store
        )
        for number in range(5):
            image = random.Random(number).randbytes(200_000)
            bench.outbox.add(image, example_of(image, part=f"part-{number}"), {})
        assert len(bench.uploader._wanted_now()) == expected
        bench.outbox.close()


def test_a_body_goes_out_in_chunks() -> None:
    """However much is asked for at once; the end is empty."""
    body = PacedBody(b"x" * 40_000, TokenBucket(0), threading.Event())
    assert [len(body.read(99_999)), len(body.read(5)), len(body.read()), len(body.read()), body.read()] == [
        16384,
        5,
        16384,
        7227,
        b"",
    ]
