"""Look for the seller's token and the store's secret in everything that a whole rented run leaves behind.

The store, the seller's HTTP API and the lease database are real or real servers; the machine's part is played
by the test between two looks of the flow: it claims its ticket as the start line says, uploads, and ends.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
import urllib3

from fleet_contracts import decode, encode, keys, utc_now
from fleet_contracts.training import RunEvent, TrainPlan, TrainTicket
from flows.context import Context
from flows.gpus.autodl.account import Pace
from flows.gpus.autodl.command import environment_in
from flows.gpus.autodl.pro import AutodlProProvider
from flows.gpus.autodl.simulator import AutodlSimulator
from flows.gpus.leases import LeaseBook
from flows.gpus.memory import MemoryProvider
from flows.gpus.providers import each_apart
from flows.gpus.reaper import reap
from flows.gpus.starting import CLAIM
from flows.retrain import runs, steps, tickets, training
from flows.settings import write_settings
from flows.store import MemoryStore
from flows.store.base import ObjectStore
from tests.flows.gpus.autodl.rigs import TOKEN, commands_in, pro_section
from tests.flows.gpus.contract import INSTALLATION
from tests.flows.kit import TASK, make_installation, sent_and_labelled
from tests.flows.retrain.simulated import OFFER, SETTINGS, with_champion
from tests.flows.store.servers import CREDENTIALS, rclone_store

RENEWED = "renewed-t0ken-nobody-may-see"
SECRETS = (TOKEN, RENEWED, CREDENTIALS.secret_key)


@dataclass
class Plant:
    """Hold an installation that rents from a simulated account."""

    ctx: Context
    simulator: AutodlSimulator
    provider: AutodlProProvider
    plan: TrainPlan
    book: LeaseBook
    seen_processes: list[str] = field(default_factory=list)

    @property
    def token_file(self) -> Path:
        """Return where the token is kept."""
        return self.ctx.folder / "secrets" / "autodl.token"

    def follow(self) -> None:
        """Do as a flow does until the run's result is there."""
        inputs = tickets.Inputs((), runs.start_with(self.ctx, TASK, self.plan.start.sha256))
        ground = training.Ground({self.provider.name: self.provider}, self.book, lambda _: None)
        training.Training(self.ctx, self.plan, inputs, ground).wait()

    def machine_uploads(self, name: str, content: bytes) -> None:
        """Play the machine: claim the ticket with what its start line holds, and upload."""
        (command,) = commands_in(self.simulator)
        claimed = urllib3.request("GET", environment_in(command)[CLAIM])
        assert claimed.status == 200
        ticket = decode(TrainTicket, claimed.data, where="claim")
        assert urllib3.request("PUT", ticket.put_urls[name], body=content).status == 200

    def machine_tells(self, number: int, kind: str) -> None:
        """Have the machine upload one event."""
        event = RunEvent(
            task_id=TASK, run_id=self.plan.run_id, number=number, at=utc_now(), kind=kind, epoch=number
        )
        self.machine_uploads(keys.event_name(number), encode(event))


def plant_of(folder: Path, simulator: AutodlSimulator, store: ObjectStore) -> Plant:
    """Return an installation with a run that is planned for the seller's machine."""
    made = make_installation(folder / "installation", store=store, task=SETTINGS)
    ctx = with_champion(made, folder)
    sent_and_labelled(ctx, 24)
    section = pro_section(simulator, token="file:secrets/autodl.token")
    settings = ctx.settings.model_copy(
        update={"installation": INSTALLATION, "providers": {"autodl": section}}
    )
    write_settings(ctx.folder, settings)
    ctx = ctx.reread()
    token = ctx.folder / "secrets" / "autodl.token"
    token.parent.mkdir(exist_ok=True)
    token.write_text(TOKEN)
    token.chmod(0o600)
    provider = each_apart(ctx.folder, ctx.settings)[0]["autodl"]
    assert isinstance(provider, AutodlProProvider)
    provider._pace = Pace(patience=2.0, poll=0.01, now=simulator.clock)
    run = steps.begin(ctx, TASK).run
    assert run is not None
    plan = steps.prepare(ctx, run, MemoryProvider(OFFER))
    plan = plan.model_copy(update={"offer": provider.offers()[0], "deadline": utc_now() + timedelta(hours=3)})
    ctx.store.put(keys.run(TASK, plan.run_id, "plan.json"), encode(plan))
    return Plant(ctx, simulator, provider, plan, LeaseBook(ctx.database, simulator.clock))


def between_looks(monkeypatch: pytest.MonkeyPatch, acts: list[Callable[[], None]]) -> None:
    """Let no time pass in the flow, and do one act at each of its pauses."""
    naps = iter(range(500))

    def nap(_: float) -> None:
        assert next(naps) < 400, "it would wait for ever"
        if acts:
            acts.pop(0)()

    monkeypatch.setattr(training, "time", SimpleNamespace(sleep=nap, monotonic=time.monotonic))
    monkeypatch.setattr(training, "ASK_SECONDS", 0.0)
    monkeypatch.setattr(training, "ENDING_SECONDS", 0.0)
    monkeypatch.setattr(training, "REVIEW_SECONDS", 0.0)


@pytest.fixture
def simulator() -> Iterator[AutodlSimulator]:
    """Return a running account."""
    with AutodlSimulator(TOKEN) as running:
        yield running


def argv_of_all() -> str:
    """Return the command line of every process, without the test's own store server, which has no other way."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it ended meanwhile
            continue
        if "rclone serve s3" not in line:
            lines.append(line)
    return "\n".join(lines)


def test_a_run_leaves_no_secret_behind(
    tmp_path: Path,
    simulator: AutodlSimulator,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Logs at DEBUG, files, database, documents, command lines, the seller's records: the token is in one header.

    On its way the run meets a busy seller, garbage, silence, and a token that is revoked and renewed.
    """
    caplog.set_level(logging.DEBUG)
    with rclone_store(tmp_path / "store") as store:
        plant = plant_of(tmp_path, simulator, store)
        argv: list[str] = []
        acts: list[Callable[[], None]] = [
            lambda: plant.machine_tells(0, "started"),
            lambda: simulator.arm("rate-limit"),
            lambda: simulator.arm("garbage"),
            lambda: simulator.arm("silence"),
            lambda: (simulator.calm(), setattr(simulator, "token", RENEWED)),
            lambda: plant.machine_tells(1, "epoch"),
            lambda: argv.append(argv_of_all()),
            lambda: plant.token_file.write_text(RENEWED),
            lambda: plant.machine_tells(2, "finished"),
            lambda: plant.machine_uploads("result.json", b"{}"),
        ]
        between_looks(monkeypatch, acts)
        plant.follow()
        assert acts == []
        assert simulator.machines == [], "the machine was given back with the renewed token"
        documents = b"\n".join(store.get(info.key) for info in store.list(""))
    assert {"rate-limit", "garbage", "silence", "wrong-token"} <= set(simulator.weather.fired)
    # what the run left, place by place
    left = {
        "logs": caplog.text,
        "documents in the bucket": documents.decode("latin1"),
        "command lines": "\n".join(argv),
        "the seller's log": repr(simulator.seen),
        "start lines": "\n".join(commands_in(simulator)),
    }
    for path in (tmp_path / "installation").rglob("*"):
        if path.is_file() and path != plant.token_file:
            left[str(path.relative_to(tmp_path))] = path.read_bytes().decode("latin1")
    assert {name for name in left if name.endswith(("whetstone.db", "whetstone.toml", ".ticket.json"))}
    found = [(name, secret) for name, text in left.items() for secret in SECRETS if secret in text]
    assert found == []
    # only the header that authorises held it
    assert {one.authorization for one in simulator.seen} == {TOKEN, RENEWED}


def test_revoked_token_does_not_end_a_run_that_works(
    tmp_path: Path,
    simulator: AutodlSimulator,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The run comes to its result; the machine nobody may end is left to the reaper, and ended when one may."""
    caplog.set_level(logging.WARNING)
    plant = plant_of(tmp_path, simulator, MemoryStore())
    store = plant.ctx.store

    def upload(name: str, content: bytes) -> None:
        store.put(keys.run(TASK, plant.plan.run_id, name), content)

    def tell(number: int, kind: str) -> None:
        event = RunEvent(
            task_id=TASK, run_id=plant.plan.run_id, number=number, at=utc_now(), kind=kind, epoch=number
        )
        store.put(keys.run_event(TASK, plant.plan.run_id, number), encode(event))

    acts: list[Callable[[], None]] = [
        lambda: tell(0, "started"),
        lambda: setattr(simulator, "token", RENEWED),
        lambda: tell(1, "epoch"),
        lambda: tell(2, "finished"),
        lambda: upload("result.json", b"{}"),
    ]
    between_looks(monkeypatch, acts)
    plant.follow()
    assert acts == []
    (lease,) = plant.book.live(run_id=plant.plan.run_id)
    assert [one.costs for one in simulator.machines] == [True], "nobody could end it yet"
    assert "machine_left_to_reaper" in caplog.text
    runs.close_run(plant.ctx, plant.plan.run_id, "finished", "test")
    assert reap(plant.book, [plant.provider]) == ()
    plant.token_file.write_text(RENEWED)
    assert [(one.machine, one.reason) for one in reap(plant.book, [plant.provider])] == [
        (lease.machine, "its run is closed")
    ]
    assert simulator.machines == []
    assert json.loads(plant.ctx.store.get(keys.run(TASK, plant.plan.run_id, "plan.json")))["run_id"]
    assert replace(plant).book.live() == ()
