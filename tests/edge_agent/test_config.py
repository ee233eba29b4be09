"""Test that the configuration is read once, checked whole, and refused with every error at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

from edge_agent.config import AgentConfig, load_config, require_files
from edge_agent.errors import ConfigError, WrongConfig
from edge_agent.settings.mistakes import keys_of

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


def mistakes(path: Path) -> list[str]:
    """Return the mistakes of a file, one line each."""
    with pytest.raises(WrongConfig) as caught:
        load_config(path)
    return [str(mistake) for mistake in caught.value.mistakes]


def test_every_mistake_says_key_expected_and_got_in_a_line(tmp_path: Path) -> None:
    """Bounds, types, missing and unknown keys and rules across sections stand in one sorted list."""
    bad = GOOD.replace('host = "broker.local"', 'port = 99999\nhots = "a"').replace(
        'source = "folder:frames"', 'source = "folder:frames"\nquota_mb = 3'
    )
    bad += """
[cameras]
name = "x"
[[privacy.masks]]
camera = "cam7"
rectangle = [0.1, 0.1, 0.5, 0.5]
[metrics]
port = "seven"
"""
    path = write(tmp_path, bad)
    assert mistakes(path) == [
        "broker.host: expected a value, got nothing: the key is missing",
        "broker.hots: expected a known key (did you mean host?), got one the agent does not know",
        "broker.port: expected less than or equal to 65535, got 99999",
        "camera.quota_mb: expected a known key (it belongs to outbox.quota_mb), got one the agent does not know",
        "cameras: expected a known key (did you mean camera?), got one the agent does not know",
        "metrics.port: expected a valid integer, got 'seven'",
    ]
    with pytest.raises(WrongConfig) as caught:
        load_config(path)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"{path}: 6 mistakes:"
    assert lines[-1] == "Correct these keys; nothing was started."


def test_what_only_two_sections_say_together_is_in_the_same_list(tmp_path: Path) -> None:
    """A mask for a camera nobody has would hide nothing."""
    path = write(
        tmp_path,
        GOOD
        + """
[[privacy.masks]]
camera = "cam7"
rectangle = [0.1, 0.1, 0.5, 0.5]
[care]
loop_deadline_s = 0.5
[mining]
low = 2
""",
    )
    found = mistakes(path)
    assert any(line.startswith('privacy.masks[0].camera: expected "cam0"') for line in found)
    assert any(line.startswith("care.loop_deadline_s: expected at least 2") for line in found)
    assert any(line.startswith("mining.low") for line in found)


def test_secrets_of_a_wrong_value_are_not_shown(tmp_path: Path) -> None:
    """A password that stands in the wrong place is not written into a log."""
    text = GOOD.replace("http://releases.local/releases/", "http://me:hunter2@releases.local")
    assert "hunter2" not in " ".join(mistakes(write(tmp_path, text)))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"a = 1\nb = = 2\n", "line 2"),
        (b"a = 1\nb = 'caf\xe9'\n", "line 2"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, text: bytes, words: str) -> None:
    """Neither a wrong sign nor a wrong encoding has to be searched for."""
    path = tmp_path / "agent.toml"
    path.write_bytes(text)
    with pytest.raises(ConfigError, match=words):
        load_config(path)


def test_a_byte_order_mark_says_nothing(tmp_path: Path) -> None:
    """Editors on Windows leave one."""
    path = tmp_path / "agent.toml"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    assert load_config(path).task_id == "boards"


def test_files_that_cannot_be_read_are_listed_together(tmp_path: Path) -> None:
    """A start with two missing secrets says both."""
    text = GOOD.replace('"/etc/whetstone/root.json"', '"root.json"')
    config = load_config(write(tmp_path, text))
    with pytest.raises(WrongConfig) as caught:
        require_files(config, where=tmp_path / "agent.toml")
    keys = [str(mistake).partition(":")[0] for mistake in caught.value.mistakes]
    assert keys == ["broker.password_file", "releases.root_file"]
    for name in ("broker.password", "root.json"):
        (tmp_path / name).write_text("x")
    require_files(config, where=tmp_path / "agent.toml")


def test_every_path_is_taken_from_the_folder_of_the_file(tmp_path: Path) -> None:
    """Whatever section a path stands in, it means the same from everywhere."""

    def relative(value: object) -> list[Path]:
        if isinstance(value, BaseModel):
            return [path for name in type(value).model_fields for path in relative(getattr(value, name))]
        if isinstance(value, tuple):
            return [path for one in value for path in relative(one)]
        return [value] if isinstance(value, Path) and not value.is_absolute() else []

    text = GOOD + '\n[camera.trigger]\nkind = "file"\npath = "pulses"\npassword_file = "secret"\n'
    assert relative(load_config(write(tmp_path, text))) == []


def test_keys_are_listed_with_their_sections() -> None:
    """Documentation and suggestions know every key, those within lists and kinds too."""
    keys = keys_of(AgentConfig)
    for key in ("task_id", "broker.host", "camera.trigger.kind", "privacy.masks.polygon", "outputs.host"):
        assert key in keys


MODBUS = '[[outputs]]\nkind = "modbus"\nname = "gate"\nhost = "10.0.0.5"\n'


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (MODBUS + "coils = { reject = 0, heartbeat = 0 }\n", "reject and heartbeat share a coil"),
        (MODBUS + "coils = { reject = 0 }\nregisters = { parts = 5, verdict = 5 }\n", "share a register"),
        ('[[outputs]]\nkind = "opcua"\nname = "gate"\nurl = "opc.tcp://plc"\nnodes = { reject = "i=1", stop = "i=1" }\n',
         "share a node"),
        ('[[outputs]]\nkind = "s7"\nname = "gate"\nhost = "plc"\ndb = 1\nbits = { reject = "1.0" }\nwords = { parts = 0 }\n',
         "share a bit"),
    ],
)  # fmt: skip
def test_two_points_of_an_output_never_share_an_address(tmp_path: Path, table: str, words: str) -> None:
    """A heartbeat on the ejector's coil would eject every other part."""
    with pytest.raises(WrongConfig, match=words):
        load_config(write(tmp_path, GOOD + table))


def test_a_slow_camera_needs_an_output_that_waits_for_it(tmp_path: Path) -> None:
    """At one frame per second an output that expects one in 700 ms would never trust the camera."""
    text = (
        GOOD.replace('"folder:frames"', '"rtsp://camera/1"\nfps = 1.0') + MODBUS + "coils = { reject = 0 }\n"
    )
    with pytest.raises(WrongConfig, match=r"outputs\[0\].silence_ms: expected at least 1500"):
        load_config(write(tmp_path, text))
    assert load_config(write(tmp_path, text + "silence_ms = 2000\n")).outputs[0].silence_ms == 2000


def test_a_kind_that_does_not_exist_is_told_with_those_that_do(tmp_path: Path) -> None:
    """The key is the kind's own, and the nearest one is named."""
    text = GOOD + '[[outputs]]\nkind = "modbs"\nname = "ejector"\n'
    wanted = r"outputs\[0\]\.kind: expected one of .*did you mean modbus\?\), got 'modbs'"
    with pytest.raises(ConfigError, match=wanted):
        load_config(write(tmp_path, text))


def test_an_address_no_program_reads_is_told_without_its_password(tmp_path: Path) -> None:
    """A slip in the scheme is found at the start, not after a minute of trying."""
    with pytest.raises(ConfigError, match=r"did you mean rtp or rtsp\?") as refused:
        load_config(write(tmp_path, GOOD.replace("folder:frames", "rstp://user:hunter2@cam/1")))
    assert "hunter2" not in str(refused.value)
