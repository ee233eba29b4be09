"""Give an MQTT client what it needs to be let in: user, password, authority and own certificate."""

from __future__ import annotations

import ssl
from pathlib import Path

import paho.mqtt.client as mqtt

from flows.errors import SettingsError
from flows.settings import BrokerSettings


def let_in(client: mqtt.Client, broker: BrokerSettings, folder: Path) -> None:
    """Set user and TLS of a client that is not connected yet.

    Args:
        client: of paho.
        broker: how the broker is reached.
        folder: what relative paths in the settings are relative to.

    Raises:
        SettingsError: a file that the settings name cannot be read or does not fit.
    """
    if broker.username:
        client.username_pw_set(broker.username, _password(broker, folder))
    if not broker.tls:
        return
    try:
        client.tls_set(
            ca_certs=_text(folder, broker.ca_file),
            certfile=_text(folder, broker.cert_file),
            keyfile=_text(folder, broker.key_file),
            cert_reqs=ssl.CERT_REQUIRED,
        )
    except (OSError, ValueError) as error:
        raise SettingsError(
            expected="readable certificate files that belong together",
            got=str(error),
            where="[broker]",
            now="Correct broker.ca_file, cert_file and key_file.",
        ) from error


def _password(broker: BrokerSettings, folder: Path) -> str | None:
    if broker.password_file is None:
        return None
    try:
        return (folder / broker.password_file).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SettingsError(
            expected="a readable password file",
            got=str(error.strerror),
            where=str(folder / broker.password_file),
            now="Correct broker.password_file.",
        ) from error


def _text(folder: Path, path: Path | None) -> str | None:
    return None if path is None else str(folder / path)
