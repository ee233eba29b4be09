"""Set how strict the gate is; every number has its unit in its name or beside it."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

from fleet_contracts.training import Precision

Share = Annotated[float, Field(ge=0.0, le=1.0)]
PerThousand = Annotated[float, Field(ge=0.0, le=1000.0)]
Positive = Annotated[float, Field(gt=0.0)]


class GateSettings(BaseModel):
    """Hold the gate's bounds; average precision and recall from 0 to 1, rates per 1,000 parts inspected."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ship: Annotated[tuple[Precision, ...], Field(min_length=1)] = ("fp32",)
    """Number formats in the order of preference: the first one whose file passes every rule is what ships."""
    min_val_images: Annotated[int, Field(ge=1)] = 5
    """Verified validation images below which nothing is judged."""
    min_new_val_images: Annotated[int, Field(ge=1)] = 10
    """Mined validation images from which on the overall rule looks at those alone."""
    min_val_gain: Annotated[float, Field(ge=-1.0, le=1.0)] = 0.0
    """Lowest gain of mAP50 over the champion on new validation data."""
    max_class_loss: Share = 0.10
    """Most that an old class may lose of AP50 on validation data."""
    class_ap50_floor: Share = 0.10
    """Lowest AP50 of any class with enough truths."""
    min_class_truths: Annotated[int, Field(ge=1)] = 10
    """True boxes of a class below which its figure is noise and not judged."""
    max_slice_loss: Share = 0.15
    """Most that any slice (board, camera, light, size of object) may lose of mAP50 on validation data."""
    min_slice_truths: Annotated[int, Field(ge=1)] = 10
    """True boxes of a slice below which its figure is noise and not judged."""
    max_more_escapes_per_1000: PerThousand = 20.0
    max_more_false_rejects_per_1000: PerThousand = 40.0
    max_golden_loss: Share = 0.02
    """Most that mAP50 on the golden set may fall, as measured."""
    max_golden_loss_worst: Share = 0.06
    """Most that it may fall at the interval's worse end."""
    golden_confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95
    """Of every interval found by drawing images again and again."""
    bootstrap_rounds: Annotated[int, Field(ge=100, le=20_000)] = 1000
    require_golden: bool = True
    """Refuse a candidate when there is a champion but no golden set to ask for forgetting."""
    max_overconfidence: Share = 0.20
    """Most by which stated confidence may be above precision at the operating thresholds."""
    max_underconfidence: Share = 1.0
    """Most by which it may be below; 1 sets no bound, since doubting too much lets nothing escape."""
    min_calibration_detections: Annotated[int, Field(ge=1)] = 20
    """Detections below which calibration is not judged."""
    require_miss_rate: bool = False
    """Refuse a candidate when the data are too few to show the decision settings' miss rate."""
    max_parity_box_px: Positive = 1.0
    """Largest box error of the float32 file against the trained weights."""
    max_parity_score: Positive = 0.01
    max_fp16_box_px: Positive = 2.0
    """Largest box error of the float16 file."""
    max_fp16_score: Positive = 0.03
    max_int8_box_px: Positive = 4.0
    """Mean box error of the int8 file."""
    max_int8_score: Positive = 0.06
    """Mean score error of the int8 file."""
    max_int8_unmatched: Share = 0.10
    """Share of boxes without a partner that int8 may have, where the head ends to end."""
    max_latency_ratio: Positive = 1.5
    latency_slack_ms: Annotated[float, Field(ge=0.0)] = 3.0
    """Added to the champion's time, so that noise on tiny models is no verdict."""
    max_latency_ms: Annotated[float, Field(ge=0.0)] = 0.0
    """Absolute bound on the judge's machine; 0 sets none."""
    device_latency_ms: dict[str, Positive] = Field(default_factory=dict)
    """Absolute bound by device class, for those on which a candidate's file was measured."""
    max_onnx_mib: Positive = 256.0
    first_min_map50: Share = 0.30
    first_min_recall: Share = 0.50
    first_max_escapes_per_1000: PerThousand = 300.0
    first_max_false_rejects_per_1000: PerThousand = 300.0

    @field_validator("ship")
    @classmethod
    def _different_formats(cls, value: tuple[Precision, ...]) -> tuple[Precision, ...]:
        if len(set(value)) != len(value):
            raise ValueError(f"expected each number format once, got {list(value)}")
        return value
