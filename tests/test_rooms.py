"""Guard the shape of the house: what each room may load, and that importing does nothing."""

from __future__ import annotations

import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import ROOT

ROOMS = ("fleet_contracts", "detection", "edge_agent", "trainer", "flows", "demo")
FORBIDDEN = {
    "fleet_contracts": {"torch", "prefect", "ultralytics", "numpy", "cv2", "onnxruntime", "sqlalchemy", "minio"},
    "detection": {"torch", "prefect", "ultralytics", "sqlalchemy", "minio", "paho"},
    "edge_agent": {"torch", "prefect", "ultralytics", "sqlalchemy", "minio", "trainer", "flows"},
    "trainer": {"torch", "prefect", "ultralytics", "edge_agent", "flows"},
    "flows": {"torch", "ultralytics", "edge_agent", "demo"},
}
LOAD_ALL = """
import importlib, json, pkgutil, sys
room = importlib.import_module(sys.argv[1])
for found in pkgutil.walk_packages(room.__path__, room.__name__ + "."):
    skip = found.name.endswith("__main__") or ".migrations" in found.name or ".ultralytics_backend." in found.name
    if not skip:
        importlib.import_module(found.name)
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


@pytest.mark.parametrize("room", sorted(FORBIDDEN))
def test_a_room_never_loads_what_belongs_elsewhere(room: str) -> None:
    """Loading every module of a room in a fresh interpreter brings in none of the packages it must not need."""
    done = subprocess.run(
        [sys.executable, "-c", LOAD_ALL, room], capture_output=True, text=True, check=False, cwd=ROOT, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout.splitlines()[-1])) & FORBIDDEN[room] == set()


def test_only_one_package_imports_ultralytics_or_torch() -> None:
    """Ultralytics works at import, so it is fenced in one package and one child process."""
    offenders = [
        str(path.relative_to(ROOT))
        for room in ROOMS
        for path in (ROOT / room).rglob("*.py")
        if "ultralytics_backend" not in path.parts
        and any(
            line.strip().startswith(("import ultralytics", "from ultralytics", "import torch", "from torch"))
            for line in path.read_text().splitlines()
        )
    ]
    assert offenders == []


def test_every_package_is_typed_and_described() -> None:
    """Every package has a docstring, and every room says that it is typed."""
    for room in ROOMS:
        assert (ROOT / room / "py.typed").exists(), room
    packages = [Path(ROOT, *name.split("."), "__init__.py") for room in ROOMS for name in _packages(room)]
    silent = [str(path) for path in packages if path.exists() and '"""' not in path.read_text()]
    assert silent == []


def _packages(room: str) -> list[str]:
    inner = [found.name for found in pkgutil.walk_packages([str(ROOT / room)], f"{room}.") if found.ispkg]
    return [room, *inner]


def test_files_stay_small() -> None:
    """No file grows over 400 lines without a reason at its head."""
    long = [
        str(path.relative_to(ROOT))
        for room in ROOMS
        for path in (ROOT / room).rglob("*.py")
        if len(path.read_text().splitlines()) > 400 and "Longer than 400 lines because" not in path.read_text()[:2000]
    ]
    assert long == []
