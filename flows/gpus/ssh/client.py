"""Speak to one host: the system's own `ssh`, one pinned host key, one private key, nothing else.

The user's ssh settings are not read: what counts stands in `whetstone.toml`. No password is ever tried and no
agent, port or terminal is forwarded.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.files import write_file
from flows.gpus.errors import LaunchRefused, ProviderAway, TokenRefused
from flows.gpus.settings import SshHost
from flows.gpus.ssh import carried
from flows.gpus.ssh.there.keeper import MARK

CONNECT_SECONDS = 10
CALL_SECONDS = 120.0
"""Covers a trainer that takes its time to end."""
SEND_SECONDS = 600.0
_ALGORITHMS = {"ssh-rsa": "rsa-sha2-512,rsa-sha2-256"}
_OTHER_KEY = re.compile(r"Host key verification failed|IDENTIFICATION HAS CHANGED|no matching host key type")
_DENIED = re.compile(r"Permission denied|Too many authentication failures")


class WrongHostKey(ProviderAway):
    """Tell that whoever answers at a host's address is not that host, or has been given another key."""


@dataclass(frozen=True, slots=True)
class HostClient:
    """Make calls of one host.

    Args:
        host: the host.
        folder: the installation's; a relative key file is looked for there.
    """

    host: SshHost
    folder: Path

    @property
    def name(self) -> str:
        """Return what the host is called in offers and machines."""
        return name_of(self.host)

    @property
    def key_file(self) -> Path:
        """Return where the private key lies."""
        path = self.host.key_file.expanduser()
        return path if path.is_absolute() else self.folder / path

    def call(self, what: str, blob: bytes = b"", **details: Any) -> Any:
        """Have the host do one thing, in one connection, and return its answer.

        Raises:
            ProviderAway: it could not be reached or the connection broke; the thing may have been done.
            WrongHostKey: another host key was shown; nothing was sent.
            TokenRefused: the host does not take our key.
            LaunchRefused: it answers that it will not.
        """
        if not os.access(self.key_file, os.R_OK):
            raise TokenRefused(
                expected="a private key", got="no file that we may read",
                where=f"{self.key_file} for {self.name}",
                now="Correct key_file (a relative one is looked for in the installation's folder), or make "
                "one with ssh-keygen and add its public half to ~/.ssh/authorized_keys there.",
            )  # fmt: skip
        request = {"do": what, "folder": self.host.folder, **details}
        seconds = SEND_SECONDS if blob else CALL_SECONDS
        try:
            asked = subprocess.run(
                self._arguments(), input=carried.call(request, blob), capture_output=True, timeout=seconds,
                check=False, env=_environment(),
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise self._away(f"no answer to {what} within {seconds:.0f} s") from None
        except OSError as error:
            raise self._away(f"no ssh here: {error}", now="Install OpenSSH's client.") from error
        return self._answer_of(what, asked)

    def _answer_of(self, what: str, asked: subprocess.CompletedProcess[bytes]) -> Any:
        answer = _find_answer(asked.stdout)
        if answer is None:
            self._explain(asked.returncode, asked.stderr.decode(errors="replace"))
        elif "done" in answer:
            return answer["done"]
        elif "refused" in answer:
            raise LaunchRefused(
                expected="a machine", got=str(answer["refused"]), where=self.name,
                now="Another offer is tried; see docs/renting.md, SSH.",
            )  # fmt: skip
        raise self._away(f"{what} failed there: {str((answer or {}).get('failed'))[:300]}")

    def _explain(self, code: int, said: str) -> None:
        """Raise what the end of ssh without an answer means."""
        last = " / ".join(line.strip().rstrip(".") for line in said.strip().splitlines()[-3:])[:300]
        if code == 255 and _OTHER_KEY.search(said):
            raise WrongHostKey(
                expected=f"the host key {fingerprint(self.host.host_key)} of whetstone.toml",
                got="another one",
                where=self.name,
                now="Somebody stands between, or the host was set up anew. Ask its seller for its key over "
                "another way, and write that as host_key; nothing was sent.",
            )
        if code == 255 and _DENIED.search(said):
            raise TokenRefused(
                expected=f"a key that {self.host.user} may log in with",
                got=last,
                where=f"{self.key_file} at {self.name}",
                now=f"Add its public half ({self.key_file}.pub) to ~/.ssh/authorized_keys there. The "
                "key must be readable by you alone and have no passphrase. No restart is needed.",
            )
        if code in (carried.TOO_OLD, 127):
            raise self._wrong_python(f"{'.'.join(map(str, carried.OLDEST))} or newer", last)
        raise self._away(last or f"the connection ended without an answer (exit code {code})")

    def _wrong_python(self, wanted: str, got: str) -> LaunchRefused:
        """Return the error of a host whose Python cannot do what it should."""
        return LaunchRefused(
            expected=f"a Python {wanted} as {self.host.python!r} there", got=got, where=self.name,
            now='Name one by python in the host\'s settings, or let it use Docker (runtime = "docker").',
        )  # fmt: skip

    def require_python(self, there: str) -> None:
        """Raise `LaunchRefused` where the trainer's packages cannot be installed for the host's Python."""
        if not carried.pythons().contains(there):
            oldest = next(minor for minor in range(100) if carried.pythons().contains(f"3.{minor}.99"))
            wanted = f"3.{oldest} or newer, which the trainer's packages ask for,"
            raise self._wrong_python(wanted, f"it is Python {there}")

    def _arguments(self) -> list[str]:
        kind = self.host.host_key.split()[0]
        options = {
            "BatchMode": "yes",
            "StrictHostKeyChecking": "yes",
            "UserKnownHostsFile": str(self._known_hosts()),
            "GlobalKnownHostsFile": "/dev/null",
            "HostKeyAlias": "host",
            "HostKeyAlgorithms": _ALGORITHMS.get(kind, kind),
            "UpdateHostKeys": "no",
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "PreferredAuthentications": "publickey",
            "PasswordAuthentication": "no",
            "KbdInteractiveAuthentication": "no",
            "ForwardAgent": "no",
            "ClearAllForwardings": "yes",
            "ControlPath": "none",
            "ConnectTimeout": str(CONNECT_SECONDS),
            "ServerAliveInterval": "5",
            "ServerAliveCountMax": "3",
            "LogLevel": "ERROR",
        }
        given = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
        return [
            shutil.which("ssh") or "ssh", "-F", "none", "-T", *given, "-i", str(self.key_file),
            "-l", self.host.user, "-p", str(self.host.port), "--", self.host.host,
            carried.command_line(self.host.python),
        ]  # fmt: skip

    def _known_hosts(self) -> Path:
        """Return a file that knows this host's key alone, under the alias every call asks for."""
        kind, key = self.host.host_key.split()[:2]
        line = f"host {kind} {key}\n".encode()
        path = self.folder / "ssh" / f"known-{hashlib.sha256(line).hexdigest()[:16]}"
        if not path.exists() or path.read_bytes() != line:
            write_file(path, line, mode=0o600)
        return path

    def _away(self, what: str, now: str = "") -> ProviderAway:
        return ProviderAway(
            expected="an answer",
            got=what,
            where=self.name,
            now=now or "It is asked again; see whether the host is up.",
        )


def name_of(host: SshHost) -> str:
    """Return what a host is called in offers and machines."""
    return f"{host.host}:{host.port}"


def fingerprint(line: str) -> str:
    """Return a host key as `ssh-keygen -l` shows it."""
    digest = hashlib.sha256(base64.b64decode(line.split()[1])).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def _find_answer(output: bytes) -> dict[str, Any] | None:
    for line in reversed(output.decode(errors="replace").splitlines()):
        _, mark, text = line.partition(MARK)
        if mark:
            try:
                found = json.loads(text)
            except ValueError:
                return None
            return found if isinstance(found, dict) else None
    return None


def _environment() -> dict[str, str]:
    """Return what ssh may know of our environment: nothing that a SendEnv could carry away."""
    return {"PATH": os.environ.get("PATH", ""), "HOME": os.environ.get("HOME", "/"), "LC_ALL": "C"}
