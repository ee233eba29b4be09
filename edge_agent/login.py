"""Give a client what lets it in, from the files the configuration names: password and certificates.

One place for every broker and server the box speaks to, so that each reads its files and tells of them alike.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import paho.mqtt.client as paho

from edge_agent.errors import ConfigError


class Login(Protocol):
    """Be a section that says who we are to an MQTT broker and whom we trust."""

    @property
    def username(self) -> str:
        """Return the user, "" for none."""

    @property
    def password_file(self) -> Path | None:
        """Return the file that holds the password."""

    @property
    def tls(self) -> bool:
        """Tell whether the connection is encrypted."""

    @property
    def ca_file(self) -> Path | None:
        """Return who signs the broker's certificate; None = the system's authorities."""

    @property
    def cert_file(self) -> Path | None:
        """Return our own certificate."""

    @property
    def key_file(self) -> Path | None:
        """Return our own certificate's key."""


def log_in(client: paho.Client, login: Login, section: str) -> None:
    """Set user and TLS of a client that is not connected yet; a broker's name must fit its certificate.

    Args:
        client: of paho.
        login: a section of the configuration.
        section: its dotted name, for the error message.

    Raises:
        ConfigError: a password or certificate file cannot be used.
    """
    if login.username:
        client.username_pw_set(login.username, read_password(login.password_file, f"{section}.password_file"))
    if not login.tls:
        return
    try:
        client.tls_set(_text(login.ca_file), _text(login.cert_file), _text(login.key_file))
    except (OSError, ValueError) as error:
        raise ConfigError(
            expected="readable certificate files",
            got=str(error),
            where=section,
            now=f"Correct ca_file, cert_file and key_file of {section}.",
        ) from error


def read_password(file: Path | None, key: str) -> str | None:
    """Read a file that holds one password, or return None for no file.

    Raises:
        ConfigError: it cannot be read.
    """
    if file is None:
        return None
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigError(
            expected="a readable password file",
            got=str(error.strerror),
            where=str(file),
            now=f"Correct {key}.",
        ) from error


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
