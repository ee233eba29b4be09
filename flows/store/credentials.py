"""Keep the object store's key pair in one file that only its owner may read."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from flows.errors import SettingsError
from flows.files import write_file


@dataclass(frozen=True, slots=True)
class StoreCredentials:
    """Hold a key pair; its text form hides the secret half."""

    access_key: str
    secret_key: str = field(repr=False)


def read_credentials(path: Path) -> StoreCredentials:
    """Read a key pair.

    Raises:
        SettingsError: no such file, or not JSON with `access_key` and `secret_key`.
    """
    try:
        content = json.loads(path.read_bytes())
        return StoreCredentials(str(content["access_key"]), str(content["secret_key"]))
    except FileNotFoundError as error:
        raise SettingsError(
            expected="the object store's credentials",
            got="no such file",
            where=str(path),
            now="Run 'whetstone up' once, or write JSON with access_key and secret_key there.",
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise SettingsError(
            expected="JSON with access_key and secret_key", got=type(error).__name__, where=str(path)
        ) from error


def write_credentials(path: Path, credentials: StoreCredentials) -> None:
    """Write a key pair, readable by its owner alone."""
    content = json.dumps({"access_key": credentials.access_key, "secret_key": credentials.secret_key})
    write_file(path, content.encode(), mode=0o600)
