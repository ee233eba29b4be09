"""Test that the power cut is one: what was not made durable is gone, and every way to make it so is seen."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.edge_agent.power_cut.harness import PowerSupply
from tests.helpers import ROOT

PROLOGUE = """
import os, signal, sqlite3, sys
from pathlib import Path
from edge_agent.files import make_folder, move_aside, sync_folder, write_atomically
folder = Path(sys.argv[1])
"""
EPILOGUE = "\nos.kill(os.getpid(), signal.SIGKILL)\n"


@pytest.fixture
def supply(shim: Path, tmp_path: Path) -> PowerSupply:
    made = PowerSupply(shim, tmp_path / "data", tmp_path / "state")
    made.folder.mkdir()
    (made.folder / "old").write_text("old")
    made.begin()
    return made


def run(supply: PowerSupply, code: str) -> None:
    """Run code until it kills itself, then cut the power."""
    done = subprocess.run(
        [sys.executable, "-c", PROLOGUE + code + EPILOGUE, str(supply.folder)],
        cwd=ROOT,
        env={**os.environ, **supply.environment()},
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == -9, done.stderr.decode()
    supply.cut()


def contents(supply: PowerSupply) -> dict[str, str]:
    return {
        str(path.relative_to(supply.folder)): path.read_text()
        for path in supply.folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize(
    ("code", "left"),
    [
        ("(folder / 'new').write_text('x')", {"old": "old"}),
        ("(folder / 'new').write_text('x'); sync_folder(folder)", {"old": "old", "new": ""}),
        ("(folder / 'old').write_text('other')", {"old": "old"}),
        ("(folder / 'old').unlink()", {"old": "old"}),
        ("(folder / 'old').unlink(); sync_folder(folder)", {}),
        ("(folder / 'old').rename(folder / 'newer')", {"old": "old"}),
        ("(folder / 'old').rename(folder / 'newer'); sync_folder(folder)", {"newer": "old"}),
        ("write_atomically(folder / 'old', b'other')", {"old": "old"}),
        ("write_atomically(folder / 'old', b'other'); sync_folder(folder)", {"old": "other"}),
        ("write_atomically(folder / 'new', b'1')", {"old": "old"}),
        ("f = (folder / 'old').open('ab'); f.write(b'1'); f.flush(); os.fsync(f.fileno()); f.write(b'2'); f.flush()",
         {"old": "old1"}),
        ("(folder / 'a').mkdir(); write_atomically(folder / 'a' / 'b', b'1'); sync_folder(folder / 'a')",
         {"old": "old"}),
        ("make_folder(folder / 'a' / 'b'); write_atomically(folder / 'a' / 'b' / 'c', b'1');"
         " sync_folder(folder / 'a' / 'b')", {"old": "old", "a/b/c": "1"}),
        ("move_aside(folder / 'old', folder / 'aside'); sync_folder(folder)", {}),
    ],
)  # fmt: skip
def test_only_what_was_synced_survives(supply: PowerSupply, code: str, left: dict[str, str]) -> None:
    """Content needs fsync of its file, names need fsync of their folder, and a folder its own name."""
    run(supply, code)
    assert contents(supply) == left


def test_a_used_inode_is_not_taken_for_another_file(supply: PowerSupply) -> None:
    """Many files made and removed, so that inodes come again; the last removal alone was not made durable."""
    run(
        supply,
        """
for number in range(50):
    write_atomically(folder / f"keep-{number}", str(number).encode())
    sync_folder(folder)
    (folder / "scratch").write_bytes(b"s" * number)
    (folder / "scratch").unlink()
    (folder / f"keep-{number}").unlink()
""",
    )
    assert contents(supply) == {"old": "old", "keep-49": "49"}


@pytest.mark.parametrize(("level", "survives"), [("FULL", 20), ("OFF", 0)])
def test_sqlite_is_watched_too(supply: PowerSupply, level: str, survives: int) -> None:
    """Commits survive with synchronous=FULL, and are gone with OFF: the shim sees what SQLite writes."""
    run(
        supply,
        f"""
d = sqlite3.connect(folder / "x.db", isolation_level=None)
d.execute("PRAGMA journal_mode=WAL")
d.execute("CREATE TABLE t (a)")
if "{level}" == "OFF": d.execute("PRAGMA wal_checkpoint(TRUNCATE)"); sync_folder(folder)
d.execute("PRAGMA synchronous={level}")
for number in range(20): d.execute("INSERT INTO t VALUES (?)", (number,))
""",
    )
    import sqlite3

    database = sqlite3.connect(supply.folder / "x.db")
    assert database.execute("SELECT COUNT(*) FROM t").fetchone()[0] == survives
    database.close()


def test_a_cut_at_a_step_fires_there_and_is_counted(shim: Path, tmp_path: Path) -> None:
    """The process dies before the step is done; without a step to cut at it does not."""
    supply = PowerSupply(shim, tmp_path / "data", tmp_path / "state")
    fired = []
    for cut_at in range(1, 6):
        supply.begin()
        done = subprocess.run(
            [sys.executable, "-c", PROLOGUE + "write_atomically(folder / 'a', b'1'); sync_folder(folder)",
             str(supply.folder)],
            cwd=ROOT, env={**os.environ, **supply.environment(cut_at)}, timeout=30, check=False,
        )  # fmt: skip
        fired.append(bool(supply.counts()["fired"]))
        assert (done.returncode == -9) == fired[-1]
        supply.cut()
        assert contents(supply) == ({} if fired[-1] else {"a": "1"})
    # Create, fsync, rename, fsync of the folder; there is no fifth.
    assert fired == [True, True, True, True, False]
