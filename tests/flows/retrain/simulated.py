"""Play what a retraining meets: a trainer that delivers, fails or dies, and a store on which the flow dies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from detection.model_file import read_model
from fleet_contracts import decode, encode, keys, sha256_of, utc_now
from fleet_contracts.judging import Candidate, ParityReport
from fleet_contracts.releases import Lineage
from fleet_contracts.training import GpuOffer, Lease, RunEvent, TrainPlan, TrainTicket
from flows.champion import Entry, OriginFiles, Promotion, register_origin, set_champion
from flows.classes import current_class_list
from flows.context import Context
from flows.database.schema import ChampionRow
from flows.founding import found_task
from flows.gpus.base import MachineStatus
from flows.gpus.memory import MemoryProvider
from flows.releases.build import ReleasePlan, build_release
from flows.retrain import promotion, runs, steps
from flows.retrain.first import _default_rules
from flows.settings import DecisionSettings, TaskSettings
from flows.store import MemoryStore
from tests.detection.onnx_models import TinyModel, save
from tests.flows.kit import CLASSES, TASK
from trainer.gate.settings import GateSettings

LENIENT = GateSettings(
    min_val_images=1, require_golden=False, max_latency_ratio=100.0, latency_slack_ms=1000.0
)
SETTINGS = TaskSettings(trigger_threshold=5, gate=LENIENT)
GOOD = TinyModel(rows=((25.6, 27.7, 38.4, 36.3, 0.9, 0),), class_names=CLASSES)
"""Finds class 0 where `kit.box_label` puts it in a `kit.picture`."""
BLIND = TinyModel(rows=((0.0, 0.0, 5.0, 5.0, 0.9, 1),), class_names=CLASSES)
"""Finds nothing that is there."""
OFFER = GpuOffer(
    provider="memory", offer_id="a", gpu="none", gpu_count=0, gpu_memory_mib=0, on_demand_price=0.0,
    priced_at=utc_now(),
)  # fmt: skip


class KilledHere(BaseException):
    """Be the SIGKILL of a flow: no handler catches it."""


class DeadlyStore(MemoryStore):
    """Die after so many writes, so that everything before the death is kept and nothing after it happens."""

    def __init__(self) -> None:
        super().__init__()
        self.writes_left: int | None = None
        self.died = 0

    def put(self, key: str, data: bytes) -> None:
        """Write, then die if it is time."""
        super().put(key, data)
        if self.writes_left is not None:
            self.writes_left -= 1
            if self.writes_left <= 0:
                self.died += 1
                raise KilledHere(key)


class SimulatedTrainer(MemoryProvider):
    """Be a provider whose machines work at once: they read the ticket and put what a trainer would."""

    def __init__(self, ctx: Context, folder: Path, *, model: TinyModel = GOOD) -> None:
        super().__init__(OFFER)
        self._ctx = ctx
        self._store: MemoryStore = ctx.store  # type: ignore[assignment]  # tests have no other
        self._folder = folder
        self._model = model
        self.deaths = 0
        """Machines that die without a word before one works."""
        self.failures = 0
        """Machines that give up before one works."""
        self.change: Callable[[Candidate], Candidate] = lambda candidate: candidate

    def launch(self, lease: Lease, ticket: Path) -> str:
        """Start a machine and do its work, or not."""
        known = len(self.launches)
        machine = super().launch(lease, ticket)
        if len(self.launches) > known:
            self._work(decode(TrainTicket, ticket.read_bytes(), where="ticket"))
            self.states[machine] = MachineStatus("ended")
        return machine

    def _work(self, ticket: TrainTicket) -> None:
        task_id, run_id = ticket.task_id, ticket.run_id
        if self.deaths > 0:
            self.deaths -= 1
            return
        if self.failures > 0:
            self.failures -= 1
            event = RunEvent(
                task_id=task_id, run_id=run_id, number=0, at=utc_now(), kind="failed", data={"error": "out of luck"}
            )
            self._put(keys.run(task_id, run_id, "failure.json"), encode(event))
            return
        plan_key = keys.run(task_id, run_id, "plan.json")
        plan = decode(TrainPlan, self._store.get(plan_key), where=plan_key)
        for number, kind in enumerate(("started", "epoch", "finished")):
            event = RunEvent(task_id=task_id, run_id=run_id, number=number, at=utc_now(), kind=kind, epoch=1)
            self._put(keys.run_event(task_id, run_id, number), encode(event))
        self._deliver(plan)

    def _deliver(self, plan: TrainPlan) -> None:
        onnx = save(self._model, self._folder / "trained.onnx")
        weights = b"trained weights of " + plan.run_id.encode()
        model = read_model(onnx)
        candidate = Candidate(
            task_id=plan.task_id,
            candidate_id=plan.run_id,
            run_id=plan.run_id,
            snapshot_id=plan.snapshot_id,
            model_id=sha256_of(onnx.read_bytes()),
            onnx_bytes=onnx.stat().st_size,
            weights_sha256=sha256_of(weights),
            weights_bytes=len(weights),
            input_spec=model.spec,
            class_list=plan.class_list,
            parity=ParityReport(images=1, compared=1, unmatched=0, max_box_error_px=0.0, max_score_error=0.0),
            start_sha256=plan.start.sha256,
            created_at=utc_now(),
        )
        for name, content in (("model.onnx", onnx.read_bytes()), ("weights.pt", weights)):
            self._put(keys.run(plan.task_id, plan.run_id, name), content)
        result = encode(self.change(candidate))
        self._put(keys.run(plan.task_id, plan.run_id, "result.json"), result)

    def _put(self, key: str, content: bytes) -> None:
        # The trainer is another process: the flow's death is not its own.
        MemoryStore.put(self._store, key, content)


def with_champion(ctx: Context, folder: Path, model: TinyModel = GOOD) -> Context:
    """Give the installation's task a release channel, an origin, release 1 and thereby a champion."""
    ctx = found_task(ctx, TASK, CLASSES, ctx.settings.task(TASK).model_copy(update={"gate": LENIENT, "devices": ()}))
    weights = folder / "origin.pt"
    weights.write_bytes(b"origin weights")
    onnx = save(TinyModel(rows=model.rows, class_names=CLASSES, features=3), folder / "origin.onnx")
    origin = register_origin(ctx, TASK, OriginFiles(weights, onnx), Entry("AGPL-3.0", "a test", "test"))
    names = current_class_list(ctx, TASK)
    plan = ReleasePlan(1, "stable", names, _default_rules(names, DecisionSettings()), Lineage(kind="origin"), utc_now())
    release, files = build_release(plan, onnx, (), lambda _: b"")
    promotion.repository(ctx).publish(release, files)
    set_champion(
        ctx, TASK,
        Promotion(1, origin.model_id, origin.onnx_key, origin.weights_key, origin.weights_sha256,
                  origin.weights_bytes, 1, "first release"),
    )  # fmt: skip
    return ctx


@dataclass
class Outcome:
    """Hold what one attempt of a flow came to."""

    run: str = ""
    state: str = ""
    champion: ChampionRow | None = None
    events: list[RunEvent] = field(default_factory=list)


def attempt(ctx: Context, trainer: MemoryProvider, *, force: bool = False) -> Outcome:
    """Do what the flow does, without Prefect around it."""
    outcome = Outcome()
    with runs.alone(ctx, TASK):
        begun = steps.begin(ctx, TASK, force=force)
        if begun.run is None:
            return Outcome(state=begun.reason)
        runs.take_run(ctx, begun.run.run_id, "test")
        outcome.run = begun.run.run_id
        plan = steps.prepare(ctx, begun.run, trainer)
        steps.train(ctx, plan, outcome.events.append, trainer)
        collected, gate = steps.judge(ctx, plan)
        if not gate.promoted:
            outcome.state = runs.close_run(ctx, plan.run_id, "refused", promotion.failed_rules(gate)).state
            return outcome
        made, rollout = steps.release(ctx, plan, collected, gate)
        outcome.champion = steps.conclude(ctx, gate, made, rollout)
        end = "finished" if outcome.champion else "refused"
        outcome.state = runs.close_run(ctx, plan.run_id, end, f"release {made.version}").state
    return outcome
