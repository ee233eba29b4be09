"""Test that neither a full disk, nor a busy engine, nor ordinary restarts cost a box its releases."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from detection.errors import EngineFailed
from edge_agent.model_slot import FrameModel
from edge_agent.ota.disk import Disk
from edge_agent.ota.slots import MAX_STARTS, Pointers
from tests.edge_agent.ota.ota_kit import Box, World, load, make_world


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path)


class BusyEngine:
    """Load nothing until told that the engine is ready."""

    def __init__(self) -> None:
        self.ready = False
        self.asked = 0

    def __call__(self, path: Path) -> FrameModel:
        self.asked += 1
        if not self.ready:
            raise EngineFailed(expected="a free GPU", got="out of memory", where=str(path))
        return load(path)


class DiskFullFor(Disk):
    """Have no room for one file, by name, until told otherwise."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.full = True
        self.fired = 0

    def write(self, path: Path, content: bytes) -> None:
        if self.full and path.name == self.name:
            self.fired += 1
            raise OSError(errno.ENOSPC, "No space left on device")
        super().write(path, content)


def with_two_releases(world: World) -> None:
    """Leave releases 1 and 2 on the box, both proven."""
    box = world.box()
    for version in (1, 2):
        world.publish(version)
        box.update()
    assert box.updater._slots.pointers() == Pointers(2, 1, confirmed=True)


def with_one_on_trial(world: World) -> Box:
    """Return a box that has release 1 proven and release 2 installed on trial."""
    world.publish(1)
    world.box().update()
    world.publish(2)
    box = world.box()
    box.updater.start()
    box.updater.round(box.stop)
    return box


def test_a_start_that_cannot_be_counted_serves_all_the_same(world: World) -> None:
    """On a full disk a release on trial is offered, and the report says what could not be written."""
    with_one_on_trial(world)
    disk = DiskFullFor("slots.json")
    full = world.box(disk=disk)
    full.updater.start()
    full.slot.take()
    assert disk.fired > 0
    assert full.serving() == 2
    assert "No space left" in full.updater.state().problem


def test_a_damaged_release_is_passed_over_on_a_full_disk_too(world: World) -> None:
    """The previous release serves though the pointer to it cannot be written."""
    with_two_releases(world)
    disk = DiskFullFor("slots.json")
    box = world.box(disk=disk)
    (box.config.data_dir / "releases" / "000002" / "model.onnx").write_bytes(b"torn")
    box.updater.start()
    box.slot.take()
    assert disk.fired > 0
    assert box.serving() == 1


def test_a_busy_engine_at_boot_costs_no_release(world: World) -> None:
    """The proven release stays installed and serves as soon as the engine is ready, without the network."""
    with_two_releases(world)
    world.server.away = True
    engine = BusyEngine()
    box = world.box(load=engine)
    box.updater.start()
    assert engine.asked == 1, "the release before is not to blame either"
    assert box.frames() == 0
    assert box.updater._slots.pointers() == Pointers(2, 1, confirmed=True)
    assert "out of memory" in box.updater.state().problem
    engine.ready = True
    box.updater.round(box.stop)
    assert box.frames() == 2


def test_a_busy_engine_gets_no_proven_release_refused(world: World) -> None:
    """However often it is tried while the channel is at hand, the release is not held against itself."""
    with_two_releases(world)
    engine = BusyEngine()
    box = world.box(load=engine)
    box.updater.start()
    for _ in range(5):
        assert box.updater.round(box.stop) is False
    assert engine.asked > 5
    assert box.updater._slots._refusals() == {}
    engine.ready = True
    state = box.update()
    assert (state.release_version, state.state, state.problem) == (2, "serving", "")


@pytest.mark.parametrize("name", ["refused.json", "slots.json"])
def test_a_rollback_that_could_not_be_noted_is_noted_later(world: World, name: str) -> None:
    """A full disk delays what is written of a rollback; it does not lose it."""
    world.publish(1)
    world.box().update()
    world.publish(2)
    disk = DiskFullFor(name)
    disk.full = False
    box = world.box(disk=disk)
    box.updater.start()
    box.frames()
    box.updater.round(box.stop)
    box.slot.take()
    box.slot.fail("broken")
    disk.full = True
    for _ in range(3):
        assert box.updater.watch_trial() is False
    assert disk.fired == 3
    assert box.serving() == 1
    assert "cannot be noted" in box.updater.state().problem
    disk.full = False
    assert box.updater.watch_trial() is True
    assert box.events.count("ota.rolled_back") == 1
    assert box.updater._slots.pointers().current == 1
    assert box.update().state == "rolled_back"


def test_ordinary_restarts_during_a_trial_cost_a_release_nothing(world: World) -> None:
    """An agent that is stopped in order and started again tells nothing about the release."""
    with_one_on_trial(world)
    for _ in range(MAX_STARTS + 2):
        again = world.box()
        again.stop.set()
        again.updater.run(again.stop)
        again.slot.take()
        assert again.serving() == 2
    assert again.updater._slots.pointers() == Pointers(2, 1, confirmed=False, starts=0)


def test_a_loop_that_dies_of_a_release_leaves_it_behind(world: World) -> None:
    """The agent ends in order then too, but its starts are held against the release."""
    with_one_on_trial(world)
    for _ in range(MAX_STARTS):
        again = world.box()
        again.events.note("loop.died")
        again.stop.set()
        again.updater.run(again.stop)
    last = world.box()
    last.updater.start()
    assert last.frames() == 1
