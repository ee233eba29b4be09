"""Give tests a power supply."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.edge_agent.power_cut.box import CuttableOutbox, Driver
from tests.edge_agent.power_cut.harness import PowerSupply, build_shim

MEMORY = Path("/dev/shm")


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_shim(tmp_path_factory.mktemp("shim"))


@pytest.fixture(scope="session")
def driver(shim: Path) -> Iterator[Driver]:
    made = Driver(shim)
    yield made
    made.close()


@pytest.fixture
def fast_folder() -> Iterator[Path]:
    """Give a folder in memory: the shim's rules do not depend on the file system, fsync's cost does."""
    folder = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() else None))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def new_box(driver: Driver, shim: Path, fast_folder: Path) -> Iterator[Callable[..., CuttableOutbox]]:
    """Make outboxes of which each has a folder of its own."""
    made: list[CuttableOutbox] = []

    def make(quota: int = 10**9) -> CuttableOutbox:
        place = fast_folder / str(len(made))
        made.append(CuttableOutbox(driver, PowerSupply(shim, place / "data", place / "state"), quota))
        return made[-1]

    yield make
    for box in made:
        box.end()
