"""Run scripts/engines.sh in a folder of its own, with a stand-in for Python: nothing is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.helpers import ROOT

PYTHON = """#!/bin/sh
case "$*" in
"-m venv "*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python" ;;
"-m pip install"*) cat "$(echo "$*" | sed 's/.* //')" >>installed ;;
"-m pip check"*) cat broken 2>/dev/null && exit 1; exit 0 ;;
esac
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a checkout that holds the script and one lock."""
    for place in ("scripts", "deploy/engines"):
        (tmp_path / place).mkdir(parents=True)
    shutil.copy(ROOT / "scripts" / "engines.sh", tmp_path / "scripts")
    (tmp_path / "python").write_text(PYTHON)
    (tmp_path / "python").chmod(0o755)
    return tmp_path


def engines(folder: Path, lock: str) -> subprocess.CompletedProcess[str]:
    """Set an engine up from a lock."""
    (folder / "deploy" / "engines" / "one.txt").write_text(f"{lock}\n")
    return subprocess.run(
        ["bash", "scripts/engines.sh", "one"], cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHON": str(folder / "python")},
    )  # fmt: skip


def test_what_lies_there_is_what_the_lock_says(folder: Path) -> None:
    """A lock is installed once, another one after it, and the first one again when that comes back."""
    for lock in ("a==1", "a==1", "a==2", "a==1"):
        assert engines(folder, lock).returncode == 0
    assert (folder / "installed").read_text().split() == ["a==1", "a==2", "a==1"]


def test_a_lock_that_lacks_a_package_is_told(folder: Path) -> None:
    """What pip finds missing is shown, and the engine counts as not set up until that is put right."""
    (folder / "broken").write_text("a 1 requires b, which is not installed.\n")
    done = engines(folder, "a==1")
    assert (done.returncode, "requires b" in done.stderr) == (1, True)
    (folder / "broken").unlink()
    assert engines(folder, "a==1").returncode == 0
    assert (folder / "installed").read_text().split() == ["a==1"] * 2
