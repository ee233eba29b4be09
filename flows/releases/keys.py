"""Make and open the signing keys: root and targets stay offline, channel, snapshot and timestamp are online.

Flows open `online/` alone. Whoever steals it can choose among class lists and models of delegated
channels until the offline keys revoke it, but can neither replace the root nor take over another channel.

    keys/offline/{root,targets}.pem       move these away from the server after `add_channel`
    keys/online/{channel,snapshot,timestamp}.pem
    keys/trusted_root.json                public: what boxes are given as their anchor of trust
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner

from flows.files import write_file
from flows.releases.errors import KeysMissing

OFFLINE = ("root", "targets")
ONLINE = ("channel", "snapshot", "timestamp")


@dataclass(frozen=True, slots=True)
class OfflineKeys:
    """Hold the signers that only a person's hands should reach."""

    root: CryptoSigner
    targets: CryptoSigner


@dataclass(frozen=True, slots=True)
class OnlineKeys:
    """Hold the signers that flows work with."""

    channel: CryptoSigner
    snapshot: CryptoSigner
    timestamp: CryptoSigner


def create_keys(folder: Path) -> None:
    """Make one ed25519 key per role, each file for its owner's eyes only.

    The timestamp key is written last and marks the set as complete: once it is there nothing is made,
    so a second call never replaces offline keys that somebody rightly took away. An attempt that broke
    off is finished.
    """
    complete = folder / "online" / "timestamp.pem"
    if complete.exists():
        return
    names = [*(f"offline/{name}" for name in OFFLINE), *(f"online/{name}" for name in ONLINE)]
    for name in names:
        path = folder / f"{name}.pem"
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            write_file(path, CryptoSigner.generate_ed25519().private_bytes, mode=0o600)


def load_offline(folder: Path) -> OfflineKeys:
    """Open the offline keys in `folder` (the one that holds `root.pem` itself).

    Raises:
        KeysMissing: a file is absent or not an ed25519 key; fetch the offline keys from their safe.
    """
    return OfflineKeys(root=_load(folder / "root.pem"), targets=_load(folder / "targets.pem"))


def load_online(folder: Path) -> OnlineKeys:
    """Open the online keys below `folder` (the one that holds `online/`).

    Raises:
        KeysMissing: a file is absent or not an ed25519 key.
    """
    online = folder / "online"
    return OnlineKeys(*(_load(online / f"{name}.pem") for name in ONLINE))


def _load(path: Path) -> CryptoSigner:
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise KeysMissing(
            expected="an ed25519 private key as PEM",
            got=f"{type(error).__name__}: {error}",
            where=str(path),
            now="Make keys with create_keys, or bring the file back from where it is kept.",
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeysMissing(expected="an ed25519 key", got=type(key).__name__, where=str(path))
    return CryptoSigner(key)
