"""Keep the embedded services' secrets: one file each under `<folder>/secrets/`, for the owner's eyes only.

The broker's own password and ACL files are made from these, so a device is added by adding its secret
and asking the broker to read again.

    >>> from flows.up.credentials import mosquitto_line
    >>> mosquitto_line("press-1", "secret", salt=b"0" * 12).startswith("press-1:$7$101$")
    True
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from fleet_contracts import topics
from fleet_contracts.ids import SLUG
from flows.files import write_file
from flows.up.errors import UpError

CLOUD_USER = "whetstone-cloud"
_ITERATIONS = 101
"""What mosquitto_passwd uses; the passwords are random and 24 bytes long, so stretching adds nothing."""


@dataclass(frozen=True, slots=True)
class StoreKeys:
    """Hold the key pair of the object store."""

    access_key: str
    secret_key: str

    def __repr__(self) -> str:
        return f"StoreKeys(access_key={self.access_key!r}, secret_key=...)"


def store_keys_file(folder: Path) -> Path:
    """Return where the object store's key pair lies."""
    return folder / "secrets" / "store.json"


def store_keys(folder: Path) -> StoreKeys:
    """Return the object store's key pair, making it at the first call."""
    path = store_keys_file(folder)
    if not path.exists():
        made = {"access_key": secrets.token_hex(10), "secret_key": secrets.token_urlsafe(30)}
        write_file(path, json.dumps(made).encode(), mode=0o600)
    content = json.loads(path.read_text())
    return StoreKeys(content["access_key"], content["secret_key"])


def broker_password_file(folder: Path, user: str) -> Path:
    """Return where the broker password of a device or of the cloud lies: one line."""
    return folder / "secrets" / "broker" / user


def add_broker_user(folder: Path, user: str) -> Path:
    """Give a device a broker password unless it has one, and rewrite the broker's files.

    Raises:
        UpError: the name could not be a device id.
    """
    if not re.match(SLUG, user):
        raise UpError(
            expected="lower-case letters, digits and dashes",
            got=repr(user),
            where="device id",
            now="Choose another device id.",
        )
    path = broker_password_file(folder, user)
    if not path.exists():
        write_file(path, secrets.token_urlsafe(24).encode() + b"\n", mode=0o600)
    write_broker_files(folder)
    return path


def broker_users(folder: Path) -> dict[str, str]:
    """Return every broker user with its password."""
    users = folder / "secrets" / "broker"
    return {path.name: path.read_text().strip() for path in sorted(users.glob("[!.]*"))}


def write_broker_files(folder: Path) -> None:
    """Write the broker's password and ACL files from the secrets."""
    lines = [mosquitto_line(name, password) for name, password in broker_users(folder).items()]
    write_file(folder / "broker" / "passwords", ("\n".join(lines) + "\n").encode(), mode=0o600)
    write_file(folder / "broker" / "acl", acl_text().encode(), mode=0o600)


def acl_text() -> str:
    """Return the ACL: the cloud hears and says everything, a device speaks and listens as itself only."""
    return "\n".join(
        [
            f"user {CLOUD_USER}",
            f"topic readwrite {topics.PREFIX}/#",
            "",
            f"pattern write {topics.PREFIX}/+/up/%u/+",
            f"pattern read {topics.PREFIX}/+/down/%u/+",
            "",
        ]
    )


def mosquitto_line(user: str, password: str, *, salt: bytes | None = None) -> str:
    """Return one line of a Mosquitto 2 password file (PBKDF2 with SHA-512)."""
    salt = salt or secrets.token_bytes(12)
    key = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _ITERATIONS)
    return f"{user}:$7${_ITERATIONS}${base64.b64encode(salt).decode()}${base64.b64encode(key).decode()}"
