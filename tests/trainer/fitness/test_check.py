"""Measure this machine, a simulated driver and a slow line, and check a run on them."""

from __future__ import annotations

import os
from datetime import timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from fleet_contracts.base import decode, encode, utc_now
from fleet_contracts.renting import OFFER, SIMULATED_DRIVER
from fleet_contracts.training import Prediction, RunEvent, VramEstimate
from tests.trainer.rented.kit import T4, HttpStore, running
from tests.trainer.store import RunStore
from tests.trainer.weather import Weather
from trainer.cache import ObjectCache
from trainer.errors import MachineUnfit
from trainer.fitness import measure
from trainer.fitness.check import Check
from trainer.fitness.facts import Already, TorchBuild
from trainer.fitness.measure import see_driver, see_line
from trainer.fitness.needs import LEAST_DATA_SECONDS, need_of
from trainer.fitness.simulated import SimulatedCard, describe
from trainer.fitness.torch_build import installed_torch
from trainer.run import run_ticket
from trainer.wire import HttpWire, MemoryWire

HOST = {name: os.environ[name] for name in ("PATH",)}


def asked(file: Path, seconds: float = 20.0) -> measure.DriverSeen:
    """Ask a described driver."""
    return see_driver({**HOST, SIMULATED_DRIVER: str(file)}, seconds)


def test_a_described_driver_is_asked_in_its_own_process(tmp_path: Path) -> None:
    """Name, memory, versions and what CUDA can start come through the process that asks."""
    cards = (SimulatedCard("Tesla T4", 15_360, 15_000, (7, 5)), SimulatedCard("Abacus 9", 1_000))
    seen = asked(describe(tmp_path / "driver.json", *cards, cuda=(12, 8), version="570.1"))
    assert (seen.version, seen.cuda, seen.usable, seen.error) == ("570.1", (12, 8), 2, "")
    assert [(one.name, one.total_bytes >> 20, one.free_bytes >> 20, one.capability) for one in seen.cards] == [
        ("Tesla T4", 15_360, 15_000, (7, 5)), ("Abacus 9", 1_000, 1_000, None)
    ]  # fmt: skip


def test_a_driver_that_hangs_or_lies_is_told(tmp_path: Path) -> None:
    """A hanging driver costs the seconds it was given; one that fails says why; garbage is no answer."""
    hanging = asked(describe(tmp_path / "hangs.json", hangs=60), 1.0)
    assert "no answer within 1 s" in hanging.error
    assert asked(describe(tmp_path / "error.json", error="version mismatch")).error == "version mismatch"
    (tmp_path / "none.json").write_text("no json")
    assert "asking it ended with 1" in asked(tmp_path / "none.json").error


def test_this_machine_is_measured(tmp_path: Path) -> None:
    """Disk, memory and the installed torch are read from the system, torch without importing it."""
    (tmp_path / "one").write_bytes(b"x" * 1000)
    (tmp_path / "two").hardlink_to(tmp_path / "one")
    assert measure.disk_taken(tmp_path) == 1000
    (tmp_path / ("a" * 64)).write_bytes(b"whole")
    (tmp_path / ("b" * 64 + ".part")).write_bytes(b"begun, so far")
    assert ObjectCache(tmp_path).bytes_of(("a" * 64, "b" * 64, "c" * 64)) == 5 + 13
    assert measure.disk_free(tmp_path / "not" / "there") > 0
    assert measure.memory() > 0
    assert installed_torch() != TorchBuild()


def test_a_slow_line_is_seen(tmp_path: Path) -> None:
    """What comes in the seconds that are spent gives the rate; the store's clock comes along."""
    with running(HttpStore(os.urandom(400_000))) as store:
        store.ahead = timedelta(hours=-1)
        weather = Weather(store.server.server_address[1])
        weather.bytes_per_second = 100_000
        weights = store.ticket().start_weights
        port = str(store.server.server_address[1])
        slow = weights.model_copy(update={"url": weights.url.replace(port, str(weather.port), 1)})
        seen = see_line(HttpWire(), slow, seconds=0.5)
        weather.close()
        assert weather.carried < 400_000
        assert seen.bytes_per_second == pytest.approx(100_000, rel=0.6)
        assert seen.clock_ahead == pytest.approx(3600, abs=5)
        assert store.asked["RANGE start.pt"] == 1


def test_a_line_that_is_down_is_told() -> None:
    """No answer and a refusal say so; nothing is known of rate or clock."""
    store = RunStore(b"weights")
    weights = store.ticket().start_weights
    assert see_line(MemoryWire(away=True), weights).error.startswith("WireDown")
    refused = MemoryWire(forbidden={weights.url}, date=format_datetime(utc_now(), usegmt=True))
    assert see_line(refused, weights).error == "HTTP 403"


def test_what_a_plan_needs() -> None:
    """Disk for data, decoded cache and results; time for data by the training's own and by the deadline."""
    store = RunStore(b"weights" * 1000)
    ticket, now = store.ticket(), utc_now()
    plan = store.plan.model_copy(
        update={"offer": T4, "cache": "none", "vram": VramEstimate(terms={}, peak_bytes=5)}
    )
    plain = need_of(plan, ticket, (), now, Already())
    shards = sum(one.size_bytes for one in ticket.shards)
    assert (plain.cards, plain.promised_mib, plain.peak_bytes) == (1, 15_360, 5)
    assert plain.data_bytes == shards + 7_000
    assert plain.data_seconds == LEAST_DATA_SECONDS
    half = need_of(plan, ticket, (), now, Already(cached=shards, staged=100))
    assert half.disk_bytes == plain.disk_bytes - shards - 100
    assert half.data_bytes == plain.data_bytes - shards
    assert need_of(plan, ticket, (), now, Already(staged=10**9)).data_bytes == 0
    long = Prediction(seconds=7300.0, train_seconds=7200.0, images_per_second=1.0)
    slow = plan.model_copy(update={"predicted": long})
    assert need_of(slow, ticket, (), now, Already()).data_seconds == 3600.0
    late = slow.model_copy(update={"deadline": now + timedelta(seconds=8000)})
    assert need_of(late, ticket, (), now, Already()).data_seconds == 800.0
    assert need_of(store.plan, ticket, (), now, Already()).cards == 0


def test_a_run_that_goes_on_needs_the_time_that_is_left() -> None:
    """With most of it done elsewhere the deadline leaves the data their time; past it, what is always granted."""
    store = RunStore(b"weights")
    now = utc_now()
    ten_hours = Prediction(seconds=36_100.0, train_seconds=36_000.0, images_per_second=1.0)
    plan = store.plan.model_copy(
        update={"offer": T4, "predicted": ten_hours, "deadline": now + timedelta(hours=4)}
    )
    granted = [
        need_of(plan, store.ticket(), (), now, Already(done=share)).data_seconds for share in (0.8, 0.0, 1.0)
    ]
    assert granted == [pytest.approx(7_200.0), LEAST_DATA_SECONDS, pytest.approx(14_400.0)]
    over = plan.model_copy(update={"deadline": now - timedelta(hours=1)})
    assert need_of(over, store.ticket(), (), now, Already()).data_seconds == LEAST_DATA_SECONDS


def test_a_machine_is_held_against_its_own_offer(tmp_path: Path) -> None:
    """A run planned for a T4 goes on with what was rented instead; the plan's card counts where none is named."""
    store = RunStore(b"weights")
    a100 = T4.model_copy(update={"gpu": "A100", "gpu_memory_mib": 40_960})
    plan = store.plan.model_copy(update={"offer": a100})
    card = SimulatedCard("NVIDIA RTX A6000", 46_068, 45_000, (8, 6))
    driver = {**HOST, SIMULATED_DRIVER: str(describe(tmp_path / "driver.json", card))}
    cache = ObjectCache(tmp_path / "cache")

    def kinds(told: str) -> list[str]:
        check = Check(environment={**driver, OFFER: told})
        try:
            found = check(plan, store.ticket(), (), tmp_path, cache)
        except MachineUnfit as error:
            return [one for one in error.reasons if one.startswith("kind")]
        return [one.why for one in found if one.what == "kind"]

    assert kinds("") == ["kind: A100 promised, NVIDIA RTX A6000 here"]
    assert kinds("cloud-b 1 49140 65536 RTXA6000") == []
    assert kinds("cloud-b 1 49140 65536 H100") == ["kind: H100 promised, NVIDIA RTX A6000 here"]


def test_a_plan_for_the_processor_is_not_checked_at_home(tmp_path: Path) -> None:
    """Without a card in the plan `trainer run` begins as ever; a rented machine is checked all the same."""
    store = RunStore(b"weights")

    def wire() -> MemoryWire:
        pytest.fail("nobody asked for the line")

    cache = ObjectCache(tmp_path / "cache")
    assert Check(wire=wire)(store.plan, store.ticket(), (), tmp_path, cache) == ()
    thorough = Check(thorough=True, wire=lambda: store.wire)
    assert thorough(store.plan, store.ticket(), (), tmp_path, cache) == ()
    assert store.wire.log[-1][:2] in {("GET", store.url(f"shard-{number}")) for number in (0, 1)}


def test_a_run_ends_before_its_data_where_the_card_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`trainer run` with a card in its plan and none here: failure.json says unfit, no shard was asked for."""
    described = describe(tmp_path / "driver.json", error="NVML Shared Library Not Found")
    monkeypatch.setenv(SIMULATED_DRIVER, str(described))
    store = RunStore(b"weights")
    store.plan = store.plan.model_copy(update={"offer": T4})
    store.put("plan.json", encode(store.plan))
    with pytest.raises(MachineUnfit, match="NVML") as caught:
        run_ticket(store.ticket_file(tmp_path), tmp_path / "work", wire=store.wire)
    told = decode(RunEvent, store.get("failure.json") or b"", where="failure.json")
    assert told.data["unfit"] is True
    assert told.data["reasons"] == list(caught.value.reasons)
    assert store.events() == ["failed"]
    gets = [url for verb, url, _ in store.wire.log if verb == "GET"]
    assert not {store.url(name) for name in ("shard-0", "shard-1", "start.pt")}.intersection(gets)
