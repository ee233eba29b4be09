"""Test that the configuration is read once, checked whole, and refused with every error at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.config import load_config
from edge_agent.errors import ConfigError

GOOD = """
task_id = "boards"
device_id = "box-1"
data_dir = "data"

[broker]
host = "broker.local"
password_file = "broker.password"

[releases]
url = "http://releases.local/releases/"
root_file = "/etc/whetstone/root.json"

[camera]
source = "folder:frames"
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "agent.toml"
    path.write_text(text)
    return path


def test_relative_paths_are_taken_from_the_folder_of_the_file(tmp_path: Path) -> None:
    """A configuration means the same from whatever folder the agent is started."""
    config = load_config(write(tmp_path, GOOD))
    assert config.data_dir == tmp_path / "data"
    assert config.camera.source == f"folder:{tmp_path / 'frames'}"
    assert config.broker.password_file == tmp_path / "broker.password"
    assert config.releases.root_file == Path("/etc/whetstone/root.json")
    assert config.broker.ca_file is None


def test_a_camera_url_is_not_taken_for_a_path(tmp_path: Path) -> None:
    """Only folder: and video: hold paths."""
    config = load_config(write(tmp_path, GOOD.replace("folder:frames", "rtsp://camera/1")))
    assert config.camera.source == "rtsp://camera/1"


def test_every_error_is_reported_at_once(tmp_path: Path) -> None:
    """One start shows all that is wrong, unknown keys too, and what to do."""
    bad = GOOD.replace('host = "broker.local"', "port = 99999\ncolour = 1").replace("boards", "Boards!")
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, bad))
    for key in ("task_id", "broker.host", "broker.port", "broker.colour"):
        assert key in str(caught.value)
    assert "Correct these keys" in caught.value.diagnostics()


@pytest.mark.parametrize(
    ("section", "words"),
    [("[mining]\nlow = 0.7\nhigh = 0.2", "low 0.7"), ("[outbox]\nquota_mb = 0", "quota_mb")],
)
def test_values_that_make_no_sense_are_refused(tmp_path: Path, section: str, words: str) -> None:
    """Bounds and order of values are checked before anything starts."""
    with pytest.raises(ConfigError, match=words):
        load_config(write(tmp_path, f"{GOOD}\n{section}\n"))


@pytest.mark.parametrize("text", ["", "this is = = not toml", "\udcff"])
def test_a_file_that_is_no_configuration_is_named(tmp_path: Path, text: str) -> None:
    """The message names the file."""
    path = tmp_path / "agent.toml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigError, match=r"agent\.toml"):
        load_config(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """The message names the file and the option that gives it."""
    with pytest.raises(ConfigError, match=r"nowhere\.toml.*--config"):
        load_config(tmp_path / "nowhere.toml")
