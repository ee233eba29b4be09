"""Set the stations up: services, task, signing keys, old data, the first release, the boxes' addresses.

Every step looks first whether it was done, so that a demo that was killed begins here again and changes
nothing that stands.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from demo.errors import StationStuck
from demo.loop.floor import BoxAddresses, Keeper
from flows.champion import Entry, champion
from flows.context import Context, open_context
from flows.files import write_file
from flows.founding import found_task
from flows.labels.dataset import ImportItem
from flows.labels.importing import ImportPolicy, import_dataset
from flows.releases.repository import ReleaseRepository
from flows.retrain.first import first_release
from flows.settings import TaskSettings
from flows.up import processes
from flows.up.embedded import add_device
from flows.up.readiness import always
from flows.up.services import Service
from flows.up.state import is_held, read_state

UP_SECONDS = 300.0
_POLL = 0.3


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """Say what task to set up, with which old data, and from which weights it begins."""

    task_id: str
    class_names: tuple[str, ...]
    settings: TaskSettings
    old_data: Sequence[ImportItem]
    weights: Path
    entry: Entry
    overrule: str = ""
    """Why the first release is made though the gate would refuse it; empty lets the gate decide."""


@contextmanager
def running_services(folder: Path, environment: Mapping[str, str] | None = None) -> Iterator[Context]:
    """Run `whetstone up` on a folder as a process of its own, kept alive until the block ends.

    Args:
        folder: of the installation.
        environment: variables for the services and all they start.

    Raises:
        StationStuck: the services do not come up.
    """
    command = (sys.executable, "-m", "flows.up", "--folder", str(folder))
    up = Service(name="up", command=command, probe=always, env=dict(environment or {}))
    with Keeper(folder / "demo" / "keeper", (up,)):
        deadline = time.monotonic() + UP_SECONDS
        while not _is_ready(folder):
            if time.monotonic() > deadline:
                raise StationStuck(
                    expected=f"services within {UP_SECONDS:.0f} s",
                    got=_waiting_for(folder),
                    where=str(folder),
                    now="Read logs/ in that folder.",
                )
            time.sleep(_POLL)
        with open_context(folder) as ctx:
            yield ctx


def prepare_task(ctx: Context, spec: TaskSpec, tell: Callable[[str], None]) -> Context:
    """Set up a task up to its first release, and return the context that knows it; `tell` hears each step.

    Raises:
        StationStuck: old data were refused.
        CannotStart: the gate refused the first release.
    """
    # (1) the task with its first class list, signing keys and channel
    ctx = found_task(ctx, spec.task_id, spec.class_names, spec.settings, by="demo")
    # (2) old data, for replay and for the question of forgetting
    if champion(ctx, spec.task_id) is None:
        tell(f"task {spec.task_id}: importing {len(spec.old_data)} old images for replay and the golden set")
        report = import_dataset(ctx, spec.task_id, spec.old_data, ImportPolicy(spec.class_names))
        if report.refused:
            raise StationStuck(
                expected="old data without a fault",
                got="; ".join(report.refused[:10]),
                where=spec.task_id,
                now="Correct these files.",
            )
        # (3) the first release, from weights somebody enters
        tell(f"task {spec.task_id}: exporting, judging and signing the first release")
        first_release(ctx, spec.task_id, spec.weights, spec.entry, overrule=spec.overrule)
    return ctx


def box_addresses(ctx: Context, devices: Sequence[str]) -> BoxAddresses:
    """Give every device its broker password and the root of trust; return where boxes reach everything."""
    passwords = {device: add_device(ctx.folder, device) for device in devices}
    root_file = ctx.folder / "demo" / "root.json"
    write_file(root_file, _repository(ctx).trusted_root())
    settings = ctx.settings
    return BoxAddresses(
        broker_host=settings.broker.host,
        broker_port=settings.broker.port,
        password_files=passwords,
        releases_url=settings.releases.public_url,
        root_file=root_file,
    )


def _repository(ctx: Context) -> ReleaseRepository:
    return ReleaseRepository(ctx.store, ctx.path(ctx.settings.releases.keys_folder))


def _is_ready(folder: Path) -> bool:
    state = read_state(folder)
    if state is None or not state.ready or not is_held(folder):
        return False
    # A supervisor that was killed leaves its state behind; only the living one's counts.
    return processes.is_alive(processes.ProcessName(state.pid, state.start_ticks))


def _waiting_for(folder: Path) -> str:
    state = read_state(folder)
    if state is None:
        return "no supervisor"
    return ", ".join(f"{name} {service.state}" for name, service in state.services.items())
