"""Rent a machine for real: the seller's command, a store over HTTP, and everything that can end it."""

from __future__ import annotations

import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from fleet_contracts import keys
from fleet_contracts.base import decode, utc_now
from fleet_contracts.renting import CLAIM, POWER_OFF, SIMULATED_DRIVER, UNTIL, WORK
from fleet_contracts.training import RunEvent, RunRecord
from tests.helpers import free_port, wait_until
from tests.trainer.rented.kit import T4, HttpStore, Rented, running
from trainer.backend_job import BackendEvent, BackendResult
from trainer.fitness.simulated import SimulatedCard, describe
from trainer.statuses import AGAIN, DONE, FAILED

HOUR = timedelta(hours=1)
_IMPATIENT = """
import os, sys
from trainer.rented.__main__ import _log_to
from trainer.rented.clock import ticks
from trainer.rented.guard import Guard, Patience
from trainer.rented.orders import read_orders
claim = os.environ.pop("WHETSTONE_CLAIM")
unknown = float(os.environ.get("UNKNOWN_SECONDS", "60"))
orders = read_orders(os.environ)
_log_to(orders)
sys.exit(Guard(orders, claim, ticks(), Patience(grace=1.0, unknown=unknown, power=0.1)).run())
"""


@pytest.fixture
def store() -> Iterator[HttpStore]:
    """Return a served store whose plan is for the processor."""
    with running(HttpStore()) as served:
        yield served


@pytest.fixture
def rented(store: HttpStore, tmp_path: Path) -> Iterator[Rented]:
    """Return a machine leased for an hour."""
    machine = Rented(store, tmp_path / "disk", store.clock() + HOUR)
    yield machine
    machine.end()


def failure_of(store: HttpStore) -> RunEvent:
    """Return what the trainer said when it gave up."""
    content = store.get("failure.json")
    assert content is not None
    return decode(RunEvent, content, where="failure.json")


def test_a_rented_machine_trains_and_is_switched_off(
    trained: tuple[BackendResult, list[BackendEvent]], tmp_path: Path
) -> None:
    """From the claim alone: result, log and times arrive, it powers off once, and nobody could read the claim."""
    environments: dict[str, list[bytes]] = {}
    modes: set[int] = set()
    with running(HttpStore(trained[0].weights.read_bytes(), stages=(1,))) as store:
        rented = Rented(store, tmp_path / "disk", store.clock() + HOUR)

        def look(verb: str, name: str) -> None:
            # Whoever asks waits for us meanwhile, so that these processes are there.
            if name == "shard-0":
                modes.update(
                    stat.S_IMODE(one.stat().st_mode) for one in rented.disk.glob("work/leases/*/ticket.json")
                )
            if name in ("shard-0", keys.event_name(0)) and name not in environments:
                environments[name] = [
                    Path(f"/proc/{one.pid}/{what}").read_bytes()
                    for one in rented.family()
                    for what in ("environ", "cmdline")
                ]

        store.seen = look
        assert rented.run(240) == DONE, rented.console
        signature = store.claim.partition("=")[2].encode()
        assert len(environments) == 2
        assert len(environments["shard-0"]) >= 4
        assert not any(signature in one for looked in environments.values() for one in looked)
        assert signature.decode() not in rented.console
        assert store.get("result.json") is not None
        assert b"trainer.finished" in (store.get(keys.LOG_NAME) or b"")
        assert signature not in (store.get(keys.LOG_NAME) or b"")
        assert rented.times_off == 1
        record = decode(RunRecord, store.get("run.json") or b"", where="run.json")
        begun = next(one for one in record.watch if one.data["kind"] == "start")
        assert begun.data["lease"] == rented.environment["WHETSTONE_LEASE"]
        seconds = begun.data["evidence"]
        assert isinstance(seconds, dict)
        parts = {"boot", "claim", "documents", "check", "data", "child", "first_step"}
        assert set(seconds) == {*parts, "seconds"}
        assert seconds["seconds"] == pytest.approx(sum(seconds[part] for part in parts), abs=0.01)
        assert 0 < seconds["seconds"] < 120
        assert store.events().count("watch") == 1
        assert modes == {0o600}
        left = [one for one in rented.disk.rglob("*") if one.is_file()]
        assert rented.disk / "console.log" in left
        assert not [one for one in left if signature in one.read_bytes()]


def test_an_unfit_machine_says_so_before_any_data_are_copied(store: HttpStore, rented: Rented) -> None:
    """A seller that lies about memory: told with its reasons within seconds, and switched off."""
    store.replan(offer=T4)
    store.statuses["ticket.json"] = [503]
    driver = describe(rented.disk.parent / "driver.json", SimulatedCard("Tesla T4", 7_680, 7_600, (7, 5)))
    rented.environment[SIMULATED_DRIVER] = str(driver)
    assert rented.run() == FAILED, rented.console
    told = failure_of(store)
    assert told.kind == "failed"
    assert told.data["unfit"] is True
    assert told.data["reasons"] == ["memory: T4 with 15360 MiB promised, Tesla T4 has 7680"]
    assert store.asked["GET ticket.json"] == 2, "the store was not away"
    assert not any(store.asked[f"GET {name}"] for name in ("shard-0", "shard-1", "start.pt"))
    assert decode(RunRecord, store.get("run.json") or b"", where="run.json").state == "running"
    assert rented.times_off == 1


def test_a_claim_that_ended_is_a_clear_end(store: HttpStore, rented: Rented) -> None:
    """A machine that came up too late says why, without the claim, and is switched off."""
    store.statuses["ticket.json"] = [403] * 9
    assert rented.run() == FAILED
    assert "a ticket for the claim" in rented.console
    assert "HTTP 403" in rented.console
    assert store.claim not in rented.console
    assert store.asked["GET ticket.json"] == 3
    assert rented.times_off == 1


def test_a_wrong_clock_does_not_move_the_lease(tmp_path: Path) -> None:
    """The lease ends by the store's time, though the trainer hangs and this machine's year is another.

    A power-off that fails is tried again, and what its command may hold is not logged.
    """
    with running(HttpStore()) as later, running(HttpStore()) as earlier:
        later.ahead, earlier.ahead = timedelta(days=400), timedelta(days=-400)
        began = time.monotonic()
        machines = [_stalled(later, tmp_path / "later"), _stalled(earlier, tmp_path / "earlier")]
        for rented in machines:
            assert rented.process is not None
            assert rented.process.wait(90) == AGAIN, rented.console
            assert time.monotonic() - began > 2.0
            assert "the lease is over" in rented.console
            assert "no end within 1 s of the warning" in rented.console
            assert rented.times_off == 3
            assert "rented.powered_off attempt=3" in rented.console
            assert "k3y" not in rented.console
        assert later.asked["GET ticket.json"] == earlier.asked["GET ticket.json"] == 1


def _stalled(store: HttpStore, disk: Path) -> Rented:
    """Start a machine with two seconds left, by the store's time, and a trainer that hangs.

    Its power goes off at the third attempt.
    """
    store.stalls.add("ticket.json")
    rented = Rented(store, disk, store.clock() + timedelta(seconds=2), ("-c", _IMPATIENT))
    rented.environment[POWER_OFF] += f"; : k3y-of-this-machine; test $(wc -l < {rented.off}) -ge 3"
    rented.start()
    return rented


def test_output_that_nobody_reads_does_not_hold_the_machine(store: HttpStore, rented: Rented) -> None:
    """A seller whose log is stuck: the pipe is full, and the lease ends and the machine goes all the same."""
    store.stalls.add("ticket.json")
    machine = Rented(store, rented.disk, store.clock() + timedelta(seconds=2), ("-c", _IMPATIENT))
    log = machine.disk / "work" / "leases" / machine.environment["WHETSTONE_LEASE"] / "trainer.log"
    log.parent.mkdir(parents=True)
    log.write_bytes(b"x" * (4 << 20))
    with subprocess.Popen(
        [sys.executable, "-c", _IMPATIENT], cwd=machine.disk, env=machine.environment,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        machine.process = process
        try:
            assert process.wait(60) == AGAIN
        finally:
            machine.end()
        assert machine.times_off == 1
        assert process.stdout is not None
        assert 0 < len(process.stdout.read()) < 4 << 20, "the pipe was never full"


def test_a_machine_whose_store_never_answers_ends(store: HttpStore, tmp_path: Path) -> None:
    """Without the store's time nobody knows the lease's: such a machine lives for so long and no longer."""
    rented = Rented(store, tmp_path / "disk", utc_now() + HOUR, ("-c", _IMPATIENT))
    rented.environment[CLAIM] = f"http://127.0.0.1:{free_port()}/ticket.json"
    rented.environment["UNKNOWN_SECONDS"] = "1"
    assert rented.run() == AGAIN
    assert "the store did not answer" in rented.console
    assert rented.times_off == 1


def test_a_killed_process_does_not_leave_the_machine_on(tmp_path: Path) -> None:
    """SIGKILL of the guard or of the trainer: the other one ends what runs and switches the machine off."""
    with running(HttpStore()) as one, running(HttpStore()) as other:
        machines = {
            number: Rented(store, tmp_path / str(number), store.clock() + HOUR)
            for number, store in enumerate((one, other))
        }
        for store, rented in zip((one, other), machines.values(), strict=True):
            store.statuses["plan.json"] = [503] * 100
            rented.start()
        for store in (one, other):
            wait_until(lambda: store.asked["GET plan.json"] >= 1, 90, "the trainer to ask for its plan")  # noqa: B023
        for number, rented in machines.items():
            family = rented.family()
            family[number].send_signal(signal.SIGKILL)
            assert rented.process is not None
            rented.process.wait(90)
            wait_until(lambda: rented.times_off == 1, 90, "the machine to be switched off")  # noqa: B023
            _, alive = psutil.wait_procs(family, 10)
            assert not alive
            assert rented.times_off == 1


def test_a_machine_that_is_taken_away_gets_to_send(store: HttpStore, rented: Rented) -> None:
    """SIGTERM, a seller's notice: the trainer ends by itself, the log is sent, the machine goes."""
    store.statuses["plan.json"] = [503] * 100
    process = rented.start()
    wait_until(lambda: store.asked["GET plan.json"] >= 1, 90, "the trainer to ask for its plan")
    process.send_signal(signal.SIGTERM)
    assert process.wait(90) == AGAIN
    assert "this machine was asked to end" in rented.console
    assert b"a request to stop" in (store.get(keys.LOG_NAME) or b"")
    assert rented.times_off == 1


def test_orders_that_make_no_sense_switch_the_machine_off(store: HttpStore, rented: Rented) -> None:
    """A machine nobody told its deadline is not left running until somebody looks."""
    del rented.environment[UNTIL]
    assert rented.run() == FAILED
    assert "WHETSTONE_UNTIL" in rented.console
    assert rented.times_off == 1
    assert not store.asked


def test_a_disk_that_cannot_be_written_switches_the_machine_off(store: HttpStore, rented: Rented) -> None:
    """Whatever goes wrong in the guard itself, the machine ends."""
    rented.disk.mkdir()
    rented.environment[WORK] = str(rented.disk / "file")
    (rented.disk / "file").write_text("no folder")
    assert rented.run() == FAILED
    assert "rented.failed" in rented.console
    assert rented.times_off == 1
    assert not store.asked
