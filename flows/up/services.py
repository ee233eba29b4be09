"""Describe the embedded services of one folder: command, environment, proof that each serves, what it needs.

In the order of their needs:

    object store   rclone serve s3      <folder>/store, one folder per bucket
    releases       rclone serve http    the bucket's releases/, read only
    broker         mosquitto, or amqtt where there is none
    prefect        server, one-time set-up of pool, deployment and automations, and a process worker
    ingest         flows.ingest
    reaper         ends machines that no live lease owns
"""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import flows
from fleet_contracts import keys
from flows.up import credentials, programs
from flows.up.ports import HOST, Ports
from flows.up.readiness import Probe, always, answers_http, answers_mqtt, has_online_worker

BUCKET = "whetstone"
POOL = "whetstone"
WORKER = "this-machine"


@dataclass(frozen=True, slots=True)
class Service:
    """Describe one child process; `needs` names services that must be ready before it starts."""

    name: str
    command: tuple[str, ...]
    probe: Probe
    env: Mapping[str, str] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    once: bool = False
    start_seconds: float = 120.0


def embedded_services(folder: Path, ports: Ports) -> tuple[Service, ...]:
    """Return every service of the folder, in the order of their needs.

    Raises:
        ProgramMissing: rclone is not installed.
    """
    return (
        _object_store(folder, ports),
        _release_server(folder, ports),
        _broker(folder, ports),
        *_prefect(folder, ports),
        _own("ingest", ("flows.ingest", "--folder", str(folder)), ("store", "broker")),
        _own("reaper", ("flows.gpus", "reap", "--folder", str(folder)), ("store",)),
    )


def child_environment(folder: Path, ports: Ports) -> dict[str, str]:
    """Return the environment all services share; nothing in it phones home."""
    above = str(Path(flows.__file__).resolve().parent.parent)
    python_path = os.environ.get("PYTHONPATH", "")
    return {
        **{key: value for key, value in os.environ.items() if not key.startswith(("PREFECT_", "RCLONE_"))},
        "PYTHONPATH": f"{above}{os.pathsep}{python_path}" if python_path else above,
        "PYTHONUNBUFFERED": "1",
        "MALLOC_ARENA_MAX": "2",
        "WHETSTONE_FOLDER": str(folder),
        **prefect_environment(folder, ports),
    }


def prefect_environment(folder: Path, ports: Ports) -> dict[str, str]:
    """Return the settings under which server, worker, flows and our own calls speak to each other."""
    return {
        "DO_NOT_TRACK": "1",
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_PROFILES_PATH": str(folder / "prefect" / "profiles.toml"),
        "PREFECT_API_URL": f"http://{HOST}:{ports.prefect}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_TELEMETRY_ENABLE_RESOURCE_METRICS": "false",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{folder / 'prefect' / 'prefect.db'}",
        # Leases kept in memory would be lost with the server, and the slots they hold with them.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        "PREFECT_WORKER_QUERY_SECONDS": "2",
        "PREFECT_WORKER_HEARTBEAT_SECONDS": "10",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        "PREFECT_CLI_PROMPT": "false",
        "PREFECT_CLI_COLORS": "false",
        "PREFECT_LOGGING_COLORS": "false",
    }


def _object_store(folder: Path, ports: Ports) -> Service:
    data = folder / "store"
    (data / BUCKET / keys.RELEASES).mkdir(parents=True, exist_ok=True)
    pair = credentials.store_keys(folder)
    return Service(
        name="store",
        command=(
            programs.rclone(), "serve", "s3", str(data), "--addr", f"{HOST}:{ports.store}",
            "--config", os.devnull, "--dir-cache-time", "1s", "--log-level", "NOTICE",
        ),
        # By environment and not as an argument, which every user of the machine could read.
        # rclone reads a list there, hence the quotes.
        env={"RCLONE_AUTH_KEY": f'"{pair.access_key},{pair.secret_key}"', "GOGC": "50"},
        probe=answers_http(ports.store),
    )  # fmt: skip


def _release_server(folder: Path, ports: Ports) -> Service:
    served = folder / "store" / BUCKET / keys.RELEASES
    return Service(
        name="releases",
        command=(
            programs.rclone(), "serve", "http", str(served), "--addr", f"{HOST}:{ports.releases}",
            "--read-only", "--config", os.devnull, "--dir-cache-time", "0s", "--log-level", "NOTICE",
        ),
        env={"GOGC": "50"},
        probe=answers_http(ports.releases),
        needs=("store",),
    )  # fmt: skip


def _broker(folder: Path, ports: Ports) -> Service:
    password = credentials.add_broker_user(folder, credentials.CLOUD_USER)
    program = programs.mosquitto()
    if program is None:
        command: tuple[str, ...] = (sys.executable, "-m", "flows.up.small_broker", "--folder", str(folder),
                                    "--port", str(ports.broker))  # fmt: skip
    else:
        command = (program, "-c", str(_write_mosquitto_conf(folder, ports)))
    return Service(
        name="broker",
        command=command,
        probe=answers_mqtt(ports.broker, credentials.CLOUD_USER, lambda: password.read_text().strip()),
    )


def _write_mosquitto_conf(folder: Path, ports: Ports) -> Path:
    data = folder / "broker"
    path = data / "mosquitto.conf"
    lines = (
        f"listener {ports.broker} {HOST}",
        f"user {getpass.getuser()}",
        "allow_anonymous false",
        f"password_file {data / 'passwords'}",
        f"acl_file {data / 'acl'}",
        "persistence true",
        f"persistence_location {data}/",
        # Retained orders outlive a kill; what is lost all the same is published again (law 1).
        "autosave_interval 5",
        "max_inflight_messages 100",
        "max_queued_messages 10000",
        "message_size_limit 1048576",
        "log_type error",
        "log_type warning",
        "log_type notice",
    )
    path.write_text("\n".join(lines) + "\n")
    return path


def _prefect(folder: Path, ports: Ports) -> tuple[Service, ...]:
    (folder / "prefect").mkdir(parents=True, exist_ok=True)
    python = sys.executable
    server = Service(
        name="prefect",
        command=(python, "-m", "prefect", "server", "start", "--host", HOST, "--port", str(ports.prefect)),
        probe=answers_http(ports.prefect, "/api/health", below=300),
        start_seconds=300.0,
    )
    setup = Service(
        name="prefect-setup",
        command=(python, "-m", "flows.retrain.deploying", "--pool", POOL),
        probe=always,
        needs=("prefect",),
        once=True,
        start_seconds=300.0,
    )
    worker = Service(
        name="worker",
        command=(python, "-m", "flows.retrain.worker", "--name", WORKER),
        probe=has_online_worker(ports.prefect, POOL, WORKER),
        needs=("prefect-setup",),
    )  # fmt: skip
    return server, setup, worker


def _own(name: str, module: tuple[str, ...], needs: tuple[str, ...]) -> Service:
    return Service(name=name, command=(sys.executable, "-m", *module), probe=always, needs=needs)
