"""Start a machine on its host: a session of its own, set up in its own time, guarded from the first step.

    keeper (this call) --fork--> guard (own session) --fork--> trainer (own session): set-up, then exec

The answer goes out once the trainer's session stands on disk; nothing here waits for pip or a pull. The claim
comes by standard input, is passed on as environment, and is written nowhere.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import io
import os
import shutil
import subprocess
import sys
import tarfile
import time
from itertools import chain
from pathlib import Path
from typing import Any

from flows.gpus.ssh.there import guarding
from flows.gpus.ssh.there.places import Place, Refused, living

OURS = ("fleet_contracts", "detection", "trainer")
LAUNCH_SECONDS = 30.0
SETUP_FAILED = 70
KEPT_SECONDS = 30 * 86400.0
"""How long the folders of ended machines and of runs nobody works on are kept."""


def launch(folder: Path, ask: dict[str, Any]) -> dict[str, Any]:
    """Start a machine, or find the one of this tag; `need` in the answer is what has to be sent first.

    Raises:
        Refused: another machine works here, or the trainer's session did not come up.
        OSError: another launch takes its time, or Docker does not say what runs; asked again, it may work.
    """
    place = Place(folder, str(ask["tag"]))
    place.path.mkdir(parents=True, exist_ok=True, mode=0o700)
    # (1) one launch at a time, so that a caller whose first answer was lost finds what it started
    with (folder / "launch.lock").open("a") as turn:
        _take(turn.fileno(), LAUNCH_SECONDS)
        if place.read("machine") is not None:
            return {"machine": place.tag, "was_there": True}
        # (2) whatever is missing is sent before anything is started
        if _uses_source(ask) and not _source(folder, ask).is_dir():
            return {"need": "source"}
        if ask["runtime"] == "docker" and shutil.which("docker") is None:
            raise Refused("no docker on this host")
        # (3) one trainer at a time: the handle goes to the trainer, and the kernel frees it at its end
        busy = os.open(folder / "busy.lock", os.O_RDWR | os.O_CREAT, 0o600)
        others = [one.tag for one in living(folder)]
        if others or not _try_lock(busy):
            os.close(busy)
            raise Refused(f"this host is busy with {others[0] if others else 'another machine'}")
        _tidy(folder)
        # (4) the answer is true only when the session is on disk
        if not _fork_guard(place, ask, (busy, turn.fileno())):
            raise Refused(f"the trainer did not come up; see {place.path / 'guard.log'}")
        os.close(busy)
    return {"machine": place.tag, "was_there": False}


def take_source(folder: Path, name: str, content: bytes) -> dict[str, Any]:
    """Unpack our packages under their hash.

    Raises:
        Refused: they are not what the hash says.
    """
    if hashlib.sha256(content).hexdigest() != name:
        raise Refused("the source did not arrive whole")
    target = folder / "sources" / name
    if not target.is_dir():
        part = target.with_name(f".{name}.{os.getpid()}")
        part.mkdir(parents=True)
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            # The hash was checked; extraction filters came with later Pythons than some hosts have.
            archive.extractall(part)  # noqa: S202
        try:
            part.rename(target)
        except OSError:
            shutil.rmtree(part)
    return {"source": name}


def _fork_guard(place: Place, ask: dict[str, Any], handles: tuple[int, int]) -> bool:
    """Start guard and trainer; return whether the trainer's session was written down."""
    ready, tell = os.pipe()
    if os.fork() == 0:
        try:
            os.close(ready)
            os.close(handles[1])
            guarding.detach(place.path / "guard.log")
            _guard(place, ask, handles[0], tell)
        finally:
            os._exit(0)
    os.close(tell)
    with os.fdopen(ready, "rb") as answer:
        return answer.read() == b"up"


def _guard(place: Place, ask: dict[str, Any], busy: int, tell: int) -> None:
    orders = guarding.Orders(
        guarding.since_boot() + float(ask["seconds"]), str(ask["power_off"]), float(ask["linger"])
    )
    lock = guarding.take_guard(place)
    if lock is None:
        return
    child = os.fork()
    if child == 0:
        try:
            os.close(lock)
            guarding.detach(place.path / "trainer.log")
            _become_trainer(place, ask, orders, (busy, tell))
        except (OSError, subprocess.SubprocessError) as error:
            sys.stderr.write(f"whetstone: the trainer could not be started: {error}\n")
            sys.stderr.flush()
        finally:
            os._exit(SETUP_FAILED)
    os.close(busy)
    os.close(tell)
    guarding.guard_machine(place, orders, child)


def _become_trainer(
    place: Place, ask: dict[str, Any], orders: guarding.Orders, handles: tuple[int, int]
) -> None:
    busy, tell = handles
    # (1) our name is on disk before the first step: nobody can have started us and not know
    place.write("machine", {
        **guarding.my_name(), "run_id": ask["run_id"], "runtime": ask["runtime"], "began": time.time(),
        "until_since_boot": orders.until, "power_off": orders.power_off, "linger": orders.linger,
    })  # fmt: skip
    os.write(tell, b"up")
    os.close(tell)
    # (2) whatever the trainer needs is made, however long it takes
    work = place.folder / "work"
    work.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.chdir(work)
    command, environment = _prepare(place, ask, work)
    # (3) same process, same name, other program
    os.set_inheritable(busy, True)
    os.execvpe(command[0], command, environment)  # noqa: S606 - no shell is wanted


def _prepare(place: Place, ask: dict[str, Any], work: Path) -> tuple[list[str], dict[str, str]]:
    given = {**ask["environment"], "PYTHONUNBUFFERED": "1"}
    if ask["runtime"] == "docker":
        _give_by_stdin({**given, str(ask["work_in"]): "/work"})
        cards = ["--gpus", "all"] if shutil.which("nvidia-smi") else []
        # Shared memory for the data loader's workers; the container's name is how anybody finds it.
        options = (
            "--rm",
            "--init",
            "--ipc",
            "host",
            "--name",
            place.tag,
            "--label",
            f"whetstone={place.tag}",
        )
        given_by = ("--env-file", "/dev/stdin", "--volume", f"{work}:/work", *cards)
        return ["docker", "run", *options, *given_by, str(ask["image"]), *ask["command"]], dict(os.environ)
    python, paths = str(ask["python"]), []
    if _uses_source(ask):
        paths = [str(_source(place.folder, ask))]
        if not has(ask["modules"]):
            python = str(_environment(place.folder, ask))
    inherited = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    environment = {**os.environ, **given, str(ask["work_in"]): str(work)}
    if paths:
        environment["PYTHONPATH"] = os.pathsep.join([*paths, *inherited])
    return [python, *ask["command"][1:]], environment


def _give_by_stdin(environment: dict[str, str]) -> None:
    """Put an environment where `--env-file /dev/stdin` reads it: in memory only, and gone once read."""
    text = "".join(f"{name}={value}\n" for name, value in environment.items())
    handle = os.memfd_create("environment")
    os.write(handle, text.encode())
    os.lseek(handle, 0, os.SEEK_SET)
    os.dup2(handle, 0)


def _uses_source(ask: dict[str, Any]) -> bool:
    return ask["runtime"] == "venv" and not has((*OURS, *ask["modules"]))


def has(modules: Any) -> bool:
    """Tell whether this Python, which is the one the settings name, could import all of these."""
    return all(importlib.util.find_spec(name) is not None for name in modules)


def _source(folder: Path, ask: dict[str, Any]) -> Path:
    return folder / "sources" / str(ask["source"])


def _environment(folder: Path, ask: dict[str, Any]) -> Path:
    """Return the Python of an environment with the pinned requirements, made here if it is not yet.

    Raises:
        subprocess.CalledProcessError: venv or pip failed; their words are in the log.
    """
    wanted = "\n".join(ask["requirements"])
    name = hashlib.sha256(f"{wanted}\n{sys.version}".encode()).hexdigest()[:16]
    place = folder / "environments" / name
    python, whole = place / "bin" / "python", place / "whole"
    if whole.exists():
        return python
    sys.stdout.write(f"whetstone: making {place}; torch alone is several GB\n")
    sys.stdout.flush()
    # Only the machine that holds `busy.lock` gets here: a half-made one is nobody's.
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    (place / "requirements.txt").write_text(wanted + "\n")
    subprocess.run([str(ask["python"]), "-m", "venv", str(place)], check=True)
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "--no-input"]
    subprocess.run([*pip, "install", "-r", str(place / "requirements.txt")], check=True)
    for removed, wheel in ask["replaced"]:
        # A full wheel that a dependency asks for and that overwrites ours.
        subprocess.run([*pip, "uninstall", "-y", removed], check=True)
        subprocess.run([*pip, "install", "--force-reinstall", "--no-deps", wheel], check=True)
    whole.touch()
    return python


def _take(handle: int, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not _try_lock(handle):
        if time.monotonic() > deadline:
            raise OSError(f"another launch here takes longer than {seconds:.0f} s")
        time.sleep(0.05)


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _tidy(folder: Path) -> None:
    """Remove the folders of machines and runs that nobody touched for long; nothing runs here now."""
    oldest = time.time() - KEPT_SECONDS
    for path in chain(*(folder.glob(what) for what in ("machines/*", "work/runs/*", "work/leases/*"))):
        if path.stat().st_mtime < oldest:
            shutil.rmtree(path, ignore_errors=True)
