"""Break connections, processes and hosts under the SSH adapter, against a real sshd."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from fleet_contracts import utc_now
from flows.gpus.errors import LaunchRefused, ProviderAway, TokenRefused
from flows.gpus.settings import SshHost, SshSection
from flows.gpus.ssh import carried
from flows.gpus.ssh import client as clients
from flows.gpus.ssh import provider as adapter
from flows.gpus.ssh.provider import SshProvider, ending_of
from flows.gpus.ssh.simulator import make_key
from flows.gpus.ssh.there import guarding, places
from flows.gpus.ssh.there.keeper import MARK
from tests.flows.gpus.contract import CLAIM_URL, INSTALLATION, RUN
from tests.flows.gpus.ssh.kit import SshRig, StubHost, command_lines, lease_of
from tests.flows.gpus.test_local import is_zombie
from tests.helpers import ROOT, wait_until

SECRET = CLAIM_URL.rpartition("=")[2]
LAUNCHER = """
import json, pathlib, sys, time
from fleet_contracts import decode
from fleet_contracts.training import Lease
from flows.gpus.settings import SshSection
from flows.gpus.ssh.provider import SshProvider
place, section, lease = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
provider = SshProvider("boxes", SshSection.model_validate_json(section), "plant7", place)
print(provider.launch(decode(Lease, lease.encode(), where="test"), place / "ticket.json"), flush=True)
time.sleep(300)
"""


NAMELESS = """
import pathlib, sys, time
from flows.gpus.ssh.there import guarding, places
place = places.Place(pathlib.Path(sys.argv[1]), sys.argv[2])
while not (place.folder / "write").exists():
    time.sleep(0.01)
place.write("machine", {**guarding.my_name(), "runtime": "venv"})
time.sleep(60)
"""


def one_host(rig: SshRig, **more: object) -> SshSection:
    """Return a section of the first host alone."""
    return SshSection(kind="ssh", hosts=(rig.first.settings(rig.folders[0], **more),))


def provider_of(rig: SshRig, section: SshSection) -> SshProvider:
    """Return an adapter for a section."""
    return SshProvider("boxes", section, INSTALLATION, rig.place)


def launcher(
    rig: SshRig, seconds: float = 3600.0, *, hold: bool = False, **more: object
) -> subprocess.Popen[str]:
    """Launch from a process of its own, which prints the machine and then sleeps; `hold` keeps the answer back."""
    section = one_host(rig, **more)
    lease = lease_of(rig.provider, 1, offer=rig.offer_of(0))
    if hold:
        rig.first.hold_next_answer()
    lease = lease.model_copy(update={"deadline": utc_now() + timedelta(seconds=seconds)})
    return subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, str(rig.place), section.model_dump_json(), lease.model_dump_json()],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def machine_of(ours: subprocess.Popen[str]) -> str:
    """Return the machine a launcher printed."""
    assert ours.stdout is not None
    machine = ours.stdout.readline().strip()
    assert machine
    return machine


def kill(ours: subprocess.Popen[str]) -> None:
    """Kill a launcher, and see that it died of it."""
    ours.kill()
    assert ours.wait(10) == -signal.SIGKILL


def starts(rig: SshRig) -> list[list[int]]:
    """Return the process ids of each start of the stub and its child."""
    path = rig.work() / "starts"
    return (
        [[int(pid) for pid in line.split()] for line in path.read_text().splitlines()]
        if path.exists()
        else []
    )


def is_gone(pid: int) -> bool:
    """Tell whether a process has ended."""
    return not Path(f"/proc/{pid}").exists() or is_zombie(pid)


def test_another_host_key_is_refused(rig: SshRig) -> None:
    """A host that shows another key than the pinned one gets nothing: no call, no claim, no machine."""
    make_key(rig.place / "other")
    other = " ".join((rig.place / "other.pub").read_text().split()[:2])
    provider = provider_of(rig, one_host(rig, host_key=other))
    lease = lease_of(rig.provider, 1)
    with pytest.raises(clients.WrongHostKey, match=re.escape(clients.fingerprint(other))):
        provider.offers()
    with pytest.raises(LaunchRefused, match="another way, and write that as host_key"):
        provider.launch(lease, rig.place / "ticket.json")
    assert rig.truth() == ()


def test_password_is_never_asked_for(rig: SshRig) -> None:
    """No option that a person's own settings could turn on lets ssh ask, forward or look elsewhere."""
    line = clients.HostClient(rig.first.settings(rig.folders[0]), rig.place)._arguments()
    for option in (
        "BatchMode=yes",
        "PasswordAuthentication=no",
        "StrictHostKeyChecking=yes",
        "ForwardAgent=no",
    ):
        assert option in line
    assert line[line.index("-F") + 1] == "none"


def test_killed_in_mid_launch(rig: SshRig) -> None:
    """With our side killed while the host has launched and not answered, asking again finds the one machine."""
    ours = launcher(rig, hold=True)
    wait_until((rig.first.place / "held").exists, 60, "the host to have launched")
    assert ours.poll() is None
    seen = command_lines()
    assert "exec(d.read(int(d.readline())))" in seen, "the call is under way"
    assert SECRET not in seen
    kill(ours)
    rig.first.let_go()
    machine = rig.provider.launch(lease_of(rig.provider, 1, offer=rig.offer_of(0)), rig.place / "ticket.json")
    assert [one.machine for one in rig.provider.list_ours()] == [machine]
    wait_until(lambda: len(starts(rig)) == 1, 20, "the one start")


def test_guard_ends_it_with_all_of_ours_dead(rig: SshRig) -> None:
    """At its deadline the trainer and its child are gone and the host is switched off, though nobody called."""
    off = rig.place / "off"
    ours = launcher(rig, 3.0, power_off=f"touch {off}", price=0.5)
    machine = machine_of(ours)
    kill(ours)
    wait_until(off.exists, 30, "the host to be switched off")
    assert all(is_gone(pid) for pids in starts(rig) for pid in pids)
    assert places.living(rig.folders[0]) == []
    assert rig.provider.status(machine).detail == "its lease ended"


def test_guard_that_was_killed_comes_back(rig: SshRig) -> None:
    """A guard somebody killed is started again by the next look, and keeps the deadline that stands on disk."""
    ours = launcher(rig)
    machine = machine_of(ours)
    kill(ours)
    wait_until(lambda: len(starts(rig)) == 1, 20, "the trainer to start")
    place = rig.of(machine)
    first = place.session("guard")
    assert first is not None
    os.kill(first.pid, signal.SIGKILL)
    wait_until(lambda: is_gone(first.pid), 10, "the guard to be gone")
    made = place.read("machine")
    assert made is not None
    place.write("machine", {**made, "until_since_boot": 0.0})
    rig.provider.list_ours()
    wait_until(lambda: rig.provider.status(machine).state == "ended", 30, "the deadline")
    wait_until(lambda: all(is_gone(pid) for pid in starts(rig)[0]), 20, "trainer and child to be gone")
    assert place.session("guard") != first


def test_guard_of_an_old_machine_spares_the_next_one(rig: SshRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A guard that is started anew for a machine long over does not switch off a host where another works."""
    monkeypatch.setattr(adapter, "LINGER_SECONDS", 0.0)
    off = rig.place / "off"
    host = rig.first.settings(rig.folders[0], power_off=f"touch {off}", price=0.5)
    provider = provider_of(rig, SshSection(kind="ssh", hosts=(host,)))
    old = places.Place(rig.folders[0], f"ws-{INSTALLATION}-{'0' * 15}5")
    now = lease_of(provider, 1)
    machine = provider.launch(now, rig.place / "ticket.json")
    name = {"pid": 1, "start_ticks": 1, "boot": Path("/proc/sys/kernel/random/boot_id").read_text().strip()}
    ends = {"until_since_boot": 0.0, "power_off": f"touch {off}", "linger": 300.0, "run_id": RUN}
    old.write("machine", {**name, **ends, "runtime": "venv"})
    assert provider.status(f"{now.offer.offer_id}/{old.tag}").state == "ended"
    wait_until(lambda: bool((old.read("guard") or {}).get("done")), 20, "the old machine's guard to be done")
    assert not off.exists()
    assert provider.status(machine).state == "running"


def test_host_that_was_rebooted_is_switched_off(rig: SshRig) -> None:
    """A reboot takes trainer and guard; whoever ends the machine then has its host switched off, once."""
    off = rig.place / "off"
    offer, machine = rig.offer_of(0), f"ws-{INSTALLATION}-{'0' * 15}8"
    place = places.Place(rig.folders[0], machine)
    name = {"pid": 1, "start_ticks": 1, "boot": "an earlier one", "run_id": RUN, "runtime": "venv"}
    place.write("machine", {
        **name, "until_since_boot": 9e9, "power_off": f"echo off >> {off}", "linger": 0.0,
    })  # fmt: skip
    assert rig.provider.status(f"{offer.offer_id}/{machine}").state == "ended"
    assert not off.exists()
    rig.provider.terminate(f"{offer.offer_id}/{machine}")
    wait_until(lambda: bool((place.read("guard") or {}).get("done")), 20, "its guard to be done")
    rig.provider.terminate(f"{offer.offer_id}/{machine}")
    assert off.read_text() == "off\n"


def test_guard_waits_for_the_name_of_whom_it_has_to_end(tmp_path: Path) -> None:
    """A lease that is over before its trainer has written its name down leaves no trainer behind."""
    place = places.Place(tmp_path / "there", f"ws-{INSTALLATION}-{'0' * 15}7")
    place.path.mkdir(parents=True)
    trainer = subprocess.Popen(
        [sys.executable, "-c", NAMELESS, str(place.folder), place.tag], cwd=ROOT, start_new_session=True
    )
    try:
        assert place.session() is None, "it writes its name when it is told to"
        threading.Timer(0.3, (tmp_path / "there" / "write").touch).start()
        guarding.guard_machine(place, guarding.Orders(guarding.since_boot(), "", 0.0), child=trainer.pid)
        assert place.session() is not None
        assert is_gone(trainer.pid)
    finally:
        trainer.kill()
        trainer.wait(10)


@pytest.mark.parametrize("broken", ["disk", "docker"])
def test_guard_switches_off_over_whatever_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """A disk that takes no word more, or a Docker that does not answer, does not keep a host on."""
    off, hits = tmp_path / "off", []
    place = places.Place(tmp_path / "there", f"ws-{INSTALLATION}-{'0' * 15}6")
    place.path.mkdir(parents=True)

    def fail(*_: object) -> None:
        hits.append(broken)
        raise OSError(f"{broken} is broken")

    monkeypatch.setattr(places.Place, "write", fail) if broken == "disk" else monkeypatch.setattr(
        guarding, "living", fail
    )
    guarding.guard_machine(place, guarding.Orders(0.0, f"touch {off}", 0.0), child=0)
    assert off.exists()
    assert hits


def test_switched_off_when_the_work_is_done(rig: SshRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host whose trainer ended is switched off after a while, and its end is told with its exit code."""
    monkeypatch.setattr(adapter, "LINGER_SECONDS", 0.0)
    off = rig.place / "off"
    provider = provider_of(rig, one_host(rig, power_off=f"touch {off}", price=0.5))
    machine = provider.launch(lease_of(provider, 1), rig.place / "ticket.json")
    rig.finish(machine)
    wait_until(off.exists, 20, "the host to be switched off")
    assert provider.status(machine).detail == "exit code 0"


def test_busy_host_is_not_offered(rig: SshRig) -> None:
    """A host trains one run at a time, whoever asks: it is not offered meanwhile, and refuses a launch."""
    provider = rig.both()
    lease = lease_of(provider, 1, offer=rig.offer_of(0))
    machine = provider.launch(lease, rig.place / "ticket.json")
    assert [one.offer_id for one in provider.offers()] == [rig.offer_of(1).offer_id]
    other = lease.model_copy(update={"lease_id": "lease-0000000000000002", "run_id": "run-00000000000000ff"})
    with pytest.raises(LaunchRefused, match="busy with ws-plant7-0000000000000001"):
        provider.launch(other, rig.place / "ticket.json")
    provider.terminate(machine)
    assert len(provider.offers()) == 2


def test_host_that_is_away_takes_only_its_own_offers(rig: SshRig) -> None:
    """With one host silent the other is offered and listed; a machine of the silent one cannot be told."""
    provider = rig.both()
    machine = provider.launch(lease_of(provider, 1, offer=rig.offer_of(0)), rig.place / "ticket.json")
    rig.first.host.gate.weather = "silence"
    assert [one.offer_id for one in provider_of(rig, rig.section).offers()] == [rig.offer_of(1).offer_id]
    assert provider.list_ours() == ()
    with pytest.raises(ProviderAway):
        provider.status(machine)
    assert rig.first.host.gate.hits > 0
    rig.first.host.gate.weather = "calm"
    assert [one.machine for one in provider.list_ours()] == [machine]


def test_key_that_is_not_taken_is_named(rig: SshRig) -> None:
    """A key the host does not know is told with its file, its host and what to do."""
    make_key(rig.place / "stranger")
    provider = provider_of(rig, one_host(rig, key_file=rig.place / "stranger"))
    with pytest.raises(TokenRefused, match=r"stranger at 127\.0\.0\.1:\d+.*authorized_keys"):
        provider.standing()


def test_key_that_is_not_there_is_named(rig: SshRig) -> None:
    """A file that is missing is told as that, not as a key the host does not take."""
    provider = provider_of(rig, one_host(rig, key_file="keys/nobody"))
    with pytest.raises(TokenRefused, match=rf"{re.escape(str(rig.place))}/keys/nobody .*no file .*key_file"):
        provider.standing()


def test_host_without_python_is_refused(rig: SshRig) -> None:
    """A host without the Python it should have says so, and only loses its own offers."""
    hosts = (rig.first.settings(rig.folders[0], python="no-such-python"), rig.section.hosts[1])
    provider = provider_of(rig, SshSection(kind="ssh", hosts=hosts))
    assert [one.offer_id for one in provider.offers()] == [rig.offer_of(1).offer_id]
    with pytest.raises(LaunchRefused, match="no-such-python"):
        provider.launch(lease_of(rig.provider, 1, offer=rig.offer_of(0)), rig.place / "ticket.json")


def test_shell_that_talks_is_understood(rig: SshRig) -> None:
    """What a login shell prints of its own does not get into the answer."""
    greeting = rig.first.host.folder / "home" / ".bashrc"
    greeting.write_text("echo welcome to your box; echo '{\"done\": 1}'\n")
    try:
        assert rig.offer_of(0).cpu_count > 0
    finally:
        greeting.unlink()


@pytest.mark.parametrize("change", [{"boot": "another"}, {"start_ticks": 1}])
def test_process_of_the_same_number_is_not_ours(rig: SshRig, change: dict[str, object]) -> None:
    """After a reboot, or when the kernel gives the number again, nobody else's process is taken for ours."""
    stranger = subprocess.Popen(["sleep", "60"], start_new_session=True)
    place = places.Place(rig.folders[0], f"ws-{INSTALLATION}-{'0' * 15}1")
    name = {
        "pid": stranger.pid,
        "start_ticks": 0,
        "boot": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
    }
    machine = f"{rig.offer_of(0).offer_id}/{place.tag}"
    ends = {"until_since_boot": 0.0, "power_off": "", "linger": 0.0, "run_id": RUN, "runtime": "venv"}
    place.write("machine", {**name, **ends, **change})
    assert rig.provider.status(machine).state == "ended"
    assert rig.provider.list_ours() == ()
    rig.provider.terminate(machine)
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait(10)


def test_half_a_request_does_nothing(rig: SshRig) -> None:
    """A connection that breaks while the request is sent starts nothing."""
    details = rig.provider._details(
        rig.section.hosts[0], lease_of(rig.provider, 1), rig.place / "ticket.json"
    )
    whole = carried.call({"do": "launch", "folder": str(rig.folders[0]), **details})
    for kept in (len(whole) - 1, len(carried.program()) + 3, 1000):
        asked = subprocess.run(
            ["sh", "-c", carried.command_line(str(rig.first.place / "python3"))],
            input=whole[:kept], capture_output=True, check=False,
        )  # fmt: skip
        assert asked.returncode != 0
        assert MARK.encode() not in asked.stdout
    assert rig.truth() == ()


@pytest.mark.parametrize(
    ("hosts", "kind", "words"),
    [
        ([{"price": 0.0}], "own-process", "cost nothing"),
        ([{"price": 0.5}], "none", "no power_off for box:22"),
        ([{}], "none", "no power_off"),
        (
            [{"price": 0.5, "power_off": "sudo shutdown -h now"}, {"price": 0.0}],
            "guest-power-off",
            "does not charge",
        ),
        ([{"price": 0.5, "power_off": "x"}, {"price": 0.4}], "none", "give it back"),
    ],
)
def test_ending_is_that_of_the_worst_host(hosts: list[dict[str, object]], kind: str, words: str) -> None:
    """A provider promises no more than its most forgotten host can keep."""
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "A" * 43
    made = [SshHost.model_validate({"host": "box", "host_key": key, "key_file": "k", **one}) for one in hosts]
    ending = ending_of(made)
    assert ending.kind == kind
    assert words in ending.how


@pytest.mark.parametrize(
    "line",
    [
        "", "ssh-ed25519", "box ssh-ed25519 AAAA", "ssh-dss " + "A" * 68, "ssh-ed25519 -oX=1",
        "ssh-ed25519 " + "A" * 68, "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "A" * 42,
    ],
)  # fmt: skip
def test_host_key_must_be_one(line: str) -> None:
    """A line that is no host key is an error of the settings, not of the connection."""
    with pytest.raises(ValueError, match="host_key"):
        SshHost.model_validate({"host": "box", "host_key": line, "key_file": "k"})


def test_trainer_is_asked_to_end_its_own(rig: SshRig) -> None:
    """A machine that is ended by us asks its first process alone, which sees to the others; it says who ended it."""
    machine = rig.provider.launch(lease_of(rig.provider, 1), rig.place / "ticket.json")
    wait_until(lambda: len(starts(rig)) == 1, 20, "the trainer to start")
    wait_until((rig.work() / "child-is-up").exists, 20, "its child to listen")
    rig.provider.terminate(machine)
    place = rig.of(machine)
    wait_until(lambda: bool((place.read("guard") or {}).get("done")), 20, "the guard to have seen it")
    assert json.loads((place.path / "ended.json").read_text()) == {"why": "terminated"}
    assert rig.provider.status(machine).detail == "terminated"
    assert all(is_gone(pid) for pid in starts(rig)[0])
    assert not (rig.work() / "child-was-asked").exists()


@pytest.mark.parametrize("answer", [None, [], {}, 3, "yes", {"state": "fine", "detail": "", "busy": []}])
def test_host_that_answers_otherwise_is_away(
    rig: SshRig, monkeypatch: pytest.MonkeyPatch, answer: object
) -> None:
    """Whatever a host's seller puts in our program's place breaks nobody, and proves no machine's end."""
    lease = lease_of(rig.provider, 1)
    provider = rig.both()
    machine = f"{lease.offer.offer_id}/ws-{INSTALLATION}-{'0' * 15}1"
    monkeypatch.setattr(clients.HostClient, "call", lambda *_, **__: answer)
    calls = [provider.offers, lambda: provider.launch(lease, rig.place / "ticket.json"),
             lambda: provider.status(machine)]  # fmt: skip
    for call in calls + [provider.list_ours] * (answer != []):
        with pytest.raises(ProviderAway, match="another one"):
            call()


def test_two_hosts_of_one_name_are_an_error(hosts: tuple[StubHost, StubHost], tmp_path: Path) -> None:
    """A host that stands twice in a section would be rented twice."""
    host = hosts[0].settings(tmp_path)
    with pytest.raises(ValueError, match="same host and port"):
        SshSection(kind="ssh", hosts=(host, host))
