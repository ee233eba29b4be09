"""Describe what a run produced and what the gate said of it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fleet_contracts.base import Count, UtcTime, Value, WireDocument
from fleet_contracts.ids import ModelId, RunId, Sha256, SnapshotId
from fleet_contracts.samples import ClassList, DecisionRules
from fleet_contracts.training import Precision

HeadKind = Literal["dense", "end2end", "dfl"]


class InputSpec(Value):
    """Say what an ONNX model takes and gives.

    The input is uint8 `(1, height, width, 3)`, BGR, letterboxed with `pad_value`. `dense` output is
    `(1, 4 + classes, n)` as xywh centre boxes and class scores, all in input pixels; `dense_objectness`
    models are not produced here. `end2end` output is `(1, n, 6)`: x1 y1 x2 y2 score class. A `dfl` head ends
    before its decoding: for each of `strides` it gives `boxes_<stride>` `(1, 4 * bins, h, w)`, the
    distributions of the distances to left, top, right and bottom in strides, and `logits_<stride>`
    `(1, classes, h, w)`, the class scores before the sigmoid.
    """

    width: Annotated[int, Field(ge=32, le=4096)]
    height: Annotated[int, Field(ge=32, le=4096)]
    head: HeadKind
    input_name: str = "image"
    detections_name: str = "detections"
    features_name: str | None = "features"
    pad_value: Annotated[int, Field(ge=0, le=255)] = 114
    strides: tuple[Annotated[int, Field(ge=1, le=256)], ...] = ()
    """Of a `dfl` head, finest first; empty for every other head."""

    @property
    def detection_outputs(self) -> tuple[str, ...]:
        """Return the names of the outputs that detections are read from, in the order decoding takes them."""
        if self.head != "dfl":
            return (self.detections_name,)
        return tuple(f"{kind}_{stride}" for stride in self.strides for kind in ("boxes", "logits"))


class ParityReport(Value):
    """Compare .pt and ONNX on the same images; boxes in input pixels.

    `reference` names what was compared with. One step of int8 in one cell of thousands is no fault of the
    file, so its rounding is judged by the means.
    """

    images: Count
    compared: Count
    unmatched: Count
    max_box_error_px: float
    max_score_error: float
    mean_box_error_px: float | None = None
    mean_score_error: float | None = None
    reference: str = ""


class Latency(Value):
    """Hold a model's own time for one frame on one device class, in milliseconds."""

    device_class: str
    provider: str
    threads: Count
    p50_ms: float
    p95_ms: float
    frames: Count


class ModelVariant(Value):
    """Describe one file of a candidate: the same weights in another number format, judged as it is."""

    precision: Precision
    name: str
    """Of its object beside the candidate's, such as `model-int8.onnx`."""
    model_id: ModelId
    onnx_bytes: Count
    parity: ParityReport
    latency: tuple[Latency, ...] = ()
    kept_layers: tuple[str, ...] = ()
    """Nodes left in full precision because the model is sensitive to them."""


class Candidate(WireDocument):
    """Describe the very file that would ship; `variants` are its other number formats."""

    candidate_id: RunId
    run_id: RunId
    snapshot_id: SnapshotId
    model_id: ModelId
    onnx_bytes: Count
    weights_sha256: Sha256
    weights_bytes: Count
    input_spec: InputSpec
    class_list: ClassList
    parity: ParityReport
    latency: tuple[Latency, ...] = ()
    variants: tuple[ModelVariant, ...] = ()
    start_sha256: Sha256
    created_at: UtcTime


class GateFinding(Value):
    """Say what one rule expected and what it got."""

    rule: str
    passed: bool
    expected: str
    got: str
    detail: str = ""


class VariantVerdict(Value):
    """Keep what the gate found of one number format."""

    precision: Precision
    model_id: ModelId
    promoted: bool
    findings: tuple[GateFinding, ...]
    measures: dict[str, float] = Field(default_factory=dict)
    why: str = ""
    """Why this file ships, or why another one does."""


class GateReport(WireDocument):
    """Keep the verdict on a candidate with every rule's finding (law 10).

    An empty list of findings is never a pass. `candidate_model` is the file that ships if it is promoted;
    `variants` holds the verdict on every number format, that one included.
    """

    candidate_id: RunId
    candidate_model: ModelId
    champion_model: ModelId | None
    snapshot_id: SnapshotId
    findings: Annotated[tuple[GateFinding, ...], Field(min_length=1)]
    promoted: bool
    decision_rules: DecisionRules
    """Thresholds chosen on validation data; they ship with the release."""
    measures: dict[str, float] = Field(default_factory=dict)
    pictures: tuple[str, ...] = ()
    variants: tuple[VariantVerdict, ...] = ()
    judged_at: UtcTime


class TriggerDecision(WireDocument):
    """Say why a training was asked for or not."""

    decided_at: UtcTime
    asked: bool
    verified_new: Count
    threshold: Count
    reason: str
    champion_snapshot: SnapshotId | None = None
