"""Read a camera's user and password from a file of their own, so that no URL has to carry them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from edge_agent.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Credentials:
    """Hold a user and password; "" = none."""

    user: str = ""
    password: str = field(default="", repr=False)


def read_credentials(path: Path | None) -> Credentials:
    """Read one line `user:password`.

    Raises:
        ConfigError: the file cannot be read, or holds something else; the message does not say what.
    """
    if path is None:
        return Credentials()
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            expected="a readable file",
            got=type(error).__name__,
            where=str(path),
            now="Correct camera.credentials_file and its owner.",
        ) from error
    user, separator, password = text.partition(":")
    if not user or not separator or "\n" in text:
        raise ConfigError(
            expected="one line user:password",
            got="something else",
            where=str(path),
            now="Write the camera's user and password into it, with mode 0600.",
        )
    return Credentials(user, password)
