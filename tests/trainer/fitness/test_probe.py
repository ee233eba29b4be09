"""Ask libraries that answer as NVIDIA's do: the calls, structures and errors of the real package are used."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.helpers import program
from trainer.fitness.facts import DriverSeen
from trainer.fitness.measure import see_driver

SOURCE = Path(__file__).with_name("driver.c")


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with both libraries."""
    folder = tmp_path_factory.mktemp("driver")
    compiler = program("gcc", "apt-get install gcc libc6-dev")
    for name in ("libnvidia-ml.so.1", "libcuda.so.1"):
        subprocess.run([compiler, "-shared", "-fPIC", "-o", folder / name, SOURCE], check=True)
    return folder


def seen(libraries: Path, **more: str) -> DriverSeen:
    """Ask them in a process of its own."""
    return see_driver({"PATH": os.environ["PATH"], "LD_LIBRARY_PATH": str(libraries), **more})


def test_a_card_is_read_through_the_real_calls(libraries: Path) -> None:
    """Versions, name, memory and capability come as the driver's own types; CUDA starts and counts."""
    told = seen(libraries)
    assert (told.error, told.cuda_error) == ("", "")
    assert (told.version, told.cuda, told.usable) == ("595.10", (13, 2), 1)
    (card,) = told.cards
    assert (card.name, card.capability) == ("NVIDIA A30", (8, 0))
    assert (card.total_bytes >> 20, card.free_bytes >> 20) == (24_576, 24_076)


def test_a_sliced_card_is_its_slices(libraries: Path) -> None:
    """Of a card cut by MIG the slices count, with their own memory; empty places do not."""
    told = seen(libraries, SLICED="1")
    assert told.error == ""
    assert [one.name for one in told.cards] == ["NVIDIA A30 MIG 2g.12gb"] * 2
    assert [one.total_bytes >> 20 for one in told.cards] == [12_000] * 2


def test_a_card_on_which_cuda_does_not_start(libraries: Path) -> None:
    """The driver lists the card and CUDA refuses it: both are told."""
    told = seen(libraries, BROKEN="1")
    assert len(told.cards) == 1
    assert told.cuda_error == "cuInit: unknown error"


def test_a_lost_card_does_not_hide_the_others(libraries: Path) -> None:
    """Of two cards, one of which fell off its bus, the other one is told; how many are wanted is judged later."""
    told = seen(libraries, LOST="1")
    assert told.error == ""
    assert [one.name for one in told.cards] == ["NVIDIA A30"]


def test_a_machine_without_a_driver(tmp_path: Path) -> None:
    """No library, no driver; a file that is no library is told as well."""
    (tmp_path / "libnvidia-ml.so.1").write_text("no library")
    assert seen(tmp_path).error
