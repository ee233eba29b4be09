"""Read the configured name of a source: what kind it is, and how to write it where people may see it. Pure.

>>> parse_source("v4l2:/dev/video0")
SourceName(kind='v4l2', target='/dev/video0')
>>> parse_source("2")
SourceName(kind='v4l2', target='2')
>>> parse_source("rtsp://cam/1").kind
'url'
>>> hidden("rtsp://user:secret@cam/1")
'rtsp://cam/1'
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote, unquote

SourceKind = Literal["folder", "video", "v4l2", "gst", "jetson", "genicam", "url"]
PREFIXES: tuple[SourceKind, ...] = ("folder", "video", "v4l2", "gst", "jetson", "genicam")
STORED: tuple[SourceKind, ...] = ("folder", "video")
_USER_INFO = re.compile(r"([a-z][a-z0-9+.-]*://)[^\s/?#'\"]*@", re.IGNORECASE)
_SECRET_PROPERTY = re.compile(
    r"\b(user-id|user-pw|proxy-id|proxy-pw|password|passphrase)(\s*=\s*)(\"[^\"]*\"|\S+)"
)
HIDDEN = "***"


@dataclass(frozen=True, slots=True)
class SourceName:
    """Hold the kind of a source and what that kind opens."""

    kind: SourceKind
    target: str

    @property
    def is_live(self) -> bool:
        """Tell whether frames come when the world gives them; those of files can wait."""
        return self.kind not in STORED


def parse_source(text: str) -> SourceName:
    """Tell a source's kind by its prefix; a bare number is a V4L2 device, what has a ` ! ` a pipeline."""
    head, separator, rest = text.partition(":")
    for kind in PREFIXES:
        if separator and head == kind:
            return SourceName(kind, rest)
    if text.isdigit() or text.startswith("/dev/video"):
        return SourceName("v4l2", text)
    if " ! " in text:
        return SourceName("gst", text)
    return SourceName("url", text)


def hidden(text: str) -> str:
    """Return a source or message without the user names and passwords its URLs and properties carry."""
    return _SECRET_PROPERTY.sub(rf"\1\2{HIDDEN}", _USER_INFO.sub(r"\1", text))


def without(text: str, secrets: tuple[str, ...]) -> str:
    """Return a text in which none of the secrets stands, as it is or as a URL writes it."""
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        for form in {secret, quote(secret, safe="")}:
            text = text.replace(form, HIDDEN)
    return hidden(text)


def secrets_in(url: str) -> tuple[str, ...]:
    """Return the password a URL carries, as it stands there and, if that differs, as it is meant.

    >>> secrets_in("rtsp://user:secret@cam/1")
    ('secret',)
    """
    found = _USER_INFO.search(url)
    if found is None:
        return ()
    _, separator, password = found.group(0)[len(found.group(1)) : -1].partition(":")
    return tuple(dict.fromkeys((password, unquote(password)))) if separator and password else ()


def with_credentials(url: str, user: str, password: str) -> str:
    """Put a user and password into a URL, in place of those it had.

    >>> with_credentials("rtsp://cam/1", "box", "a/b")
    'rtsp://box:a%2Fb@cam/1'
    """
    scheme, separator, rest = _USER_INFO.sub(r"\1", url).partition("://")
    if not separator:
        return url
    return f"{scheme}://{quote(user, safe='')}:{quote(password, safe='')}@{rest}"
