"""Start trainers in what a host has: a container, a Python with libraries but without us, or a bare Python."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from flows.gpus import sessions
from flows.gpus.errors import LaunchRefused, ProviderAway
from flows.gpus.settings import SshSection
from flows.gpus.ssh import carried
from flows.gpus.ssh.provider import SshProvider
from flows.gpus.ssh.there import hardware, places
from flows.gpus.starting import CLAIM
from tests.flows.gpus.contract import CLAIM_URL, INSTALLATION, write_ticket
from tests.flows.gpus.ssh.kit import SshRig, StubHost, command_lines, end_with_guard, lease_of, wait_for_end
from tests.helpers import ROOT, wait_until

DOCKER = """#!/bin/sh
# Docker as far as it is asked here: what runs is a file in containers/, and goes when the file goes.
place={place}
case "$1" in
ps) [ -e $place/broken ] && {{ echo "Cannot connect to the Docker daemon" >&2; exit 1; }}; ls $place/containers ;;
rm) rm -f $place/containers/$3 ;;
run)
    echo "$@" >$place/arguments
    cat /dev/stdin >$place/environment.part; mv $place/environment.part $place/environment
    while [ "$1" != --name ]; do shift; done
    name=$2; touch $place/containers/$name
    trap 'rm -f $place/containers/$name; exit 143' TERM
    while [ -e $place/containers/$name ]; do sleep 0.05; done ;;
esac
"""


@pytest.fixture
def docker(rig: SshRig) -> Iterator[Path]:
    """Give the first host a Docker, and return where it keeps its things."""
    place = rig.place / "docker"
    (place / "containers").mkdir(parents=True)
    script = rig.first.place / "bin" / "docker"
    script.parent.mkdir(exist_ok=True)
    script.write_text(DOCKER.format(place=place))
    script.chmod(0o755)
    path, os.environ["PATH"] = os.environ["PATH"], f"{script.parent}{os.pathsep}{os.environ['PATH']}"
    yield place
    for left in (place / "containers").glob("*"):
        left.unlink()
    for one in places.all_places(rig.folders[0]):
        end_with_guard(one)
    os.environ["PATH"] = path
    script.unlink()


def in_docker(rig: SshRig) -> SshProvider:
    """Return an adapter whose one host runs containers."""
    section = SshSection(
        kind="ssh", image="trainer:pinned", hosts=(rig.first.settings(rig.folders[0], runtime="docker"),)
    )
    return SshProvider("boxes", section, INSTALLATION, rig.place)


def test_container_gets_its_claim_by_stdin(rig: SshRig, docker: Path) -> None:
    """The image runs with our command; the claim stands in no command line and in no file of ours."""
    provider = in_docker(rig)
    machine = provider.launch(lease_of(provider, 1), rig.place / "ticket.json")
    wait_until((docker / "environment").exists, 20, "the container's environment")
    given = dict(line.split("=", 1) for line in (docker / "environment").read_text().splitlines())
    assert given[CLAIM] == CLAIM_URL
    assert given["WHETSTONE_WORK"] == "/work"
    arguments = (docker / "arguments").read_text()
    assert "--env-file /dev/stdin" in arguments
    assert arguments.strip().endswith("trainer:pinned python -m trainer rented")
    assert CLAIM_URL not in arguments + command_lines()
    assert not [one for one in rig.folders[0].rglob("*") if one.is_file() and CLAIM_URL in one.read_text()]
    provider.terminate(machine)
    assert list((docker / "containers").iterdir()) == []
    assert provider.status(machine).state == "ended"


def test_container_without_its_client_still_runs(rig: SshRig, docker: Path) -> None:
    """A container whose client was killed runs, is listed, keeps the host busy, and is ended all the same."""
    provider = in_docker(rig)
    lease = lease_of(provider, 1)
    machine = provider.launch(lease, rig.place / "ticket.json")
    wait_until(lambda: list((docker / "containers").iterdir()) != [], 20, "the container")
    os.kill(rig.pid(machine), signal.SIGKILL)
    wait_until(lambda: not sessions.is_alive(rig.of(machine).session()), 10, "the client to be gone")
    assert provider.status(machine).state == "running"
    assert [one.machine for one in provider.list_ours()] == [machine]
    with pytest.raises(LaunchRefused, match="busy"):
        provider.launch(
            lease.model_copy(update={"lease_id": "lease-0000000000000002"}), rig.place / "ticket.json"
        )
    (docker / "broken").touch()
    with pytest.raises(ProviderAway, match="Docker daemon"):
        provider.list_ours()
    (docker / "broken").unlink()
    provider.terminate(machine)
    assert list((docker / "containers").iterdir()) == []
    assert provider.list_ours() == ()


def test_cards_are_those_the_driver_names(rig: SshRig) -> None:
    """A host with cards is offered by them, those of the first one's kind; one whose driver fails by its processor."""
    script = rig.first.place / "bin" / "nvidia-smi"
    script.parent.mkdir(exist_ok=True)
    script.write_text(
        "#!/bin/sh\necho 'NVIDIA GeForce RTX 4090, 24564'\necho 'NVIDIA GeForce RTX 4090, 24564'\necho 'Tesla T4, 15360'\n"
    )
    script.chmod(0o755)
    section = SshSection(kind="ssh", hosts=(rig.first.settings(rig.folders[0]),))
    try:
        (found,) = SshProvider("boxes", section, INSTALLATION, rig.place).offers()
        assert (found.gpu, found.gpu_count, found.gpu_memory_mib) == ("NVIDIA GeForce RTX 4090", 2, 24564)
        script.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed' >&2\nexit 9\n")
        (found,) = SshProvider("boxes", section, INSTALLATION, rig.place).offers()
        assert (found.gpu, found.gpu_count, found.gpu_memory_mib) == ("cpu", 0, 0)
    finally:
        script.unlink()


@pytest.mark.parametrize(
    ("files", "memory", "cores"),
    [
        ({}, 64_000, 16),
        ({"memory.max": "max\n", "cpu.max": "max 100000\n"}, 64_000, 16),
        ({"memory.max": "32000\n", "cpu.max": "400000 100000\n"}, 32_000, 4),
        ({"memory.max": "99000\n", "cpu.max": "50000 100000\n"}, 64_000, 1),
        ({"memory/memory.limit_in_bytes": "9223372036854771712\n"}, 64_000, 16),
        ({"memory/memory.limit_in_bytes": "16000\n", "cpu.max": "so much"}, 16_000, 16),
    ],
)
def test_a_box_is_no_larger_than_its_container(
    tmp_path: Path, files: dict[str, str], memory: int, cores: int
) -> None:
    """What a seller gave the container counts, not the machine it stands on; what cannot be read is no limit."""
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert (hardware.memory(64_000, tmp_path), hardware.cores(16, tmp_path)) == (memory, cores)


def test_host_without_docker_refuses(rig: SshRig) -> None:
    """A host that should run containers and has no Docker says so."""
    python = rig.place / "python3"
    python.write_text(f'#!/bin/sh\nPATH=/nowhere exec {rig.first.place}/python3 "$@"\n')
    python.chmod(0o755)
    host = rig.first.settings(rig.folders[0], runtime="docker", python=str(python))
    provider = SshProvider("boxes", SshSection(kind="ssh", hosts=(host,)), INSTALLATION, rig.place)
    with pytest.raises(LaunchRefused, match="no docker on this host"):
        provider.launch(lease_of(provider, 1), rig.place / "ticket.json")


def test_our_source_is_carried_once(tmp_path: Path) -> None:
    """A Python with the libraries and without us runs our own packages, sent at the first launch only."""
    write_ticket(tmp_path / "ticket.json")
    host = StubHost(tmp_path / "host", carried.MODULES_NEEDED)
    folder = tmp_path / "there"
    provider = SshProvider(
        "boxes", SshSection(kind="ssh", hosts=(host.settings(folder),)), INSTALLATION, tmp_path
    )
    try:
        for number in (1, 2):
            machine = provider.launch(lease_of(provider, number), tmp_path / "ticket.json")
            wait_for_end(provider, machine)
            assert f"{folder}/sources/{carried.source().sha256}/trainer" in provider.logs(machine)
        assert [one.name for one in (folder / "sources").iterdir()] == [carried.source().sha256]
    finally:
        host.close()


def test_source_that_came_apart_is_refused(rig: SshRig) -> None:
    """Packages that are not what their hash says are not unpacked."""
    host = rig.provider._hosts[rig.offer_of(0).offer_id]
    with pytest.raises(LaunchRefused, match="did not arrive whole"):
        host.call("source", b"half", source=carried.source().sha256, size=4)
    assert not (rig.folders[0] / "sources").exists()


def test_requirements_are_pinned() -> None:
    """What a host installs is what is installed here, torch without this machine's build."""
    pins = carried.requirements()
    assert all("==" in one and "+" not in one for one in pins)
    assert {"torch", "ultralytics", "onnxruntime", "pydantic", "sympy"} <= {
        one.partition("==")[0] for one in pins
    }
    constraints = (ROOT / "constraints.txt").read_text().lower().replace("_", "-").splitlines()
    known = {line.partition("==")[0]: line.partition(";")[0].strip() for line in constraints if "==" in line}
    assert all(one in known.values() or one.partition("==")[0] not in known for one in pins)
    assert carried.replaced()[0][0] == "opencv-python"


def test_pythons_are_known_whoever_reads_the_metadata() -> None:
    """The backport, which other packages import, stands behind the standard library's reader from then on."""
    code = "import sys, importlib_metadata; from flows.gpus.ssh import carried; print(carried.pythons())"
    asked = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert SpecifierSet(asked.stdout.strip()) == carried.pythons(), asked.stderr
    assert "3.9.19" not in carried.pythons()
    assert f"{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}" in carried.pythons()


@pytest.mark.parametrize(
    ("version", "prepared", "why"),
    [
        ((3, 9, 2), (*carried.PACKAGES, *carried.MODULES_NEEDED), "3.10 or newer .*it is Python 3.9"),
        ((3, 10, 12), (), "3.11 or newer, which the trainer's packages ask for,.* it is Python 3.10.12"),
        ((3, 10, 12), (*carried.PACKAGES, *carried.MODULES_NEEDED), ""),
    ],
)
def test_python_that_is_too_old_is_told_before_it_is_rented(
    tmp_path: Path, version: tuple[int, ...], prepared: tuple[str, ...], why: str
) -> None:
    """What neither our program nor pip could work with is no offer; what is prepared need not suit pip."""
    host = StubHost(tmp_path / "host", prepared)
    (tmp_path / "host" / "stubs").mkdir(exist_ok=True)
    (tmp_path / "host" / "stubs" / "sitecustomize.py").write_text(
        f"import sys\nsys.version_info = {version}\n"
    )
    section = SshSection(kind="ssh", hosts=(host.settings(tmp_path / "there"),))
    provider = SshProvider("boxes", section, INSTALLATION, tmp_path)
    try:
        if not why:
            assert len(provider.offers()) == 1
            return
        with pytest.raises(ProviderAway, match=why):
            provider.offers()
    finally:
        host.close()


@pytest.mark.soak
def test_environment_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bare Python gets an environment of its own, in the background, with pip's words in the log."""
    monkeypatch.setattr(carried, "requirements", lambda: ("typing_extensions",))
    monkeypatch.setattr(carried, "replaced", lambda: ())
    write_ticket(tmp_path / "ticket.json")
    host = StubHost(tmp_path / "host", ())
    folder = tmp_path / "there"
    provider = SshProvider(
        "boxes", SshSection(kind="ssh", hosts=(host.settings(folder),)), INSTALLATION, tmp_path
    )
    try:
        for number in (1, 2):
            machine = provider.launch(lease_of(provider, number), tmp_path / "ticket.json")
            wait_for_end(provider, machine, 240)
            said = provider.logs(machine)
            assert ("whetstone: making" in said) == (number == 1)
            assert f"{folder}/sources/" in said
        (made,) = (folder / "environments").iterdir()
        assert (made / "whole").exists()
    finally:
        host.close()
