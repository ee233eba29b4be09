"""Be a rented host: a real sshd on loopback, run by the present user, with a gate before it that can fail.

Nothing of the protocol is imitated. What is not here is the machine around it: the host's processes are this
machine's, its home is a folder, its power switch a file.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from flows.gpus.settings import SshHost

START_SECONDS = 20.0
Weather = Literal["calm", "silence", "garbage"]


class Gate:
    """Pass connections on, or drop them, or answer as a proxy does; `hits` counts what it did not pass."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.weather: Weather = "calm"
        self.hits = 0
        self._open: list[socket.socket] = []
        self._in_thread(self._accept)

    def cut(self) -> None:
        """Drop every connection that is open now."""
        taken, self._open = self._open, []
        for one in taken:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Stop; open connections are dropped."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                caller, _ = self._listener.accept()
            except OSError:
                return
            if self.weather != "calm":
                self.hits += 1
                if self.weather == "garbage":
                    with suppress(OSError):
                        caller.sendall(b"HTTP/1.1 502 Bad Gateway\r\n\r\n<html>502</html>\n")
                caller.close()
                continue
            try:
                inner = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                caller.close()
                continue
            self._open += [caller, inner]
            self._in_thread(self._pump, caller, inner)
            self._in_thread(self._pump, inner, caller)

    @staticmethod
    def _pump(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while content := source.recv(65536):
                target.sendall(content)
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    @staticmethod
    def _in_thread(work: Callable[..., None], *arguments: Any) -> None:
        threading.Thread(target=work, args=arguments, daemon=True).start()


class SimulatedHost:
    """Run the sshd; `settings` returns how an installation would describe it.

    Args:
        folder: for keys, logs and settings of the sshd.
        python: what the host's `python3` is; `lose_next_answer` needs it to be a shell script of ours.
    """

    def __init__(self, folder: Path, python: str = "python3") -> None:
        self.folder = folder
        self.python = python
        self.key_file = folder / "login"
        self._authorized = folder / "authorized_keys"
        self._log = folder / "sshd.log"
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("login", "hostkey"):
            make_key(folder / name)
        self.authorize()
        port = _free_port()
        self._process = self._start(port)
        self.gate = Gate(port)

    def settings(self, folder: Path, **more: Any) -> SshHost:
        """Return the host's section; `folder` is where the trainer's things lie there."""
        kind, key = (self.folder / "hostkey.pub").read_text().split()[:2]
        given: dict[str, Any] = {
            "host": "127.0.0.1",
            "port": self.gate.port,
            "user": _user(),
            "host_key": f"{kind} {key}",
            "key_file": self.key_file,
            "folder": str(folder),
            "python": self.python,
            "price": 0.0,
        }
        return SshHost.model_validate({**given, **more})

    def authorize(self) -> None:
        """Let our key in."""
        shutil.copyfile(self.folder / "login.pub", self._authorized)
        self._authorized.chmod(0o600)

    def revoke(self) -> None:
        """Let our key in no more."""
        self._authorized.write_text("")

    def log(self) -> str:
        """Return what the sshd wrote."""
        return self._log.read_text(errors="replace")

    def close(self) -> None:
        """End the sshd; whatever runs on the host runs on."""
        self.gate.close()
        self._process.terminate()
        self._process.wait(START_SECONDS)

    def _start(self, port: int) -> subprocess.Popen[bytes]:
        sshd = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
        if sshd is None:
            raise FileNotFoundError("sshd")
        if os.geteuid() == 0:
            # Where sshd's own start script has never run.
            Path("/run/sshd").mkdir(exist_ok=True)
        settings, home = self.folder / "sshd_config", self.folder / "home"
        home.mkdir(exist_ok=True)
        settings.write_text(
            f"ListenAddress 127.0.0.1:{port}\nHostKey {self.folder / 'hostkey'}\nPidFile none\n"
            f"AuthorizedKeysFile {self._authorized}\nStrictModes no\nUsePAM no\nPermitRootLogin yes\n"
            "PasswordAuthentication no\nKbdInteractiveAuthentication no\nLogLevel VERBOSE\n"
            f"MaxStartups 100:30:200\nPrintMotd no\nSetEnv HOME={home}\n"
            # The newer exchange costs a tenth of a second of processor, and tests log in hundreds of times.
            "KexAlgorithms curve25519-sha256\n"
        )
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                [sshd, "-D", "-e", "-f", str(settings)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + START_SECONDS
        while "listening on" not in self.log():
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                raise RuntimeError(f"sshd did not start: {self.log()[-500:]}")
            time.sleep(0.02)
        return process


def make_key(path: Path) -> None:
    """Make a key pair without a passphrase, if there is none yet."""
    if not path.exists():
        line = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "whetstone", "-f", str(path)]
        subprocess.run(line, check=True, stdin=subprocess.DEVNULL)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _user() -> str:
    import pwd

    return pwd.getpwuid(os.geteuid()).pw_name
