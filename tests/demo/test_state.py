"""The demo's own memory: moments that stay, and a folder that belongs to one demo."""

from __future__ import annotations

from pathlib import Path

import pytest

from demo.errors import DemoError
from demo.loop.state import StateFile


def test_a_moment_is_marked_once(tmp_path: Path) -> None:
    """A moment that came stays when the demo is started again."""
    file = StateFile(tmp_path)
    state = file.mark(file.begin("line", 1), "first_frame_at")
    again = StateFile(tmp_path).begin("line", 1)
    assert again.starts == 2
    assert again.first_frame_at == state.first_frame_at
    assert file.mark(again, "first_frame_at").first_frame_at == state.first_frame_at


@pytest.mark.parametrize(("kind", "seed"), [("images", 1), ("line", 2)])
def test_another_demo_is_refused(tmp_path: Path, kind: str, seed: int) -> None:
    """A folder of another kind or seed is refused by name, and left as it is."""
    StateFile(tmp_path).begin("line", 1)
    with pytest.raises(DemoError, match=r"state\.json: expected a folder of the demo"):
        StateFile(tmp_path).begin(kind, seed)
    found = StateFile(tmp_path).read()
    assert found is not None
    assert found.starts == 1
