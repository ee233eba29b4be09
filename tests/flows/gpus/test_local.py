"""Run real detached processes through this machine's provider."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fleet_contracts import utc_now
from fleet_contracts.training import Lease
from flows.gpus.base import Machine
from flows.gpus.errors import LaunchRefused
from flows.gpus.local import LocalProvider
from flows.gpus.providers import MADE_BY, each_apart
from flows.gpus.sessions import is_alive, members, read
from flows.gpus.settings import DstackSection, SkypilotSection
from flows.settings import Settings
from tests.helpers import ROOT, wait_until

SLEEPER = """
import json, os, pathlib, subprocess, sys, time
child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(120)'])
work = pathlib.Path(sys.argv[sys.argv.index('--work') + 1])
with (work / 'starts').open('a') as file:
    file.write(f'{os.getpid()} {child.pid}\\n')
time.sleep(120)
"""


def lease(number: int = 1, run: str = "run-0123456789abcdef") -> Lease:
    """Return a recorded lease."""
    (offer,) = LocalProvider(Path()).offers()
    return Lease(
        task_id="plates", lease_id=f"lease-{number}", run_id=run, provider=offer.provider, offer=offer,
        price_cap=0.0, deadline=utc_now() + timedelta(hours=1), state="recorded", recorded_at=utc_now(),
    )  # fmt: skip


def starts(folder: Path, run: str = "run-0123456789abcdef") -> list[list[int]]:
    """Return the process ids of each start of a run's trainer and its child."""
    path = folder / "work" / run / "starts"
    return [[int(pid) for pid in line.split()] for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[LocalProvider]:
    """Return a provider whose trainers sleep, and end what it started."""
    made = LocalProvider(tmp_path, command=(sys.executable, "-c", SLEEPER))
    yield made
    for machine in made.list_ours():
        made.terminate(machine.machine)
    assert made.list_ours() == ()


def test_same_lease_is_one_process(tmp_path: Path, provider: LocalProvider) -> None:
    """Launching twice under a lease finds the trainer that runs."""
    machine = provider.launch(lease(), Path("ticket.json"))
    assert provider.launch(lease(), Path("ticket.json")) == machine
    wait_until(lambda: len(starts(tmp_path)) == 1, 20, "the trainer to start")
    assert provider.status(machine).state == "running"
    assert provider.list_ours() == (Machine(machine, "lease-1"),)


def test_a_run_has_one_trainer_whatever_the_lease(provider: LocalProvider) -> None:
    """A second lease of the same run cannot start a second trainer beside the first."""
    provider.launch(lease(1), Path("ticket.json"))
    with pytest.raises(LaunchRefused, match="75"):
        provider.launch(lease(2), Path("ticket.json"))
    other = provider.launch(lease(3, run="run-00000000000000ff"), Path("ticket.json"))
    assert provider.status(other).state == "running"


def test_trainer_outlives_its_launcher(tmp_path: Path, provider: LocalProvider) -> None:
    """A launcher killed with SIGKILL leaves a running trainer that the next launcher finds again."""
    script = (
        "import sys, time, pathlib\n"
        "from tests.flows.gpus.test_local import SLEEPER, lease\n"
        "from flows.gpus.local import LocalProvider\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "LocalProvider(folder, command=(sys.executable, '-c', SLEEPER)).launch(lease(), pathlib.Path('t'))\n"
        "(folder / 'launched').touch()\n"
        "time.sleep(120)\n"
    )
    launcher = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], cwd=ROOT)
    wait_until((tmp_path / "launched").exists, 30, "the launch")
    launcher.kill()
    assert launcher.wait(10) == -signal.SIGKILL
    assert provider.status("lease-1").state == "running"
    assert provider.launch(lease(), Path("t")) == "lease-1"
    wait_until(lambda: len(starts(tmp_path)) == 1, 20, "the one start")


def test_terminate_ends_everything_the_trainer_started(tmp_path: Path, provider: LocalProvider) -> None:
    """Ending a machine ends the trainer's own children too, also when the trainer died before them."""
    machine = provider.launch(lease(), Path("t"))
    wait_until(lambda: len(starts(tmp_path)) == 1, 20, "the trainer to start")
    trainer, child = starts(tmp_path)[0]
    os.kill(trainer, signal.SIGKILL)
    wait_until(lambda: provider.status(machine).state == "ended", 10, "the trainer to be gone")
    assert provider.list_ours() == (Machine(machine, "lease-1"),), "its child is still ours"
    provider.terminate(machine)
    provider.terminate(machine)
    assert provider.list_ours() == ()
    wait_until(lambda: not Path(f"/proc/{child}").exists() or is_zombie(child), 10, "the child to end")


def test_ended_trainer_can_start_again(tmp_path: Path, provider: LocalProvider) -> None:
    """After a trainer died, the same run starts again, under the same lease or another."""
    machine = provider.launch(lease(), Path("t"))
    provider.terminate(machine)
    assert provider.launch(lease(), Path("t")) == machine
    provider.terminate(machine)
    provider.launch(lease(2), Path("t"))
    wait_until(lambda: len(starts(tmp_path)) >= 1, 20, "the trainer to start again")


def test_command_that_cannot_start_is_told(tmp_path: Path) -> None:
    """A trainer that ends at once is seen as ended, and its log says why."""
    broken = LocalProvider(tmp_path, command=(sys.executable, "-c", "raise SystemExit('no such thing')"))
    machine = broken.launch(lease(), Path("t"))
    wait_until(lambda: broken.status(machine).state == "ended", 20, "the trainer to end")
    assert "no such thing" in broken.log_of(machine).read_text()
    assert broken.status("lease-unknown").state == "gone"


def test_sellers_tokens_stay_out_of_the_trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token in our environment is not passed on, not even that of a seller who cannot be set up."""
    monkeypatch.setitem(MADE_BY, "skypilot", "flows.gpus.no_seller:Seller")
    sections: dict[str, Any] = {
        "clouds": DstackSection(kind="dstack", url="http://127.0.0.1:9", token="env:TOKEN_OF_ONE"),
        "broken": SkypilotSection(kind="skypilot", url="http://127.0.0.1:9", token="env:TOKEN_OF_TWO"),
    }
    for name in ("TOKEN_OF_ONE", "TOKEN_OF_TWO", "TOKEN_OF_NOBODY"):
        monkeypatch.setenv(name, "abc")
    known, broken = each_apart(tmp_path, Settings(installation="plant7", providers=sections))
    assert (sorted(known), sorted(broken)) == (["clouds", "this-machine"], ["broken"])
    local = known["this-machine"]
    assert isinstance(local, LocalProvider)
    local._command = (sys.executable, "-c", "import os; print('names:', *sorted(os.environ))")
    machine = local.launch(lease(), Path("t"))
    wait_until(lambda: local.status(machine).state == "ended", 20, "the trainer to end")
    (names,) = [line for line in local.logs(machine).splitlines() if line.startswith("names:")]
    assert [one for one in names.split() if one.startswith("TOKEN_OF")] == ["TOKEN_OF_NOBODY"]


@pytest.mark.parametrize("content", ["", "{}", '{"pid": 1}', "[]"])
def test_torn_machine_file_is_no_machine(tmp_path: Path, content: str) -> None:
    """A machine file that cannot be read names nobody, so nobody is ended for it."""
    place = tmp_path / "machines" / "lease-1"
    place.mkdir(parents=True)
    (place / "machine.json").write_text(content)
    provider = LocalProvider(tmp_path)
    provider.terminate("lease-1")
    assert provider.list_ours() == ()
    assert provider.status("lease-1").state == "gone"


def test_processes_of_an_earlier_boot_are_not_ours(tmp_path: Path) -> None:
    """After a reboot the same process id is somebody else's."""
    path = tmp_path / "machine.json"
    path.write_text(json.dumps({"run_id": "r", "pid": os.getsid(0), "start_ticks": 0, "boot": "another"}))
    session = read(path)
    assert session is not None
    assert not is_alive(session)
    assert members(session) == ()


def is_zombie(pid: int) -> bool:
    """Tell whether a process has ended and waits to be reaped by whoever adopted it."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
    return text[text.rindex(")") + 2] in "ZX"
