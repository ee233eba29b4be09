"""Look at real and simulated machines: cheap, bounded, and never in the training's way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from tests.helpers import wait_until
from tests.trainer.watch.scenes import GIB, card, host
from trainer.memory.cgroup import MemoryGroup
from trainer.watch import sampler as sampler_module
from trainer.watch.gpu import SIMULATED_GPU, Act, NvmlGpu, SimulatedGpu, reader_for
from trainer.watch.host import ThisHost, quota_of
from trainer.watch.sample import GpuReading, HostReading
from trainer.watch.sampler import Sampler


class CountingHost:
    """Be a machine that counts how often it is looked at, and is blind at first."""

    def __init__(self, blind: int = 0) -> None:
        self.looks = 0
        self._blind = blind

    def read(self) -> HostReading:
        self.looks += 1
        if self.looks <= self._blind:
            raise OSError("no /proc")
        return host()


def test_samples_come_while_the_training_works_and_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread keeps the newest samples only, oldest first, and ends with its context."""
    monkeypatch.setattr(sampler_module, "KEPT", 5)
    machine = CountingHost()
    began = time.monotonic()
    with Sampler(machine, SimulatedGpu([Act(1.0, card(0.5))]), period=0.01) as sampler:
        wait_until(lambda: machine.looks > 12, 20, "looks")
        seen = sampler.since(began)
        assert 1 <= len(seen) <= 5
        assert [one.at for one in seen] == sorted(one.at for one in seen)
        assert seen[-1].gpu == card(0.5)
        assert sampler.since(time.monotonic()) == ()
    looks = machine.looks
    time.sleep(0.05)
    assert machine.looks == looks


def test_a_watch_that_cannot_see_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    """What cannot be read is told once and costs samples, not the training."""

    class BlindCard:
        def read(self) -> GpuReading | None:
            raise RuntimeError("driver gone")

        def close(self) -> None:
            """Nothing to close."""

    machine = CountingHost(blind=3)
    with Sampler(machine, BlindCard(), period=0.01) as sampler:
        wait_until(lambda: len(sampler.since(0.0)) > 3, 20, "samples")
        assert all(one.gpu is None for one in sampler.since(0.0))
    told = [row.getMessage() for row in caplog.records if "watch.blind" in row.getMessage()]
    assert len(told) == 2


def test_a_look_costs_under_half_a_percent_of_a_core() -> None:
    """At one look a second the watch may take 5 ms each; it takes a fraction."""
    with Sampler(ThisHost(), None, period=0.02) as sampler:
        wait_until(lambda: len(sampler.since(0.0)) >= 25, 30, "looks")
        looks = len(sampler.since(0.0))
        assert sampler.busy_seconds / looks < 0.005


def test_this_machine_is_read_as_it_is() -> None:
    """A child that computes shows in the shares of processor and memory; one that sleeps does not."""
    machine = ThisHost()
    assert 0 < machine.cores <= len(os.sched_getaffinity(0))
    time.sleep(0.3)
    idle = machine.read()
    busy = subprocess.Popen(
        [sys.executable, "-c", "print(1, flush=True)\nwhile True: pass"], stdout=subprocess.PIPE
    )
    try:
        assert busy.stdout is not None
        busy.stdout.readline()
        machine.read()
        began = psutil.Process(busy.pid).cpu_times().user
        wait_until(
            lambda: psutil.Process(busy.pid).cpu_times().user > began + 0.3, 30, "the child to compute"
        )
        seen = machine.read()
    finally:
        busy.kill()
        busy.wait()
    assert idle.cpu_share < 0.2
    assert seen.cpu_share > idle.cpu_share + 0.05
    assert seen.rss_bytes > idle.rss_bytes
    assert 0 < seen.free_bytes <= seen.total_bytes


@pytest.mark.parametrize(("text", "cores"), [("max 100000\n", None), ("250000 100000\n", 2.5), ("", None)])
def test_a_container_has_the_cores_of_its_quota(tmp_path: Path, text: str, cores: float | None) -> None:
    """A container may see 64 cores and own two and a half."""
    (tmp_path / "cpu.max").write_text(text)
    assert quota_of(tmp_path) == cores


def test_a_container_has_the_memory_of_its_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the group may still take counts, and its idle file caches count as free."""
    (tmp_path / "memory.events").write_text("oom_kill 0\n")
    for name, text in (("max", str(4 * GIB)), ("current", str(3 * GIB)), ("stat", f"inactive_file {GIB}\n")):
        (tmp_path / f"memory.{name}").write_text(text)
    monkeypatch.setattr(MemoryGroup, "of", classmethod(lambda cls, _pid: cls(tmp_path, 2)))
    assert ThisHost().memory() == (2 * GIB, 4 * GIB)


def test_a_simulated_card_plays_its_script(tmp_path: Path) -> None:
    """Acts follow each other from the first look on; the last one stays."""
    script = tmp_path / "card.json"
    rows = [{"seconds": seconds, "utilisation": used, "used_bytes": 1, "total_bytes": 10}
            for seconds, used in ((2, 0.1), (3, 0.5), (1, None))]  # fmt: skip
    script.write_text(json.dumps(rows))
    assert isinstance(reader_for({SIMULATED_GPU: str(script)}), SimulatedGpu)
    now = [100.0]
    play = SimulatedGpu(
        [Act(row["seconds"], GpuReading(row["utilisation"], 1, 10)) for row in rows], lambda: now[0]
    )
    shown = []
    for later in (0.0, 1.9, 0.2, 2.8, 0.2, 500.0):
        now[0] += later
        reading = play.read()
        assert reading is not None
        shown.append(reading.utilisation)
    assert shown == [0.1, 0.1, 0.5, 0.5, None, None]


class SilentError(Exception):
    """Be the library's way to say no."""


def test_a_card_that_does_not_tell_everything_is_read_for_the_rest() -> None:
    """A slice of a card tells memory and no utilisation; without memory there is no reading."""

    def refuse(*_: object) -> None:
        raise SilentError("not supported")

    library = SimpleNamespace(
        NVMLError=SilentError, nvmlDeviceGetUtilizationRates=refuse, nvmlShutdown=refuse,
        nvmlDeviceGetMemoryInfo=lambda _: SimpleNamespace(used=3, total=4),
        nvmlDeviceGetPowerUsage=lambda _: 71_000,
    )  # fmt: skip
    reader = NvmlGpu(library, object())
    reading = reader.read()
    assert reading == GpuReading(None, 3, 4, 71.0)
    assert reading.full_share == 0.75
    library.nvmlDeviceGetMemoryInfo = refuse
    assert reader.read() is None
    reader.close()
