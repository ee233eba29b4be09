"""Start SkyPilot's real API server once, without an account: its own home, a price list written here."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import urllib3

from flows.gpus.skypilot.simulated_clusters import CATALOG
from tests.helpers import ROOT, free_port, missing, wait_until

PYTHON = ROOT / ".engines" / "skypilot" / "bin" / "python"
BOOT_CHECK = "skypilot-server-on-boot-check"
SECONDS = 180.0
"""For its start, which takes six on a quiet machine."""
_COLUMNS = "InstanceType,vCPUs,MemoryGiB,AcceleratorName,AcceleratorCount,GpuInfo,Region,Price,SpotPrice"
_KNOW = """
import sys, sky
from sky import backends, global_user_state
name, up = sys.argv[1], sys.argv[2] == "1"
machine = sky.Resources(infra="lambda/us-east-1", instance_type="gpu_1x_a10", accelerators="A10:1")
handle = backends.CloudVmRayResourceHandle(
    cluster_name=name, cluster_name_on_cloud=name, cluster_yaml=None, launched_nodes=1, launched_resources=machine
)
global_user_state.add_or_update_cluster(name, handle, {machine}, ready=up)
"""
"""Uses SkyPilot itself, in its own environment: the one way to a cluster's record without an account."""
_ZONED = {"runpod"}
"""Clouds whose lists have a zone; in others a zone is an error."""


@dataclass(frozen=True)
class RealServer:
    """Hold a running server and its home."""

    url: str
    home: Path

    def enable(self, *clouds: str) -> None:
        """Let the server believe that it has an account with these clouds, as a check with a key would."""
        with closing(sqlite3.connect(self.home / ".sky" / "state.db", timeout=10)) as database, database:
            changed = database.execute(
                "UPDATE config SET value = ? WHERE key = 'enabled_clouds_default_compute'",
                (json.dumps(clouds),),
            )
            assert changed.rowcount == 1, "the server keeps its clouds elsewhere"

    def know(self, name: str, *, up: bool) -> None:
        """Let the server know a cluster, as a launch that was broken off, or went well, would have left it."""
        done = subprocess.run(
            [str(PYTHON), "-c", _KNOW, name, str(int(up))], env=_environment(self.home, 0), check=False,
            capture_output=True, text=True, timeout=SECONDS,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    def machine_file(self, name: str) -> str:
        """Return what a dry run would have put onto a machine."""
        return (self.home / ".sky" / "generated" / f"{name}.yml.tmp").read_text()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """Return the real server, ready; the accounts it has are none."""
    if not PYTHON.exists():
        missing("SkyPilot's API server", "scripts/engines.sh skypilot")
    home = tmp_path_factory.mktemp("skypilot")
    _seed(home)
    port = free_port()
    with (home / "server.log").open("wb") as log:
        # It leaves its workers behind when it is ended by itself: they share its session.
        process = subprocess.Popen(
            [str(PYTHON), "-m", "sky.server.server", "--host", "127.0.0.1", "--port", str(port)],
            env=_environment(home, port), cwd=home, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: _answers(url, process), SECONDS, "SkyPilot's server to start")
        # Its check at the start would overwrite what `enable` writes.
        done = urllib3.request(
            "GET", f"{url}/api/get?request_id={BOOT_CHECK}", timeout=SECONDS, retries=False
        )
        assert done.status == 200, done.data
        yield RealServer(url, home)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _seed(home: Path) -> None:
    """Write price lists as SkyPilot's own, keys of no account, and a stand-in for rsync where there is none."""
    folder = home / ".sky" / "catalogs" / "v8"
    by_cloud: dict[str, list[str]] = {}
    for rows in CATALOG.values():
        for row in rows:
            by_cloud.setdefault(row[0].lower(), []).append(_line(row))
    for cloud, lines in by_cloud.items():
        (folder / cloud).mkdir(parents=True)
        (folder / cloud / "vms.csv").write_text(
            "\n".join([_COLUMNS + ",AvailabilityZone" * (cloud in _ZONED), *lines, ""])
        )
    (folder / "common").mkdir()
    names = [f'{gpu},"[{rows[0][0]}]"' for gpu, rows in CATALOG.items()]
    (folder / "common" / "accelerators.csv").write_text("\n".join(["AcceleratorName,Clouds", *names, ""]))
    for place, text in (
        (".lambda_cloud/lambda_keys", "api_key = none"),
        (".config/vastai/vast_api_key", "none"),
    ):
        (home / place).parent.mkdir(parents=True)
        (home / place).write_text(text)
    if shutil.which("rsync") is None:
        # A dry run only asks for its version.
        (home / "bin").mkdir()
        (home / "bin" / "rsync").write_text("#!/bin/sh\necho rsync version 3.2.3\n")
        (home / "bin" / "rsync").chmod(0o755)


def _line(row: list[Any]) -> str:
    _, instance, gpu, count, cores, gpu_memory, memory, price, spot, region = row
    size = int(gpu_memory * 1024)
    zone = f",{region}-1" if row[0].lower() in _ZONED else ""
    info = f"{{'Gpus': [{{'Name': '{gpu}', 'Count': {count}, 'MemoryInfo': {{'SizeInMiB': {size}}}}}]}}"
    return f'{instance},{cores},{memory},{gpu},{count},"{info}",{region},{price},{"" if spot is None else spot}{zone}'


def _environment(home: Path, port: int) -> dict[str, str]:
    return {
        "PATH": f"{home / 'bin'}:{os.environ['PATH']}",
        "HOME": str(home),
        "SKYPILOT_DISABLE_USAGE_COLLECTION": "1",
        "SKYPILOT_API_SERVER_LOCAL_PORT": str(port),
    }


def _answers(url: str, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, "the server ended"
    try:
        return urllib3.request("GET", f"{url}/api/health", timeout=2.0, retries=False).status == 200
    except urllib3.exceptions.HTTPError:
        return False
