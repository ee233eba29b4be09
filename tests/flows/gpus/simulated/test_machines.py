"""What becomes of machines when their host, their tenant or whoever ordered them dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from fleet_contracts import utc_now
from fleet_contracts.renting import WORK
from fleet_contracts.training import Lease
from flows.gpus import sessions
from flows.gpus.base import Machine
from flows.gpus.errors import LaunchRefused
from flows.gpus.simulated import cloud as books
from flows.gpus.simulated.cloud import DEADLINE, HOST_FAILED, NEVER_CAME_UP, TAKEN_AWAY, TERMINATED, Order
from flows.gpus.simulated.provider import SimulatedProvider
from flows.settings import Settings, write_settings
from flows.up.embedded import end_machines
from flows.up.processes import name_of
from tests.flows.gpus.contract import INSTALLATION, RUN, write_ticket
from tests.flows.gpus.simulated.rig import SECONDS, SimulatedRig, section
from tests.helpers import ROOT, wait_until
from trainer.memory.simulator import ENVIRONMENT as SIMULATED_CARD


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[SimulatedRig]:
    """Return a cloud, and end its machines."""
    made = SimulatedRig(tmp_path)
    yield made
    made.clean()


@pytest.fixture
def ticket(tmp_path: Path) -> Path:
    """Return a ticket nobody reads."""
    return write_ticket(tmp_path / "ticket.json")


def lease(rig: SimulatedRig, number: int = 1, *, spot: bool = True, **changes: object) -> Lease:
    """Return a lease of the first region."""
    offer = rig.provider.offers()[0]
    return Lease(
        task_id="plates", lease_id=f"lease-{number:016x}", run_id=RUN, provider=offer.provider, offer=offer,
        price_cap=0.0, deadline=utc_now() + timedelta(hours=1), state="recorded", recorded_at=utc_now(), spot=spot,
        price=offer.spot_price if spot else offer.on_demand_price,
    ).model_copy(update=changes)  # fmt: skip


def test_all_that_asks_sees_one_cloud(rig: SimulatedRig, ticket: Path, tmp_path: Path) -> None:
    """Another process finds the machine, reads what it wrote, and can end it."""
    machine = rig.provider.launch(lease(rig), ticket)
    rig.says(machine, "epoch 1 of 9")
    other = SimulatedProvider("cloud", section(), INSTALLATION, tmp_path)
    assert other.list_ours() == (Machine(machine, "lease-0000000000000001"),)
    wait_until(lambda: "epoch 1 of 9" in other.logs(machine), SECONDS, "the line")
    other.terminate(machine)
    assert rig.provider.status(machine).state == "ended"
    assert rig.processes(machine) == ()
    assert not rig.provider.cloud.disk(machine).exists()


def test_ordered_by_many_at_once_it_is_one(rig: SimulatedRig, ticket: Path) -> None:
    """However many ask for a lease's machine at the same moment, one starts."""
    wanted = lease(rig)
    with ThreadPoolExecutor(4) as pool:
        machines = list(pool.map(lambda _: rig.provider.launch(wanted, ticket), range(4)))
    assert len(set(machines)) == 1
    rig.guest(machines[0])
    assert len(rig.processes(machines[0])) == 2, "one program and its child"


def test_machine_outlives_who_ordered_it(rig: SimulatedRig, ticket: Path, tmp_path: Path) -> None:
    """A flow killed with SIGKILL leaves its machine running, and that is ended at its deadline all the same."""
    code = (
        "import sys, time\nfrom pathlib import Path\n"
        "from fleet_contracts.training import Lease\n"
        "from flows.gpus.simulated.provider import SimulatedProvider\n"
        "from tests.flows.gpus.simulated.rig import COMMAND, INSTALLATION, section\n"
        "folder = Path(sys.argv[1])\n"
        "lease = Lease.model_validate_json((folder / 'lease.json').read_bytes())\n"
        "cloud = SimulatedProvider('cloud', section(), INSTALLATION, folder, command=COMMAND)\n"
        "cloud.launch(lease, folder / 'ticket.json')\n(folder / 'launched').touch()\ntime.sleep(60)\n"
    )
    until = utc_now() + timedelta(seconds=3)
    (tmp_path / "lease.json").write_text(lease(rig, deadline=until).model_dump_json())
    flow = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT)
    wait_until((tmp_path / "launched").exists, SECONDS, "the launch")
    flow.kill()
    assert flow.wait(10) == -signal.SIGKILL
    (machine,) = rig.provider.cloud.instances()
    wait_until(lambda: rig.provider.list_ours() == (), SECONDS, "the machine to end")
    found = rig.instance(machine.name)
    assert (found.why, found.ended_at is not None and found.ended_at >= until) == (DEADLINE, True)
    assert rig.processes(machine.name) == ()


def test_host_that_fails_takes_its_machine_with_it(rig: SimulatedRig, ticket: Path) -> None:
    """Without its host a machine computes no more, costs no more, and is told as ended."""
    machine = rig.provider.launch(lease(rig), ticket)
    guest = rig.guest(machine)
    host = sessions.read(rig.provider.cloud.folder(machine) / "host.json")
    assert host is not None
    os.kill(host.pid, signal.SIGKILL)
    wait_until(lambda: name_of(guest) is None, SECONDS, "the program to die with its host")
    wait_until(lambda: rig.provider.status(machine).state == "ended", SECONDS, "the end to be told")
    assert rig.provider.status(machine).detail == HOST_FAILED
    assert rig.processes(machine) == ()


def test_ended_before_its_host_is_up_it_never_starts(tmp_path: Path, ticket: Path) -> None:
    """A machine that is ended the moment it was ordered runs nothing, also when its host comes up later."""
    rig = SimulatedRig(tmp_path, boot_seconds=60.0)
    machine = rig.provider.launch(lease(rig), ticket)
    rig.provider.terminate(machine)
    folder = rig.provider.cloud.folder(machine)

    def host_is_gone() -> bool:
        host = sessions.read(folder / "host.json")
        return host is not None and sessions.members(host) == ()

    wait_until(host_is_gone, SECONDS, "its host to come up and end")
    assert rig.instance(machine).why == TERMINATED
    assert not rig.provider.cloud.console(machine).exists(), "its program was started"


def test_order_without_a_host_ends(rig: SimulatedRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where whoever ordered a machine died before its host was started, it is ended once that is certain."""
    until, name = utc_now() + timedelta(hours=1), f"ws-{INSTALLATION}-00000000000000aa"
    order = Order(name=name, region="east", spot=False, price=1.0, ordered_at=utc_now(), until=until)
    rig.provider.cloud.keep(order)
    assert rig.provider.status(name).state == "running", "its host may still come"
    monkeypatch.setattr(books, "COMES_UP_WITHIN", timedelta(0))
    assert rig.provider.status(name).detail == NEVER_CAME_UP
    assert rig.provider.list_ours() == ()


def test_machine_has_what_a_rented_one_has(
    rig: SimulatedRig, ticket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of our own environment is on it: neither folder, nor keys, nor Prefect; its home is its disk."""
    ours = {"WHETSTONE_FOLDER": "/plant", "PREFECT_API_URL": "http://here", "AWS_SECRET_ACCESS_KEY": "secret",
            "MLFLOW_TRACKING_PASSWORD": "secret", "OMP_NUM_THREADS": "1"}  # fmt: skip
    for name, value in {**ours, SIMULATED_CARD: "a card"}.items():
        monkeypatch.setenv(name, value)
    machine = rig.provider.launch(lease(rig), ticket)
    found = rig.environment(machine)
    assert not set(found) & set(ours)
    assert found[SIMULATED_CARD] == "a card", "that is its hardware"
    disk = str(rig.provider.cloud.disk(machine))
    assert (found["HOME"], found[WORK].startswith(disk)) == (disk, True)


def test_taken_away_the_region_has_no_more_for_a_while(rig: SimulatedRig, ticket: Path) -> None:
    """After a preemption a region sells no spot machine, on demand still; the others are as before."""
    machine = rig.provider.launch(lease(rig), ticket)
    late = lease(rig, 2)
    rig.take_away(machine)
    assert rig.instance(machine).why == TAKEN_AWAY
    east, west = rig.provider.offers()
    assert (east.spot_price, east.on_demand_price) == (None, 0.53)
    assert west.spot_price == 0.21
    with pytest.raises(LaunchRefused, match="none left in east"):
        rig.provider.launch(late, ticket)
    assert rig.provider.launch(lease(rig, 3, spot=False), ticket) != machine


def test_dearer_than_agreed_is_refused(rig: SimulatedRig, ticket: Path) -> None:
    """An offer whose price rose between choice and launch, or that is no more, is refused."""
    with pytest.raises(LaunchRefused, match=r"expected a machine for \$0.10 an hour, got \$0.16"):
        rig.provider.launch(lease(rig, price=0.10), ticket)
    gone = rig.provider.offers()[0].model_copy(update={"offer_id": "north"})
    with pytest.raises(LaunchRefused, match="got north"):
        rig.provider.launch(lease(rig, offer=gone), ticket)
    assert rig.provider.list_ours() == ()


def test_boots_in_its_time_and_is_paid_from_the_order_on(tmp_path: Path, ticket: Path) -> None:
    """A machine boots for as long as it was told to, and costs from the moment it was ordered."""
    rig = SimulatedRig(tmp_path, boot_seconds=0.6)
    machine = rig.provider.launch(lease(rig), ticket)
    rig.guest(machine)
    found = rig.instance(machine)
    assert found.booted_at is not None
    assert (found.booted_at - found.order.ordered_at).total_seconds() >= 0.6
    rig.provider.terminate(machine)
    found = rig.instance(machine)
    assert found.ended_at is not None
    hours = (found.ended_at - found.order.ordered_at).total_seconds() / 3600
    assert found.bill(utc_now()) == pytest.approx(0.16 * hours)


def test_ending_the_services_ends_its_machines(rig: SimulatedRig, ticket: Path, tmp_path: Path) -> None:
    """A simulated cloud is this computer: when `whetstone up` ends well, nothing of it goes on."""
    write_settings(tmp_path, Settings(installation=INSTALLATION, providers={"cloud": section()}))
    machine = rig.provider.launch(lease(rig), ticket)
    rig.guest(machine)
    assert end_machines(tmp_path) == 1
    assert rig.instance(machine).why == TERMINATED
    assert rig.processes(machine) == ()
    assert end_machines(tmp_path) == 0
