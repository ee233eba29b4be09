"""Run the reaper's rounds: slow, broken and locked-out providers, changed settings, leases nobody knows."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fleet_contracts import utc_now
from fleet_contracts.training import GpuOffer, Lease
from flows.database import Database
from flows.gpus import lenders as lenders_module
from flows.gpus.base import GpuProvider, Machine
from flows.gpus.errors import TokenRefused
from flows.gpus.heartbeats import beats
from flows.gpus.leases import LeaseBook, Terms, rent
from flows.gpus.lenders import Lenders, left_alone
from flows.gpus.memory import MemoryProvider
from flows.gpus.prefect_api import PrefectAway
from flows.gpus.providers import MADE_BY
from flows.gpus.reaper import Round, Sentence, look_after
from flows.gpus.rounds import Rounds, Watch
from flows.gpus.settings import DstackSection, SimulatedSection
from flows.gpus.telling import REAPED, UNWATCHED, WATCHED, Teller
from flows.settings import Settings, write_settings
from tests.helpers import ROOT, wait_until

RUN = "run-0123456789abcdef"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """Return a fresh database."""
    opened = Database.open(f"sqlite:///{tmp_path / 'test.db'}")
    yield opened
    opened.close()


@dataclass
class Known:
    """Be lenders that are these."""

    made: dict[str, GpuProvider]
    broken: tuple[Round, ...] = ()

    def now(self) -> dict[str, GpuProvider]:
        """Return them."""
        return self.made

    def failed(self) -> tuple[Round, ...]:
        """Return those that could not be made."""
        return self.broken


@dataclass
class Ears:
    """Hear events; deaf ones answer that they are away."""

    heard: list[tuple[str, str]] = field(default_factory=list)
    is_deaf: bool = False

    def emit(self, event: str, resource: dict[str, str], payload: dict[str, Any]) -> None:
        """Keep one event's name and provider."""
        if self.is_deaf:
            raise PrefectAway(expected="an answer", got="none", where="test")
        self.heard.append((event, resource["whetstone.provider"]))


def stray(name: str) -> MemoryProvider:
    """Return a provider with one machine that no lease owns."""
    provider = MemoryProvider(name=name)
    provider.machines["stray"] = Machine("stray", "lease-unknown")
    return provider


def rented(database: Database, provider: MemoryProvider) -> Lease:
    """Rent one machine."""
    offer = GpuOffer(provider=provider.name, offer_id="a", gpu="T4", gpu_count=1, gpu_memory_mib=1, priced_at=utc_now())
    terms = Terms("plates", RUN, offer, 0.0, utc_now() + timedelta(hours=1), price=1.0)
    return rent(LeaseBook(database), provider, terms, Path("ticket.json"))


class LockedOut(MemoryProvider):
    """Be a provider that takes our token no more."""

    def list_ours(self) -> tuple[Machine, ...]:
        """Refuse."""
        raise TokenRefused(expected="a token that is good", got="401", where="file:token of cloud", now="Renew it.")


class Broken(MemoryProvider):
    """Be an adapter with a fault of its own."""

    def list_ours(self) -> tuple[Machine, ...]:
        """Raise what no adapter should."""
        raise KeyError("machines")


def test_a_token_that_is_refused_is_told_aloud_and_once(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing there can be ended: an error in the log and one event, until it is looked after again."""
    locked, ears = LockedOut(name="cloud"), Ears()
    rounds = Rounds(Watch(Known({"cloud": locked, "other": stray("other")}), database, Teller(ears).heard))
    with caplog.at_level(logging.ERROR):
        cloud, other = rounds.once()
    assert (cloud.answered, cloud.locked_out) == (False, True)
    assert "file:token of cloud" in cloud.trouble
    assert other.ended == (Sentence("stray", "", "no live lease owns it"),)
    assert "gpus.unwatched provider=cloud" in caplog.text
    rounds.once()
    assert ears.heard == [(UNWATCHED, "cloud"), (REAPED, "other")]
    locked.__class__ = MemoryProvider
    rounds.once()
    assert ears.heard[2:] == [(WATCHED, "cloud")]
    assert {one.provider: one.trouble for one in beats(database)} == {"cloud": "", "other": ""}


def test_a_machine_that_may_not_be_ended_locks_us_out(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token that lists and must not end is no better than none, and such a reaper does not count as seeing."""
    provider = stray("cloud")

    def forbidden(machine: str) -> None:
        raise TokenRefused(expected="the right to end machines", got="403", where="cloud")

    monkeypatch.setattr(provider, "terminate", forbidden)
    found = look_after(LeaseBook(database), provider)
    assert (found.ended, found.answered, found.locked_out) == ((), False, True)


def test_an_adapters_fault_stops_no_other_provider(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    """What an adapter must not raise is logged with its traceback, and the round goes on."""
    rounds = Rounds(Watch(Known({"bad": Broken(name="bad"), "other": stray("other")}), database, Teller(Ears()).heard))
    bad, other = rounds.once()
    assert (bad.answered, bad.locked_out) == (False, False)
    assert len(other.ended) == 1
    assert "KeyError: 'machines'" in caplog.text


def test_a_deaf_prefect_holds_nothing_up(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    """Events are hints: what was ended stands in the log."""
    Rounds(Watch(Known({"other": stray("other")}), database, Teller(Ears(is_deaf=True)).heard)).once()
    assert "gpus.reaped provider=other" in caplog.text
    assert "gpus.not_told" in caplog.text


def test_a_provider_that_hangs_delays_no_other(database: Database) -> None:
    """Every provider has a thread of its own; one that hangs is not asked twice at once."""
    hanging, asked = threading.Event(), []

    class Hanging(MemoryProvider):
        def list_ours(self) -> tuple[Machine, ...]:
            asked.append(1)
            hanging.wait(60)
            return ()

    other = stray("other")
    stop = threading.Event()
    rounds = Rounds(Watch(Known({"slow": Hanging(name="slow"), "other": other}), database, lambda _: None), every=0.05)
    thread = threading.Thread(target=rounds.run, args=(stop,))
    thread.start()
    try:
        wait_until(lambda: not other.machines, 30, "the stray to be ended")
        other.machines["second"] = Machine("second", "lease-unknown")
        wait_until(lambda: not other.machines, 30, "the second one to be ended in a later round")
        assert asked == [1]
    finally:
        hanging.set()
        stop.set()
        thread.join(30)
    assert not thread.is_alive()


def test_leases_of_a_provider_that_is_gone_from_the_settings_are_told(database: Database) -> None:
    """Nobody could end their machines any more: the lease's and the machine's names are said."""
    lease = rented(database, MemoryProvider(name="gone"))
    (found,) = Rounds(Watch(Known({}), database, lambda _: None)).once()
    assert (found.provider, found.locked_out) == ("gone", True)
    assert lease.lease_id in found.trouble
    assert lease.machine in found.trouble
    assert left_alone([lease], ["gone"]) == ()


def test_settings_that_change_are_taken_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider added while the reaper runs is looked after; one that cannot be made keeps no other back."""
    reads: list[int] = []
    real = lenders_module.each_apart

    def make(folder: Path, settings: Settings) -> tuple[dict[str, GpuProvider], dict[str, str]]:
        reads.append(len(settings.providers))
        return real(folder, settings)

    monkeypatch.setattr(lenders_module, "each_apart", make)
    monkeypatch.setitem(MADE_BY, "dstack", "flows.gpus.no_seller:Seller")
    write_settings(tmp_path, Settings(installation="plant7"))
    lenders = Lenders(tmp_path)
    assert set(lenders.now()) == {"this-machine"}
    good, bad = SimulatedSection(kind="simulated"), DstackSection(kind="dstack", url="http://127.0.0.1", token="env:A")
    write_settings(tmp_path, Settings(installation="plant7", providers={"bad": bad, "good": good}))
    assert set(lenders.now()) == {"this-machine", "good"}
    (failed,) = lenders.failed()
    assert (failed.provider, failed.locked_out) == ("bad", True)
    assert "no_seller" in failed.trouble
    lenders.now()
    assert reads == [0, 2]
    (tmp_path / "whetstone.toml").write_text("broken [")
    assert set(lenders.now()) == {"this-machine", "good"}


def test_the_process_reaps_without_store_and_prefect(tmp_path: Path) -> None:
    """A second reaper on another host needs folder and database alone."""
    folder = tmp_path / "installation"
    write_settings_of(folder)
    command = [sys.executable, "-m", "flows.gpus", "reap", "--folder", str(folder), "--once"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "gpus.no_store" in done.stderr


def write_settings_of(folder: Path) -> None:
    """Write the settings of an installation that has nothing but a name."""
    folder.mkdir()
    write_settings(folder, Settings(installation="plant7"))


def test_a_fault_of_our_own_ends_no_reaper(database: Database) -> None:
    """Whatever the making of providers raises, the rounds go on and end what they can."""
    provider = stray("cloud")
    faults: list[int] = []

    class Faulty(Known):
        def now(self) -> dict[str, GpuProvider]:
            if len(faults) < 2:
                faults.append(1)
                raise RuntimeError("can't start new thread")
            return super().now()

    stop = threading.Event()
    watch = Watch(Faulty({"cloud": provider}), database, lambda _: None)  # type: ignore[arg-type]
    thread = threading.Thread(target=Rounds(watch, every=0.05).run, args=(stop,), daemon=True)
    thread.start()
    try:
        wait_until(lambda: not provider.list_ours(), 20, "the stray machine to be ended")
    finally:
        stop.set()
        thread.join(10)
    assert len(faults) == 2


def test_a_round_that_hangs_is_told(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A seller's call that never returns leaves its machines to nobody: a person hears of it, once."""
    monkeypatch.setattr("flows.gpus.rounds.HANGS_AFTER", 0.2)
    asked, release, ears = threading.Event(), threading.Event(), Ears()

    class Hanging(MemoryProvider):
        def list_ours(self) -> tuple[Machine, ...]:
            asked.set()
            release.wait(30)
            return super().list_ours()

    stop = threading.Event()
    watch = Watch(Known({"cloud": Hanging(name="cloud")}), database, Teller(ears).heard)  # type: ignore[arg-type]
    thread = threading.Thread(target=Rounds(watch, every=0.05).run, args=(stop,), daemon=True)
    thread.start()
    try:
        wait_until(lambda: (UNWATCHED, "cloud") in ears.heard, 20, "the hanging round to be told")
        assert asked.is_set()
        release.set()
        wait_until(lambda: (WATCHED, "cloud") in ears.heard, 20, "the round to end")
    finally:
        release.set()
        stop.set()
        thread.join(10)
    assert ears.heard[0] == (UNWATCHED, "cloud")
