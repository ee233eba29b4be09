"""Cut the power at every step that changes the disk; the box must start again with a whole model."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from edge_agent.ota.disk import Disk
from tests.edge_agent.ota.ota_kit import Box, World, make_world


class PowerCut(BaseException):
    """Be the moment the power goes; nothing in the agent may catch it."""


class CuttingDisk(Disk):
    """Go dark before the n-th step; what was written but not flushed is lost, as on a real disk."""

    def __init__(self, cut_at: int) -> None:
        self.steps = 0
        self.cut_at = cut_at
        self.fired = ""

    def _step(self, name: str) -> None:
        self.steps += 1
        if self.steps == self.cut_at:
            self.fired = name
            raise PowerCut(name)

    def sync(self, path: Path) -> None:
        try:
            self._step(f"sync {path.name}")
        except PowerCut:
            path.write_bytes(b"")
            raise
        super().sync(path)

    def rename(self, source: Path, target: Path) -> None:
        self._step(f"rename {target.name}")
        super().rename(source, target)

    def remove_tree(self, folder: Path) -> None:
        self._step(f"remove {folder.name}")
        super().remove_tree(folder)


def live(box: Box) -> None:
    """Be an agent's life: boot, look at the channel, run the line."""
    box.updater.start()
    box.frames()
    box.update()
    box.update()


def cut_everywhere(world: World, before: int, after: int) -> list[str]:
    """Live through the update once per step, each time cut at another one, until no cut fires."""
    fired: list[str] = []
    while True:
        disk = CuttingDisk(len(fired) + 1)
        box = world.box(disk=disk)
        folder = box.config.data_dir / "releases"
        with contextlib.suppress(PowerCut):
            live(box)
        if not disk.fired:
            return fired
        fired.append(disk.fired)
        again = world.box()
        world.server.away = True
        again.updater.start()
        assert again.frames() in {before, after}, f"after a cut before '{disk.fired}'"
        world.server.away = False
        again.update()
        assert again.serving() == after, f"after a cut before '{disk.fired}'"
        assert again.updater.state().problem == ""
        leftovers = [path.name for path in folder.rglob("*.part")]
        assert leftovers == []
        restore(world, folder, before)


def restore(world: World, folder: Path, before: int) -> None:
    """Bring the box back to where it was before the update."""
    shutil.rmtree(folder, ignore_errors=True)
    if before:
        shutil.copytree(world.folder / "saved", folder)


def test_a_first_release_survives_every_cut(tmp_path: Path) -> None:
    """A box that never had a model gets one, whenever the power went."""
    world = make_world(tmp_path)
    world.publish(1)
    fired = cut_everywhere(world, 0, 1)
    assert any(name == "rename slots.json" for name in fired)
    assert any(name == "rename 000001" for name in fired)
    assert any(name.startswith("sync") and name.endswith(".part") for name in fired)
    assert any(name == "rename floor.json" for name in fired)


def test_an_update_survives_every_cut(tmp_path: Path) -> None:
    """Before the pointer moves the old model serves, afterwards the new one; there is no between."""
    world = make_world(tmp_path)
    world.publish(1)
    box = world.box()
    live(box)
    assert box.serving() == 1
    shutil.copytree(box.config.data_dir / "releases", tmp_path / "saved", symlinks=True)
    world.publish(2)
    fired = cut_everywhere(world, 1, 2)
    assert len(fired) >= 12
    assert any(name == "rename slots.json" for name in fired)
