"""Cut the power of a process: put its folder back to what it had made durable (see shim.c for the rules)."""

from __future__ import annotations

import shutil
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.helpers import missing

SOURCE = Path(__file__).with_name("shim.c")
COUNTS = ("steps", "file_syncs", "folder_syncs", "bytes_written", "creates", "renames", "removals", "fired")
Names = dict[str, dict[str, tuple[str, str]]]
"""Of each folder by id: kind ("d" or "f") and id by name."""


def build_shim(folder: Path) -> Path:
    """Compile the shim."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        missing("a C compiler", "apt-get install gcc libc6-dev")
    target = folder / "power_cut.so"
    command = [str(compiler), "-O2", "-shared", "-fPIC", "-o", str(target), str(SOURCE), "-ldl", "-lpthread"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return target


@dataclass(frozen=True)
class PowerSupply:
    """Watch `folder` (made when missing); books are kept in `state`, outside of it."""

    shim: Path
    folder: Path
    state: Path

    def begin(self) -> None:
        """Take what is in the folder now as durable, as after a start of the machine."""
        shutil.rmtree(self.state, ignore_errors=True)
        (self.state / "files").mkdir(parents=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        lines = [f"root {_id(self.folder)}\n"]
        for path in sorted(self.folder.rglob("*")):
            kind = "d" if path.is_dir() else "f"
            lines.append(f"+ {_id(path.parent)} {kind} {_id(path)} {path.name}\n")
            if kind == "f":
                shutil.copyfile(path, self.state / "files" / _id(path))
        (self.state / "log").write_text("".join(lines))

    def environment(self, cut_at: int = 0) -> dict[str, str]:
        """Return what a process must be started with to be watched from its first moment."""
        return {
            "LD_PRELOAD": str(self.shim),
            "POWER_CUT_FOLDER": str(self.folder),
            "POWER_CUT_STATE": str(self.state),
            "POWER_CUT_AT": str(cut_at),
        }

    def counts(self) -> dict[str, int]:
        """Return what the shim has counted since the process began."""
        content = (self.state / "counts").read_bytes()
        return dict(zip(COUNTS, struct.unpack(f"{len(COUNTS)}Q", content), strict=True))

    def cut(self) -> None:
        """Replace the folder's content by its durable state; the process must be dead."""
        root, names = self._durable()
        for path in self.folder.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        self._put_back(names, root, self.folder)
        self.begin()

    def _durable(self) -> tuple[str, Names]:
        root, names = "", Names()
        for line in (self.state / "log").read_text().splitlines():
            sign, _, rest = line.partition(" ")
            if sign == "root":
                root = rest
            elif sign == "+":
                folder, kind, found, name = rest.split(" ", 3)
                names.setdefault(folder, {})[name] = (kind, found)
            else:
                folder, name = rest.split(" ", 1)
                names.get(folder, {}).pop(name, None)
        return root, names

    def _put_back(self, names: Names, folder_id: str, folder: Path) -> None:
        for name, (kind, found) in names.get(folder_id, {}).items():
            if kind == "d":
                (folder / name).mkdir()
                self._put_back(names, found, folder / name)
            elif (self.state / "files" / found).exists():
                shutil.copyfile(self.state / "files" / found, folder / name)
            else:
                (folder / name).touch()


def _id(path: Path) -> str:
    return f"b{path.stat().st_ino}"
