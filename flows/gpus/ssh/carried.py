"""Make what is carried to a host: the keeper's program with each call, and the trainer's source once.

Nothing is installed there beforehand. The program is read by the host's Python from standard input, so that
its command line is always the same short line and says nothing of what is asked.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import shlex
import tarfile
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from flows.errors import SettingsError

_MODULES = (
    "flows.files",
    "flows.up.processes",
    "flows.gpus.become",
    "flows.gpus.sessions",
    "flows.gpus.ssh.there.places",
    "flows.gpus.ssh.there.guarding",
    "flows.gpus.ssh.there.hardware",
    "flows.gpus.ssh.there.starting",
    "flows.gpus.ssh.there.keeper",
)
"""Sent in this order: each imports only what stands before it, and the standard library."""
OLDEST = (3, 10)
"""What the keeper's program itself needs; the trainer's pins may ask for more."""
TOO_OLD = 126
"""Exit code of a Python below that: the shell's own for a program that cannot be run."""
_LOADER = """
import json, sys, types
if sys.version_info < OLDEST:
    sys.stderr.write("it is Python %d.%d" % tuple(sys.version_info[:2]))
    sys.exit(TOO_OLD)
def _make(name, source):
    module = types.ModuleType(name)
    module.__path__ = []
    sys.modules[name] = module
    parent, _, last = name.rpartition(".")
    if parent and parent not in sys.modules:
        _make(parent, "")
    if parent:
        setattr(sys.modules[parent], last, module)
    exec(compile(source, name, "exec"), module.__dict__)
for _name, _source in json.loads(MODULES):
    _make(_name, _source)
sys.modules["flows.gpus.ssh.there.keeper"].main(sys.stdin.buffer)
"""
_BOOT = "import sys;d=sys.stdin.buffer;exec(d.read(int(d.readline())))"
PACKAGES = ("fleet_contracts", "detection", "trainer")
DISTRIBUTION = "whetstone-edge"
MODULES_NEEDED = ("torch", "torchvision", "ultralytics", "onnx", "onnxruntime", "onnxslim", "cv2", "numpy",
                  "pydantic", "urllib3", "psutil", "pynvml")  # fmt: skip
"""What a Python must be able to import to be taken as the trainer's environment."""
REPLACED = ("opencv-python", "opencv-python-headless")
"""ultralytics asks for the first, which overwrites the second and needs a desktop's libraries."""


@dataclass(frozen=True, slots=True)
class Source:
    """Hold our packages as an archive that is the same for the same content."""

    sha256: str
    content: bytes


def command_line(python: str) -> str:
    """Return the line a host's shell runs, the same for every call."""
    return f"exec {shlex.quote(python)} -c {shlex.quote(_BOOT)}"


def call(request: dict[str, Any], blob: bytes = b"") -> bytes:
    """Return what is written to that line's standard input."""
    asked = json.dumps(request).encode()
    return b"".join((program(), b"%d\n" % len(asked), asked, blob))


@cache
def program() -> bytes:
    """Return the keeper's program with its length before it."""
    modules = json.dumps([(name, _text_of(name)) for name in _MODULES])
    text = f"OLDEST, TOO_OLD, MODULES = {OLDEST}, {TOO_OLD}, {modules!r}\n{_LOADER}".encode()
    return b"%d\n%s" % (len(text), text)


@cache
def source() -> Source:
    """Return the packages a trainer consists of, as they are installed here."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for package in PACKAGES:
            top = _folder_of(package)
            for path in sorted(top.rglob("*")):
                if path.is_file() and path.suffix != ".pyc":
                    _add(archive, f"{package}/{path.relative_to(top)}", path.read_bytes())
    content = packed.getvalue()
    return Source(hashlib.sha256(content).hexdigest(), content)


@cache
def requirements() -> tuple[str, ...]:
    """Return what the trainer needs and what that needs, each at the version that is installed here.

    What is not installed here, such as CUDA's wheels on a machine without a card, torch pins itself.

    Raises:
        SettingsError: the trainer's packages are not installed here, so there is nothing to pin them by.
    """
    try:
        found = {name: metadata.version(name) for name in _wanted_by(DISTRIBUTION, frozenset({"trainer"}))}
    except metadata.PackageNotFoundError as error:
        raise SettingsError(
            expected="the trainer's packages here, to pin them on the host by",
            got=f"no {error.name}",
            where="providers: kind ssh, runtime venv",
            now="Install whetstone-edge[cloud] here, or prepare the host's Python, or use its Docker.",
        ) from error
    todo = list(found)
    while todo:
        for name in _wanted_by(todo.pop(), frozenset()):
            if name not in found and (version := _version_here(name)):
                found[name] = version
                todo.append(name)
    # A build's own suffix, as in 2.13.0+cpu, is this machine's affair.
    return tuple(sorted(f"{name}=={version.partition('+')[0]}" for name, version in found.items()))


def _wanted_by(distribution: str, extras: frozenset[str]) -> list[str]:
    listed = [Requirement(line) for line in metadata.requires(distribution) or ()]
    chosen = [{"extra": extra} for extra in (extras or {""})]
    return [
        canonicalize_name(one.name)
        for one in listed
        if one.marker is None or any(one.marker.evaluate(extra) for extra in chosen)
    ]


def _version_here(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


@cache
def pythons() -> SpecifierSet:
    """Return the Pythons that all of these can be installed for, as each of them declares."""
    declared = (metadata.metadata(one.partition("==")[0]) for one in requirements())
    # Not by index: importlib_metadata, once imported, answers here and raises for a field that is missing.
    lines = (line for one in declared for line in one.get_all("Requires-Python") or ())
    return SpecifierSet(",".join(lines))


def replaced() -> tuple[tuple[str, str], ...]:
    """Return which package is taken away after the installation, and what is put in its place again."""
    pinned = next(one for one in requirements() if one.startswith(f"{REPLACED[1]}=="))
    return ((REPLACED[0], pinned),)


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), 0o644
    archive.addfile(entry, io.BytesIO(content))


def _folder_of(package: str) -> Path:
    found = importlib.util.find_spec(package)
    assert found is not None
    assert found.submodule_search_locations is not None
    return Path(next(iter(found.submodule_search_locations)))


def _text_of(module: str) -> str:
    found = importlib.util.find_spec(module)
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).read_text(encoding="utf-8")
