"""Lay runs of different ages into an installation, as trainer, flow and gate leave them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from fleet_contracts import encode, keys
from fleet_contracts.judging import GateFinding, GateReport
from fleet_contracts.samples import ClassList, ClassRule, DecisionRules
from fleet_contracts.training import (
    DataFlow,
    EpochMetrics,
    GpuOffer,
    Lease,
    Prediction,
    RunEvent,
    RunRecord,
    StartWeights,
    TrainPlan,
    TrainStage,
    VramEstimate,
)
from flows.context import Context
from flows.database.schema import CandidateRow, LeaseRow, RunRow
from flows.tracking.story import Ledger, Story
from tests.flows.kit import CLASSES, TASK

BEGAN = datetime(2026, 11, 21, 8, 0, tzinfo=timezone.utc)
NEW, OLD, FAILED = "run-00aa11bb22cc33dd", "run-00ff11bb22cc33dd", "run-99aa11bb22cc33dd"
SNAPSHOT = "5" * 64
GIB = 1 << 30
T4 = GpuOffer(provider="cloud-a", offer_id="t4-1", gpu="T4", gpu_count=1, gpu_memory_mib=15360,
              on_demand_price=0.5, spot_price=0.2, priced_at=BEGAN)  # fmt: skip
FITS = VramEstimate(terms={"weights": GIB, "activations": 4 * GIB}, peak_bytes=5 * GIB, moment="backward")


def plan(run_id: str = NEW, **changes: object) -> TrainPlan:
    """Return a plan of this version: six epochs in two stages on a T4."""
    made = TrainPlan(
        task_id=TASK, run_id=run_id, snapshot_id=SNAPSHOT, start=StartWeights(kind="champion", sha256="b" * 64, key="k"),
        class_list=ClassList(task_id=TASK, version=1, names=CLASSES), recipe="progressive",
        stages=(TrainStage(image_size=160, epochs=2, batch=32), TrainStage(image_size=320, epochs=4, batch=16, vram=FITS)),
        offer=T4, price_cap=5.0, vram=FITS, predicted=Prediction(seconds=900.0, images_per_second=100.0, cost=0.125),
    )  # fmt: skip
    return made.model_copy(update=changes)


def record(run_id: str = NEW, **changes: object) -> RunRecord:
    """Return a record of this version: six epochs, a rung at the fourth, a resume, a diagnosis."""
    epochs = tuple(
        EpochMetrics(
            epoch=number, seconds=100.0, images_per_second=90.0 + number, learning_rate=0.001 / number,
            losses={"box_loss": 2.0 / number, "cls_loss": 1.0 / number}, val={"box": 2.5 / number},
            peak_memory_bytes=(4 * GIB if number < 4 else 3 * GIB), data_wait_share=0.1, utilisation=0.8,
        )
        for number in range(1, 7)
    )  # fmt: skip
    rung = {
        "rung": "batch",
        "reason": "out of memory in backward",
        "changed": {"batch": [16, 8], "accumulation": [1, 2]},
    }
    made = RunRecord(
        task_id=TASK, run_id=run_id, snapshot_id=SNAPSHOT, state="finished", seed=0, versions={"torch": "2.15.0"},
        device="Tesla T4", started_at=BEGAN, ended_at=BEGAN + timedelta(minutes=12), epochs=epochs,
        rungs=(event(4, "rung", run_id, rung),), resumes=(event(4, "resumed", run_id, {}),),
        watch=(event(2, "watch", run_id, {"kind": "loader", "why": "waits for data 40 % of the time"}),),
        data_flow=DataFlow(cached_bytes=750, fetched_bytes=250),
    )  # fmt: skip
    return made.model_copy(update=changes)


def old_record(run_id: str = OLD) -> RunRecord:
    """Return a record as the first version wrote it: on a processor, nothing measured but losses and speed."""
    epochs = tuple(
        EpochMetrics(
            epoch=number, seconds=10.0, images_per_second=8.0, learning_rate=0.001, losses={"box_loss": 3.0}
        )
        for number in (1, 2)
    )
    return RunRecord(
        task_id=TASK, run_id=run_id, snapshot_id=SNAPSHOT, state="finished", seed=0, versions={}, device="cpu",
        started_at=BEGAN - timedelta(days=1), epochs=epochs,
    )  # fmt: skip


def event(epoch: int, kind: str, run_id: str = NEW, data: dict[str, object] | None = None) -> RunEvent:
    """Return an event of a run; its number is its epoch's."""
    return RunEvent.model_validate({
        "task_id": TASK, "run_id": run_id, "number": epoch, "at": BEGAN + timedelta(seconds=100 * epoch),
        "kind": kind, "epoch": epoch, "data": data or {},
    })  # fmt: skip


def epoch_events(found: RunRecord) -> list[RunEvent]:
    """Return the events by which the epochs of a record were told."""
    return [
        event(one.epoch, "epoch", found.run_id, one.model_dump(exclude={"epoch"})) for one in found.epochs
    ]


def gate(run_id: str = NEW, *, promoted: bool = True) -> GateReport:
    """Return a verdict."""
    finding = GateFinding(rule="escapes", passed=promoted, expected="at most 5", got="3" if promoted else "9")
    return GateReport(
        task_id=TASK, candidate_id=run_id, candidate_model="a" * 64, champion_model=None, snapshot_id=SNAPSHOT,
        findings=(finding,), promoted=promoted, judged_at=BEGAN + timedelta(minutes=15),
        decision_rules=DecisionRules(classes=tuple(ClassRule(name=name, reject_at=0.5, unsure_at=0.3) for name in CLASSES)),
        measures={
            "candidate.val_map50": 0.75 if promoted else 0.5,
            "candidate.slice_loss[board=b-1]": 0.01 if promoted else 0.2,
        },
    )  # fmt: skip


def lease(run_id: str = NEW, **changes: object) -> Lease:
    """Return a lease of half an hour on the T4, as a first version wrote it."""
    made = Lease(task_id=TASK, lease_id=f"lease-{run_id}", run_id=run_id, provider="cloud-a", offer=T4, price_cap=5.0,
                 deadline=BEGAN + timedelta(hours=6), state="ended", machine="m-1", recorded_at=BEGAN,
                 ended_at=BEGAN + timedelta(minutes=30))  # fmt: skip
    return made.model_copy(update=changes)


def story(**changes: object) -> Story:
    """Return the whole story of the new run."""
    ledger = Ledger(
        "finished", "release 2", SNAPSHOT, 1, BEGAN, BEGAN + timedelta(minutes=40), release_version=2
    )
    parts = {
        "plan": plan(),
        "record": record(),
        "gate": gate(),
        "ledger": ledger,
        "leases": (lease(),),
        **changes,
    }
    return Story(TASK, NEW, **parts)  # type: ignore[arg-type]


def seed(ctx: Context) -> None:
    """Lay three runs down: one of this version, one of the first, one that failed before it trained."""
    put(ctx, keys.run(TASK, NEW, "plan.json"), encode(plan()))
    put(ctx, keys.run(TASK, NEW, "run.json"), encode(record()))
    put(ctx, keys.candidate(TASK, NEW, "gate.json"), encode(gate()))
    old = plan(
        OLD, offer=None, vram=None, predicted=None, stages=(TrainStage(image_size=320, epochs=2, batch=16),)
    )
    put(ctx, keys.run(TASK, OLD, "plan.json"), encode(old))
    put(ctx, keys.run(TASK, OLD, "run.json"), encode(old_record()))
    put(ctx, keys.candidate(TASK, OLD, "gate.json"), encode(gate(OLD, promoted=False)))
    with ctx.database.session() as session:
        session.add(_row(NEW, "finished", "release 2", BEGAN))
        session.add(_row(OLD, "refused", "escapes: expected at most 5, got 9", BEGAN - timedelta(days=1)))
        session.add(_row(FAILED, "failed", "TrainingFailed: out of luck", BEGAN - timedelta(days=2)))
        values = lease().model_dump(include={column.name for column in LeaseRow.__table__.columns})
        session.add(LeaseRow(**{**values, "offer": T4.model_dump(mode="json")}))
        session.add(CandidateRow(
            candidate_id=NEW, task_id=TASK, run_id=NEW, model_id="a" * 64, state="promoted", channel="stable",
            release_version=2, collected_at=BEGAN,
        ))  # fmt: skip


def put(ctx: Context, key: str, content: bytes) -> None:
    """Lay an object down."""
    ctx.store.put(key, content)


def _row(run_id: str, state: str, reason: str, began: datetime) -> RunRow:
    return RunRow(
        run_id=run_id, task_id=TASK, snapshot_id=SNAPSHOT, start_kind="champion", start_sha256="b" * 64, recipe={},
        state=state, attempts=1, flow_run="", reason=reason, started_at=began, touched_at=began,
        ended_at=began + timedelta(minutes=40),
    )  # fmt: skip
