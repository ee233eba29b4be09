"""Test how a source's name is read, and that no password is ever written."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.errors import ConfigError
from edge_agent.sources.credentials import read_credentials
from edge_agent.sources.kinds import hidden, parse_source, secrets_in, with_credentials, without


@pytest.mark.parametrize(
    ("text", "kind", "target"),
    [
        ("folder:/x", "folder", "/x"),
        ("video:/x.avi", "video", "/x.avi"),
        ("v4l2:/dev/video0", "v4l2", "/dev/video0"),
        ("/dev/video2", "v4l2", "/dev/video2"),
        ("0", "v4l2", "0"),
        ("rtsp://camera/1", "url", "rtsp://camera/1"),
        ("http://camera/stream.mjpg", "url", "http://camera/stream.mjpg"),
        ("gst:videotestsrc", "gst", "videotestsrc"),
        ("videotestsrc ! appsink", "gst", "videotestsrc ! appsink"),
        ("jetson:csi?sensor=1", "jetson", "csi?sensor=1"),
        ("genicam:/opt/x.cti#7", "genicam", "/opt/x.cti#7"),
    ],
)
def test_the_prefix_names_the_kind(text: str, kind: str, target: str) -> None:
    """Everything without a known prefix is a URL."""
    name = parse_source(text)
    assert (name.kind, name.target) == (kind, target)
    assert name.is_live == (kind not in ("folder", "video"))


@pytest.mark.parametrize(
    "text",
    [
        "rtsp://user:secret@camera/1",
        "cannot open 'rtsp://user:secret@camera/1' now",
        "rtspsrc location=rtsp://camera user-id=user user-pw=secret ! fakesink",
        'rtspsrc user-pw="secret" ! fakesink',
    ],
)
def test_passwords_are_hidden_wherever_they_stand(text: str) -> None:
    """In a URL, within a message, and in a pipeline's properties."""
    assert "secret" not in hidden(text)
    assert "camera" in hidden(text) or "rtspsrc" in hidden(text)


def test_known_secrets_are_hidden_in_any_spelling() -> None:
    """A driver may repeat a password as it is or as the URL had it."""
    assert without("p@ss or p%40ss?", ("p@ss",)) == "*** or ***?"
    assert without("nothing", ("",)) == "nothing"


def test_credentials_go_into_a_url_and_come_out_again() -> None:
    """Signs that mean something in a URL are written by their numbers."""
    url = with_credentials("rtsp://old:one@camera/1?x=1", "box", "a:b@c/d")
    assert url == "rtsp://box:a%3Ab%40c%2Fd@camera/1?x=1"
    assert secrets_in(url) == ("a%3Ab%40c%2Fd", "a:b@c/d")
    assert secrets_in("rtsp://camera/1@2") == ()
    assert with_credentials("/dev/video0", "box", "x") == "/dev/video0"


def test_a_file_of_credentials_is_read_and_not_shown(tmp_path: Path) -> None:
    """The password may hold colons; neither value nor error shows it."""
    path = tmp_path / "camera.login"
    path.write_text("box:a:b\n")
    found = read_credentials(path)
    assert (found.user, found.password) == ("box", "a:b")
    assert "a:b" not in repr(found)
    assert read_credentials(None).user == ""


@pytest.mark.parametrize("text", ["", "secret", ":secret", "a:secret\nb:secret"])
def test_a_wrong_file_of_credentials_is_named_without_its_content(tmp_path: Path, text: str) -> None:
    """The error says what the file should hold."""
    path = tmp_path / "camera.login"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"camera\.login.*user:password") as caught:
        read_credentials(path)
    assert "secret" not in str(caught.value)
    with pytest.raises(ConfigError, match="nowhere"):
        read_credentials(tmp_path / "nowhere")
