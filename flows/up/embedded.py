"""Prepare a folder for the embedded services and run them: the body of `whetstone up`.

folder/
whetstone.toml   settings; the addresses of embedded services are kept up to date in it
ports.json       ports, chosen once        up.json, up.lock   what runs now
secrets/         store.json, broker/<user>, release-keys/
store/           the buckets               broker/, prefect/  data of these services
labels/          label files arrive here   logs/              one log per service
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from flows.gpus.providers import each_apart
from flows.settings import FILE_NAME, BrokerSettings, Settings, load_settings, write_settings
from flows.up import credentials, processes
from flows.up.ports import HOST, Ports, choose_ports
from flows.up.services import BUCKET, child_environment, embedded_services
from flows.up.state import UpState, hold, running_state
from flows.up.supervisor import Place, Supervisor, stopping_on_signals


def run_up(
    folder: Path,
    *,
    changed: Callable[[UpState], None] = lambda _: None,
    only: frozenset[str] | None = None,
) -> None:
    """Run the services of a folder until this process is interrupted or terminated.

    Args:
        folder: where everything is kept; made when it does not exist.
        changed: told of every change of state.
        only: names of the services to run; all by default.

    Raises:
        AlreadyRunning: another supervisor holds the folder.
        ProgramMissing: a server program is not installed.
    """
    folder = folder.resolve()
    with hold(folder):
        folder.chmod(0o700)
        ports = prepare(folder)
        services = tuple(one for one in embedded_services(folder, ports) if only is None or one.name in only)
        supervisor = Supervisor(place_of(folder, ports), services)
        with stopping_on_signals(supervisor):
            supervisor.run(changed)
        # Ended well means that nothing goes on: trainers are detached, and continue at the next start.
        end_machines(folder)


def end_machines(folder: Path) -> int:
    """End every trainer this folder runs on this machine, those of simulated clouds too; return how many."""
    settings = load_settings(folder) if (folder / FILE_NAME).exists() else Settings()
    simulated = {name: one for name, one in settings.providers.items() if one.kind == "simulated"}
    here = settings.model_copy(update={"providers": simulated})
    found = [(one, machine) for one in each_apart(folder, here)[0].values() for machine in one.list_ours()]
    for provider, machine in found:
        provider.terminate(machine.machine)
    return len(found)


def prepare(folder: Path) -> Ports:
    """Make the folder's ports, secrets and settings, keeping what is there."""
    ports = choose_ports(folder)
    credentials.store_keys(folder)
    password = credentials.add_broker_user(folder, credentials.CLOUD_USER)
    known = load_settings(folder) if (folder / FILE_NAME).exists() else Settings()
    wanted = with_embedded(known, ports, password.relative_to(folder))
    if wanted != known or not (folder / FILE_NAME).exists():
        write_settings(folder, wanted)
    (folder / wanted.labels.folder).mkdir(parents=True, exist_ok=True)
    return ports


def with_embedded(settings: Settings, ports: Ports, broker_password: Path) -> Settings:
    """Return the settings with the addresses of the embedded services, all else as it was."""
    store = settings.store.model_copy(
        update={
            "endpoint": f"{HOST}:{ports.store}",
            "secure": False,
            "bucket": BUCKET,
            "credentials_file": Path("secrets/store.json"),
        }
    )
    releases, prefect = f"http://{HOST}:{ports.releases}/", f"http://{HOST}:{ports.prefect}/api"
    broker = BrokerSettings(
        host=HOST, port=ports.broker, username=credentials.CLOUD_USER, password_file=broker_password
    )
    return settings.model_copy(
        update={
            "store": store,
            "broker": broker,
            "releases": settings.releases.model_copy(update={"public_url": releases}),
            "prefect": settings.prefect.model_copy(update={"api_url": prefect}),
        }
    )


def place_of(folder: Path, ports: Ports) -> Place:
    """Return where the services run and what others are told about it."""
    urls = {
        "store": f"http://{HOST}:{ports.store}",
        "releases": f"http://{HOST}:{ports.releases}/",
        "broker": f"mqtt://{HOST}:{ports.broker}",
        "prefect": f"http://{HOST}:{ports.prefect}",
    }
    return Place(folder=folder, env=child_environment(folder, ports), ports=asdict(ports), urls=urls)


def add_device(folder: Path, device_id: str) -> Path:
    """Give a device a password at the embedded broker, have it learn it, and return the password's file.

    Raises:
        UpError: the name could not be a device id.
        NotRunning: no supervisor runs; the password is kept, and the broker learns it at the next start.
    """
    path = credentials.add_broker_user(folder, device_id)
    broker = running_state(folder).services.get("broker")
    if broker is not None and broker.pid and _is_mosquitto(broker.pid):
        processes.end(processes.ProcessName(broker.pid, broker.start_ticks), signal.SIGHUP)
    return path


def _is_mosquitto(pid: int) -> bool:
    # Asked of the process, not of the disk: Mosquitto may have been installed since the broker started.
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip() == "mosquitto"
    except OSError:
        return False


def folder_from_environment() -> Path | None:
    """Return the folder that the services' environment names, or None outside of it."""
    named = os.environ.get("WHETSTONE_FOLDER", "")
    return Path(named) if named else None
