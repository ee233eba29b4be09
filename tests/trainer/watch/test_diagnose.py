"""Name what holds a training back, from machines in known states."""

from __future__ import annotations

import pytest

from fleet_contracts.training import WatchPolicy
from tests.trainer.watch.scenes import GIB, SCENE, card, host, samples, times
from trainer.watch.device_clock import DeviceClock
from trainer.watch.diagnose import Scene, diagnose, means_of
from trainer.watch.sample import GpuReading, HostReading, Sample
from trainer.watch.timings import StepClock, StepTimes

POLICY = WatchPolicy()
ROWS = [
    ("loader", host(cpu_share=0.4), card(0.3), times(0.5), SCENE, "4.8 of 8 cores are free"),
    ("loader", host(cpu_share=0.4), None, times(0.5), SCENE, "50 % of their time"),
    (
        "disk",
        host(cpu_share=0.3, io_wait=0.2),
        card(0.3),
        times(0.5),
        SCENE,
        "80 % of theirs waiting for the disk",
    ),
    ("loader", host(cpu_share=0.3, io_wait=0.2), card(0.3), times(0.5), Scene(2, "ram", 8.0), "free"),
    ("loader", host(cpu_share=0.3, io_wait=0.05), card(0.3), times(0.5), SCENE, "free"),
    ("cpu-augmentation", host(cpu_share=0.97), card(0.3), times(0.5), SCENE, "97 % busy decoding"),
    ("small-batch", host(), card(0.4, full=0.2), times(0.02), SCENE, "80 % of its memory is free"),
    ("fine", host(), card(0.4, full=0.8), times(0.02), SCENE, "no room for a larger batch"),
    ("fine", host(), card(0.9), times(0.3), SCENE, "90 % busy"),
    ("fine", host(cpu_share=0.99), None, times(0.05), SCENE, "5 %"),
    ("loader", host(), card(None), times(0.5), SCENE, "free"),
    ("fine", host(), card(None), times(0.02), SCENE, "2 %"),
]


@pytest.mark.parametrize(("kind", "machine", "gpu", "steps", "scene", "words"), ROWS)
def test_a_state_has_its_name(
    kind: str, machine: HostReading, gpu: GpuReading | None, steps: StepTimes, scene: Scene, words: str
) -> None:
    """Each state of machine and steps gets one diagnosis, with the numbers it rests on."""
    found = diagnose(samples(120, machine, gpu), steps, scene, POLICY)
    assert found.kind == kind
    assert words in found.why
    assert found.evidence["wait_share"] == pytest.approx(steps.wait_share, abs=1e-3)
    assert found.evidence["seconds"] == pytest.approx(120)
    assert ("gpu_utilisation" in found.evidence) == (gpu is not None and gpu.utilisation is not None)


def test_a_short_look_judges_nothing() -> None:
    """Under the plan's time nothing but memory is diagnosed: an epoch's first seconds are always slow."""
    found = diagnose(samples(30, host(), card(0.1)), times(0.9), SCENE, POLICY)
    assert (found.kind, found.why) == ("fine", "not watched for long enough to judge")
    assert diagnose([], StepTimes(), SCENE, POLICY).kind == "fine"


def test_what_alarms_is_settable() -> None:
    """A plan that wants more of its card is alarmed sooner."""
    seen = samples(120, host(), card(0.7, full=0.2))
    assert diagnose(seen, times(0.02), SCENE, POLICY).kind == "fine"
    assert diagnose(seen, times(0.02), SCENE, WatchPolicy(low_utilisation=0.8)).kind == "small-batch"


def test_memory_that_stays_near_the_limit_is_told_first() -> None:
    """A card over 95 % for a minute is near its limit, however well it is used; for a moment it is not."""
    full = samples(120, host(), card(0.95, full=0.97))
    found = diagnose(full, times(0.5), SCENE, POLICY)
    assert (found.kind, found.memory) == ("memory-near-limit", "device")
    assert found.evidence["least_share"] == pytest.approx(0.97, abs=1e-3)
    spike = samples(120, host(), lambda at: card(0.95, full=0.97 if at % 10 else 0.5))
    assert diagnose(spike, times(0.0), SCENE, POLICY).kind == "fine"


def test_what_an_allocator_only_keeps_is_not_near_the_limit() -> None:
    """Memory that could be given back does not count: every card looks full after a while."""
    kept = GpuReading(0.95, int(23.8 * GIB), 24 * GIB, needed_bytes=12 * GIB, limit_bytes=24 * GIB)
    assert diagnose(samples(120, host(), kept), times(0.0), SCENE, POLICY).kind == "fine"
    capped = GpuReading(0.95, 8 * GIB, 24 * GIB, needed_bytes=int(5.9 * GIB), limit_bytes=6 * GIB)
    assert diagnose(samples(120, host(), capped), times(0.0), SCENE, POLICY).memory == "device"


def test_a_leak_is_told_before_it_is_too_late() -> None:
    """Memory that grows steadily to its limit within minutes is told, with the seconds that are left."""

    def leaking(at: int) -> Sample:
        return Sample(float(at), host(free_bytes=int((20 - at * 0.1) * GIB), rss_bytes=30 * GIB))

    found = diagnose([leaking(at) for at in range(120)], times(0.0), SCENE, POLICY)
    assert (found.kind, found.memory) == ("memory-near-limit", "host")
    assert found.evidence["seconds_left"] == pytest.approx(81, abs=2)
    slow = [Sample(float(at), host(free_bytes=int((18 - at * 0.001) * GIB), rss_bytes=30 * GIB))
            for at in range(120)]  # fmt: skip
    assert diagnose(slow, times(0.0), SCENE, POLICY).kind == "fine"


def test_memory_that_others_fill_is_not_ours_to_free() -> None:
    """A host that is full for other reasons does not lead down a ladder that could not help."""
    for ours, memory in ((40, "host"), (3, "")):
        full = samples(120, host(free_bytes=GIB, rss_bytes=ours * GIB))
        assert diagnose(full, times(0.0), SCENE, POLICY).memory == memory


class CardClock:
    """Be a card that works off its queue: marks are passed when the work before them is done."""

    def __init__(self) -> None:
        self.now = 0.0
        self.free_at = 0.0

    def work(self, seconds: float) -> None:
        """Queue a step."""
        self.free_at = max(self.free_at, self.now) + seconds

    def mark(self) -> CardMark:
        """Return a mark for this card's queue."""
        return CardMark(self)


class CardMark:
    """Be a mark in a simulated card's queue."""

    def __init__(self, card: CardClock) -> None:
        self.card = card
        self.at = 0.0

    def record(self) -> None:
        self.at = max(self.card.now, self.card.free_at)

    def query(self) -> bool:
        return self.card.now >= self.at

    def synchronize(self) -> None:
        self.card.now = max(self.card.now, self.at)

    def elapsed_time(self, end: CardMark) -> float:
        assert self.query()
        assert end.query()
        return (end.at - self.at) * 1000


@pytest.mark.parametrize(("load", "share"), [(0.2, 0.0), (1.0, 0.0), (3.0, 2 / 3)])
def test_a_wait_behind_a_busy_card_is_none(load: float, share: float) -> None:
    """Steps of one second are queued in no time: only what the loader takes longer than the card counts."""
    card_ = CardClock()
    clock = DeviceClock(StepClock(lambda: card_.now), card_.mark)
    clock.ask()
    clock.got()
    for _ in range(50):
        card_.work(1.0)
        clock.done(4)
        card_.now = max(card_.now + load, card_.free_at - 5)  # torch runs ahead some steps, not for ever
        clock.got()
    total = clock.total()
    assert total.images == 200
    assert total.wait_share == pytest.approx(share, abs=0.03)
    clock.ask()
    assert clock.total().wait_seconds == 0.0


def test_means_are_those_of_the_window() -> None:
    """Bytes become a rate, a card that does not tell is left out, nothing gives zeros."""
    seen = samples(10, host(disk_read_bytes=5 << 20), lambda at: card(0.2 if at % 2 else 0.4))
    means = means_of(seen)
    assert means.seconds == pytest.approx(10)
    assert means.disk_read_per_second == pytest.approx(5 << 20)
    assert means.gpu_utilisation == pytest.approx(0.3)
    assert means.power_watts == pytest.approx(120)
    assert means_of([]).gpu_utilisation is None


def test_a_wait_runs_from_asking_to_having() -> None:
    """The loader's time and the step's are told apart, and an epoch's first batch counts too."""
    now = [0.0]
    clock = StepClock(lambda: now[0])
    clock.ask()
    for wait, step in ((3.0, 1.0), (0.5, 1.0), (0.5, 1.0)):
        now[0] += wait
        clock.got()
        now[0] += step
        clock.done(4)
    total = clock.total()
    assert (total.steps, total.images) == (3, 12)
    assert (total.wait_seconds, total.step_seconds) == (pytest.approx(4.0), pytest.approx(3.0))
    assert total.wait_share == pytest.approx(4 / 7)
    assert total.images_per_second == pytest.approx(12 / 7)
    now[0] += 50.0  # validation and a checkpoint between two epochs are nobody's wait
    clock.ask()
    assert clock.total() == StepTimes()
