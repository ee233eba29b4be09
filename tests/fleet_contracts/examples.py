"""Build one full example of every wire document; `python -m tests.fleet_contracts.examples` writes golden files.

Golden files are what earlier versions wrote, so an existing one is never overwritten: a new document
or schema version gets a new file.
"""

from __future__ import annotations

import sys
from datetime import datetime, timezone
from pathlib import Path

from fleet_contracts import encode
from fleet_contracts.base import Value
from fleet_contracts.judging import (
    Candidate,
    GateFinding,
    GateReport,
    InputSpec,
    Latency,
    ModelVariant,
    ParityReport,
    TriggerDecision,
    VariantVerdict,
)
from fleet_contracts.messages import (
    Announcement,
    CaptureCommand,
    CommandAnswer,
    Grant,
    GrantedUpload,
    GrantItem,
    GrantRequest,
    OrderRequest,
    Receipt,
    ReceiptItem,
)
from fleet_contracts.releases import (
    Artifact,
    ChannelPolicy,
    DeviceReport,
    Lineage,
    Probe,
    Quarantine,
    Release,
    Rollout,
    RolloutOrder,
    SwapReport,
    Vitals,
)
from fleet_contracts.samples import (
    BoxLabel,
    ClassList,
    ClassRule,
    DecisionRules,
    DetectedBox,
    HardExample,
    ImageInfo,
    LabelRecord,
    Reason,
    Region,
    Sighting,
)
from fleet_contracts.training import (
    Considered,
    DataFlow,
    EpochMetrics,
    GpuOffer,
    Lease,
    MemoryPolicy,
    Prediction,
    RunEvent,
    RunRecord,
    SnapshotHeader,
    SnapshotMember,
    StartWeights,
    TicketObject,
    Tracking,
    TrainPlan,
    TrainStage,
    TrainTicket,
    VramEstimate,
)

GOLDEN = Path(__file__).parent / "golden"
T = "pcb"
A, B, C = "a" * 64, "b" * 64, "c" * 64
RUN = "run-0123456789abcdef"
NOON = datetime(2026, 11, 21, 12, 0, 0, 250000, tzinfo=timezone.utc)

CLASSES = ClassList(task_id=T, version=2, names=("scratch", "missing", "stain"))
BOX = DetectedBox(class_id=1, confidence=0.25, x1=1.5, y1=2.0, x2=30.0, y2=40.25)
RULES = DecisionRules(
    classes=tuple(ClassRule(name=name, reject_at=0.5, unsure_at=0.2) for name in CLASSES.names)
)
REGIONS = (
    Region(name="board", polygon=((0.1, 0.1), (0.9, 0.1), (0.9, 0.8)), camera="cam-1"),
    Region(name="clamp", polygon=((0.0, 0.0), (0.25, 0.0), (0.25, 0.25), (0.0, 0.25)), kind="exclude"),
)
SPEC = InputSpec(width=320, height=320, head="dense")
EARLY_HEAD = InputSpec(width=640, height=384, head="dfl", strides=(8, 16, 32))
OFFER = GpuOffer(provider="local", offer_id="cpu", gpu="none", gpu_count=0, gpu_memory_mib=0,
                 on_demand_price=0.0, price_source="owner", priced_at=NOON)  # fmt: skip
FILE = Artifact(path="model.onnx", sha256=A, size_bytes=5_000_000)
FITS = VramEstimate(terms={"weights": 10, "activations": 20}, peak_bytes=30, moment="backward", confirmed=True,
                    calibration="vram-t4.json")


def examples() -> dict[str, Value]:
    """Return a full document of every kind, by the name of its golden file."""
    return {**_sample_documents(), **_training_documents(), **_release_documents(), **_messages()}


def _sample_documents() -> dict[str, Value]:
    sighting = Sighting(device_id="box-1", camera="cam-1", captured_at=NOON, part_id="P0001", frame_in_part=2)
    return {
        "hard_example.v1": HardExample(
            task_id=T, sample_id=A, image=ImageInfo(width=640, height=480, size_bytes=90_000),
            sightings=(sighting,), model_id=B, release_version=3, detections=(BOX,), decision="unsure",
            reasons=(Reason(rule="uncertain-score", score=0.5, detail="0.25 in [0.1, 0.5]"),),
            keep_until=NOON, slices={"board": "50600"},
        ),
        "label_record.v1": LabelRecord(
            task_id=T, sample_id=A, revision=1, class_list_version=2, verified=True, source="human",
            boxes=(BoxLabel(class_id=2, cx=0.5, cy=0.25, width=0.1, height=0.2),),
            labelled_by="ana", labelled_at=NOON,
        ),
        "class_list.v1": CLASSES,
    }  # fmt: skip


def _training_documents() -> dict[str, Value]:
    return {
        "snapshot_header.v1": SnapshotHeader(task_id=T, class_list=CLASSES, parent_snapshot=C, members=1,
                                             policy={"replay_limit": 200}),
        "snapshot_member.v1": SnapshotMember(
            sample_id=A, split="train", group_id="g1", label_revision=1, class_list_version=2, class_count=3,
            verified=True, source="human", boxes=(BoxLabel(class_id=0, cx=0.5, cy=0.5, width=0.1, height=0.1),),
            width=640, height=480, size_bytes=90_000, slices={"board": "50600"},
        ),
        "snapshot_member_of_a_camera.v1": SnapshotMember(
            sample_id=B, split="val", group_id="g2", label_revision=1, class_list_version=2, class_count=3,
            verified=True, source="human", boxes=(), width=640, height=480, size_bytes=90_000, camera="cam-1",
        ),
        "train_plan.v1": TrainPlan(
            task_id=T, run_id=RUN, snapshot_id=C, start=StartWeights(kind="champion", sha256=B, key="k", model_id=A),
            class_list=CLASSES, recipe="fine-tune", stages=(TrainStage(image_size=320, epochs=8, batch=16),),
            vram=VramEstimate(terms={"weights": 10, "activations": 20}, peak_bytes=30), offer=OFFER,
            price_cap=5.0, deadline=NOON,
        ),
        "train_ticket.v1": TrainTicket(
            task_id=T, run_id=RUN, plan_url="http://store/plan", manifest_url="http://store/manifest",
            shards=(TicketObject(name="0.tar", url="http://store/0", sha256=A, size_bytes=10),),
            start_weights=TicketObject(name="start.pt", url="http://store/s", sha256=B, size_bytes=9),
            put_urls={"run.json": "http://store/p"}, get_urls={"run.json": "http://store/g"},
            renew_url="http://store/t", expires_at=NOON,
        ),
        "run_event.v1": RunEvent(task_id=T, run_id=RUN, number=4, at=NOON, kind="epoch", epoch=3, data={"loss": 1.5}),
        "run_record.v1": RunRecord(
            task_id=T, run_id=RUN, snapshot_id=C, state="finished", seed=7, versions={"torch": "2.15.0"},
            device="cpu", started_at=NOON, ended_at=NOON, cost=0.25,
            epochs=(EpochMetrics(epoch=0, seconds=9.5, images_per_second=20.0, learning_rate=0.001,
                                 losses={"box": 1.25}),),
        ),
        "lease.v1": Lease(task_id=T, lease_id="lease-1", run_id=RUN, provider="local", offer=OFFER, price_cap=5.0,
                          deadline=NOON, state="launched", machine="pid-1", recorded_at=NOON),
        "candidate.v1": Candidate(
            task_id=T, candidate_id=RUN, run_id=RUN, snapshot_id=C, model_id=A, onnx_bytes=10, weights_sha256=B,
            weights_bytes=9, input_spec=SPEC, class_list=CLASSES, start_sha256=C, created_at=NOON,
            parity=ParityReport(images=4, compared=9, unmatched=0, max_box_error_px=0.25, max_score_error=0.001),
            latency=(Latency(device_class="cpu", provider="CPUExecutionProvider", threads=1, p50_ms=9.5,
                             p95_ms=11.0, frames=50),),
        ),
        "candidate_with_an_early_head.v1": Candidate(
            task_id=T, candidate_id=RUN, run_id=RUN, snapshot_id=C, model_id=A, onnx_bytes=10, weights_sha256=B,
            weights_bytes=9, input_spec=EARLY_HEAD, class_list=CLASSES, start_sha256=C, created_at=NOON,
            parity=ParityReport(images=4, compared=9, unmatched=0, max_box_error_px=0.25, max_score_error=0.001),
        ),
        "train_plan_that_explains_itself.v1": TrainPlan(
            task_id=T, run_id=RUN, snapshot_id=C, start=StartWeights(kind="champion", sha256=B, key="k", model_id=A),
            class_list=CLASSES, recipe="progressive", tier="full", devices=2, compile=True, deterministic=True,
            stages=(
                TrainStage(image_size=160, epochs=4, batch=32, accumulation=1, augmentation="heavy", vram=FITS),
                TrainStage(image_size=320, epochs=8, batch=16, accumulation=2, vram=FITS),
            ),
            vram=FITS, offer=OFFER, price_cap=5.0, deadline=NOON, validate_every=2, checkpoint_minutes=5.0,
            memory_policy=MemoryPolicy(smaller_images=(288, 256), smaller_models=("yolo11n.yaml",), least_batch=2),
            precisions=("fp32", "int8"), tracking=Tracking(mlflow_uri="http://mlflow", mlflow_experiment="boards"),
            predicted=Prediction(seconds=840.0, images_per_second=120.0, cost=0.25, basis="measured"),
            considered=(
                Considered(gpu="T4", gpu_count=1, provider="local", offer_id="o1", batch=16, accumulation=2,
                           peak_bytes=30, images_per_second=120.0, seconds=840.0, cost=0.25, chosen=True),
                Considered(gpu="H100", gpu_count=1, spot=True, why="$2.10 more for 9 minutes less"),
            ),
        ),
        "run_record_with_incidents.v1": RunRecord(
            task_id=T, run_id=RUN, snapshot_id=C, state="finished", seed=7, versions={"torch": "2.15.0"},
            device="NVIDIA T4", started_at=NOON, ended_at=NOON, cost=0.25, vram=FITS,
            epochs=(EpochMetrics(epoch=1, seconds=9.5, images_per_second=20.0, learning_rate=0.001,
                                 losses={"box": 1.25}, val={"val/box": 1.5}, peak_memory_bytes=29,
                                 data_wait_share=0.05, utilisation=0.75, power_watts=62.5, image_size=320, batch=8,
                                 accumulation=4, workers=2),),
            rungs=(RunEvent(task_id=T, run_id=RUN, number=5, at=NOON, kind="rung", epoch=1,
                            data={"rung": "batch", "reason": "out of memory in backward"}),),
            watch=(RunEvent(task_id=T, run_id=RUN, number=6, at=NOON, kind="watch", epoch=1,
                            data={"kind": "loader", "why": "data wait 40 %"}),),
            data_flow=DataFlow(cached_bytes=750, fetched_bytes=250, wait_seconds=1.5),
        ),
        "candidate_in_two_formats.v1": Candidate(
            task_id=T, candidate_id=RUN, run_id=RUN, snapshot_id=C, model_id=A, onnx_bytes=10, weights_sha256=B,
            weights_bytes=9, input_spec=SPEC, class_list=CLASSES, start_sha256=C, created_at=NOON,
            parity=ParityReport(images=4, compared=9, unmatched=0, max_box_error_px=0.25, max_score_error=0.001),
            variants=(ModelVariant(
                precision="int8", name="model-int8.onnx", model_id=B, onnx_bytes=3, kept_layers=("/model.23/conv",),
                parity=ParityReport(images=4, compared=9, unmatched=1, max_box_error_px=2.5, max_score_error=0.1),
            ),),
        ),
        "candidate_with_mean_parity.v1": Candidate(
            task_id=T, candidate_id=RUN, run_id=RUN, snapshot_id=C, model_id=A, onnx_bytes=5, weights_sha256=B,
            weights_bytes=6, input_spec=SPEC, class_list=CLASSES, start_sha256=B, created_at=NOON,
            parity=ParityReport(images=4, compared=9, unmatched=0, max_box_error_px=0.25, max_score_error=0.001,
                                mean_box_error_px=0.1, mean_score_error=0.0005, reference="trained weights in float32"),
        ),
        "gate_report_on_two_formats.v1": GateReport(
            task_id=T, candidate_id=RUN, candidate_model=A, champion_model=B, snapshot_id=C, promoted=True,
            findings=(GateFinding(rule="forgetting", passed=True, expected="loss <= 0.01", got="0.002"),),
            decision_rules=RULES, measures={"map50": 0.75}, judged_at=NOON,
            variants=(
                VariantVerdict(precision="int8", model_id=B, promoted=False, why="parity: 2.5 px", findings=(
                    GateFinding(rule="parity", passed=False, expected="1 px", got="2.5 px"),)),
                VariantVerdict(precision="fp32", model_id=A, promoted=True, why="the first that passes", findings=(
                    GateFinding(rule="parity", passed=True, expected="1 px", got="0.25 px"),),
                    measures={"candidate.val_map50": 0.75}),
            ),
        ),
        "gate_report.v1": GateReport(
            task_id=T, candidate_id=RUN, candidate_model=A, champion_model=B, snapshot_id=C, promoted=True,
            findings=(GateFinding(rule="forgetting", passed=True, expected="loss <= 0.01", got="0.002"),),
            decision_rules=RULES, measures={"map50": 0.75}, judged_at=NOON,
        ),
        "trigger_decision.v1": TriggerDecision(task_id=T, decided_at=NOON, asked=True, verified_new=60, threshold=50,
                                               reason="60 of 50", champion_snapshot=C),
    }  # fmt: skip


def _release_documents() -> dict[str, Value]:
    return {
        "release.v1": Release(
            task_id=T, version=2, channel="stable", model_id=A, model=FILE, input_spec=SPEC, class_list=CLASSES,
            decision_rules=RULES, probes=(Probe(artifact=FILE, sample_id=A, expected=(BOX,)),),
            lineage=Lineage(kind="run", run_id=RUN, snapshot_id=C, parent_model=B), created_at=NOON,
        ),
        "release_in_int8.v1": Release(
            task_id=T, version=4, channel="stable", model_id=A, model=FILE, input_spec=SPEC, class_list=CLASSES,
            decision_rules=RULES, probes=(Probe(artifact=FILE, sample_id=A, expected=(BOX,)),), precision="int8",
            lineage=Lineage(kind="run", run_id=RUN, snapshot_id=C, parent_model=B), created_at=NOON,
        ),
        "release_with_regions.v1": Release(
            task_id=T, version=3, channel="stable", model_id=A, model=FILE, input_spec=SPEC, class_list=CLASSES,
            decision_rules=DecisionRules(classes=RULES.classes, min_frames=2, regions=REGIONS),
            probes=(Probe(artifact=FILE, sample_id=A, expected=(BOX,)),),
            lineage=Lineage(kind="run", run_id=RUN, snapshot_id=C, parent_model=B), created_at=NOON,
        ),
        "channel_policy.v1": ChannelPolicy(task_id=T, channel="stable", allowed=(1, 2), lowest_allowed=1, latest=2),
        "rollout_order.v1": RolloutOrder(task_id=T, device_id="box-1", rollout_id="r1", channel="stable",
                                         release_version=2, issued_at=NOON),
        "device_report.v1": DeviceReport(
            task_id=T, device_id="box-1", reported_at=NOON, agent_version="0.1.0", state="serving",
            release_version=2, model_id=A, frames_inspected=900, parts={"accept": 800}, kept={"random-floor": 9},
            campaigns={"c2": 12},
            last_swap=SwapReport(from_version=1, to_version=2, swapped_at=NOON, gap_ms=1.5, frames_dropped=0),
        ),
        "device_report_with_vitals.v1": DeviceReport(
            task_id=T, device_id="box-1", reported_at=NOON, agent_version="0.2.0", state="degraded",
            release_version=2, model_id=A, outbox_lost=3, outbox_evicted=2,
            vitals=Vitals(frames_per_second=29.5, frame_ms_p50=11.5, frame_ms_p99=14.25, sorter_late_ms_p99=3.5,
                          hottest_celsius=71.5, disk_free_bytes=10**10, outbox_bytes=10**6, clock_skew_s=-0.5,
                          certificate_days=90.5),
        ),
        "rollout.v1": Rollout(task_id=T, rollout_id="r1", channel="stable", release_version=2, model_id=A,
                              devices=("box-1",), state="done", started_at=NOON, ended_at=NOON),
        "quarantine.v1": Quarantine(task_id=T, subject=A, key="tasks/pcb/quarantine/x", reason="does not decode",
                                    device_id="box-1", quarantined_at=NOON),
    }  # fmt: skip


def _messages() -> dict[str, Value]:
    grant = "0" * 32
    return {
        "grant_request.v1": GrantRequest(task_id=T, device_id="box-1", request_id="12345678", expires_at=NOON,
                                         items=(GrantItem(sample_id=A, size_bytes=90_000),)),
        "grant.v1": Grant(task_id=T, device_id="box-1", request_id="12345678", grant_id=grant, expires_at=NOON,
                          uploads=(GrantedUpload(sample_id=A, image_url="http://s/i", announcement_url="http://s/a"),)),
        "announcement.v1": Announcement(task_id=T, device_id="box-1", grant_id=grant, sample_ids=(A,)),
        "receipt.v1": Receipt(task_id=T, device_id="box-1", items=(ReceiptItem(sample_id=A, outcome="stored"),)),
        "order_request.v1": OrderRequest(task_id=T, device_id="box-1", channel="stable"),
        "capture_command.v1": CaptureCommand(schema_version=1, task_id=T, device_id="box-1", command_id="c1", frames=3,
                                             expires_at=NOON, asked_by="ana"),
        "capture_command.v2": CaptureCommand(task_id=T, device_id="box-1", command_id="c2", frames=200, expires_at=NOON,
                                             asked_by="ana", class_name="scratch", low=0.3, high=0.6, before=8,
                                             campaign="night-shift"),
        "command_answer.v1": CommandAnswer(task_id=T, device_id="box-1", command_id="c2", outcome="accepted",
                                           detail="running", frames_kept=12, answered_at=NOON),
    }  # fmt: skip


def main() -> None:
    """Write the golden files that do not exist yet."""
    GOLDEN.mkdir(exist_ok=True)
    for name, document in examples().items():
        path = GOLDEN / f"{name}.json"
        if not path.exists():
            path.write_bytes(encode(document) + b"\n")
            sys.stdout.write(f"wrote {path.name}\n")


if __name__ == "__main__":
    main()
