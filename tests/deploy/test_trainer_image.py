"""Hold the trainer's image to what was tested: its lock, its imports, its tag, its build context."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import tomllib
from packaging.requirements import Requirement

from flows.gpus.settings import IMAGE
from tests.helpers import ROOT
from trainer.fitness.torch_build import installed_torch, least_driver

FOLDER = ROOT / "deploy" / "trainer"
PACKAGES = ("fleet_contracts", "detection", "trainer")
SYSTEM = {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64"}
NOT_TAKEN = {"opencv-python"}
"""ultralytics asks for it; the headless one is in its place (see scripts/setup.sh)."""
OPTIONAL = {"mlflow", "wandb"}
"""Tracking writes into these only where they are installed, and says so where they are not."""
ONLY_THERE = {"setuptools"}
"""torch asks for it, and it builds our package in the image; elsewhere pip brings it."""


def plain(name: str) -> str:
    """Return a distribution's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(text: str) -> Iterator[tuple[str, str, str]]:
    """Yield name, version and marker of every pinned line."""
    for line in text.splitlines():
        if line and not line.startswith("#"):
            pin, _, marker = line.partition(";")
            name, _, version = pin.strip().partition("==")
            yield plain(name), version, marker.strip()


def locked() -> dict[str, str]:
    """Return what the image pins; nothing is pinned twice."""
    found: dict[str, str] = {}
    for file in sorted((FOLDER / "lock").glob("*.txt")):
        for name, version, marker in pins(file.read_text()):
            assert version, f"{name} is not pinned"
            assert not marker, f"{name} is pinned for some alone"
            assert name not in found, f"{name} is pinned twice"
            found[name] = version
    return found


def project() -> dict[str, object]:
    """Return the project's own table."""
    return dict(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"])


def test_the_lock_is_what_was_tested() -> None:
    """Every pin stands in constraints.txt with the same version."""
    tested = {
        name: version
        for name, version, marker in pins((ROOT / "constraints.txt").read_text())
        if version
        if not marker or Requirement(f"x; {marker}").marker.evaluate({"python_version": "3.11"})  # type: ignore[union-attr]
    }
    lock = locked()
    assert set(lock) - set(tested) == ONLY_THERE
    assert {name: tested[name] for name in lock if name in tested} == {
        name: version for name, version in lock.items() if name in tested
    }


def test_the_lock_holds_whatever_its_packages_ask_for() -> None:
    """Installed without following requirements, nothing is missing, too old or there for nobody."""
    lock = locked()
    extras = project()["optional-dependencies"]
    assert isinstance(extras, dict)
    waiting = [Requirement(one) for one in (*project()["dependencies"], *extras["trainer"])]  # type: ignore[misc]
    reached: set[tuple[str, tuple[str, ...]]] = set()
    while waiting:
        wanted = waiting.pop()
        name = plain(wanted.name)
        if name in NOT_TAKEN or (name, tuple(sorted(wanted.extras))) in reached:
            continue
        reached.add((name, tuple(sorted(wanted.extras))))
        assert name in lock, f"{wanted} is not in the lock"
        assert wanted.specifier.contains(lock[name], prereleases=True), f"{wanted}, pinned {lock[name]}"
        waiting += _asked_by(wanted)
    assert {name for name, _ in reached} == set(lock)


def _asked_by(wanted: Requirement) -> Iterator[Requirement]:
    for line in importlib.metadata.distribution(wanted.name).requires or ():
        one = Requirement(line)
        ways = [{**SYSTEM, "python_version": "3.11", "extra": extra} for extra in ("", *wanted.extras)]
        if one.marker is None or any(one.marker.evaluate(way) for way in ways):
            yield one


def test_every_import_is_in_the_image() -> None:
    """Whatever our three packages import is of Python, of ours, or of a package in the lock."""
    found = importlib.metadata.packages_distributions()
    lock = set(locked())
    for name in sorted({name for folder in PACKAGES for name in _imports(ROOT / folder)}):
        if name in sys.stdlib_module_names or name in PACKAGES or name in OPTIONAL:
            continue
        sources = {plain(one) for one in found.get(name, ())}
        assert sources & lock, f"{name} comes from {sources or 'nowhere'}, none of it locked"


def _imports(folder: Path) -> Iterator[str]:
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                yield from (one.name.partition(".")[0] for one in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                yield node.module.partition(".")[0]


def test_the_tag_is_the_version() -> None:
    """Providers start the image that was built from this version, and the image says so of itself."""
    version = project()["version"]
    assert IMAGE.rpartition(":")[2] == version
    text = (FOLDER / "Dockerfile").read_text()
    assert f"ARG VERSION={version}\n" in text
    assert f"-t {IMAGE} ." in text
    assert IMAGE in (FOLDER / "README.md").read_text()


def test_the_build_takes_what_is_there_and_nothing_secret() -> None:
    """Every file the Dockerfile copies exists and is let into the build; everything else is kept out."""
    text = (FOLDER / "Dockerfile").read_text()
    copied = [one for line in re.findall(r"^COPY (.+)$", text, re.MULTILINE) for one in line.split()[:-1]]
    assert {Path(one).name for one in copied if "lock" in one} == {
        one.name for one in (FOLDER / "lock").iterdir()
    }
    rules = (FOLDER / "Dockerfile.dockerignore").read_text().splitlines()
    assert rules[1] == "*"
    let_in = [rule[1:] for rule in rules if rule.startswith("!")]
    for one in copied:
        assert (ROOT / one).exists(), one
        assert any(one == rule or one.startswith(f"{rule}/") for rule in let_in), one
    assert {rule.partition("/")[0] for rule in let_in} == {
        "pyproject.toml", "README.md", "LICENSE", "deploy", *PACKAGES
    }  # fmt: skip


def test_what_is_said_of_driver_and_cuda_holds() -> None:
    """The README names the CUDA of the torch that is locked, and the driver the check asks for."""
    torch, lock = installed_torch(), locked()
    text = (FOLDER / "README.md").read_text()
    assert torch.cuda is not None
    assert torch.version.partition("+")[0] == lock["torch"]
    assert f"CUDA {torch.cuda[0]}.{torch.cuda[1]}" in text
    assert f"driver {least_driver(torch.cuda)}" in text
    for name in ("torch", "torchvision", "triton", "ultralytics", "onnx", "onnxslim", "onnxruntime"):
        assert f"{name} {lock[name]}" in text
