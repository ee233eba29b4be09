"""Estimate a training's peak of GPU memory from a network's profile; pure, needs no GPU and no torch."""

from __future__ import annotations

from fleet_contracts.training import VramEstimate
from trainer.vram.calibration import PRIOR, Calibration
from trainer.vram.errors import EstimateRefused
from trainer.vram.profile import TERMS, ModelProfile
from trainer.vram.replay import replay
from trainer.vram.shape import TrainingShape


def estimate_vram(
    profile: ModelProfile, shape: TrainingShape, calibration: Calibration | None = None
) -> VramEstimate:
    """Return the predicted peak of one device and the terms it is the sum of, in bytes.

    The peak is what the process takes of the card: what the allocator reserves, and the CUDA context with
    its libraries. `slack` is what is reserved beyond the allocated peak. `confirmed` needs a calibration
    made of measured runs that holds this network's family and size.

    Raises:
        EstimateRefused: a shape this network cannot take, or a profile of another class list.
    """
    require_shape(profile, shape)
    factors = calibration.factors if calibration is not None else PRIOR
    found = replay(profile, shape, workspace=factors.workspace)
    reserved = round(found.peak_reserved * factors.reserved)
    terms = {str(name): size for name, size in zip(TERMS, found.at_peak, strict=True)}
    if shape.devices > 1:
        terms["ddp"] += factors.nccl_bytes
    else:
        del terms["ddp"]
    terms["slack"] = max(reserved - sum(found.at_peak), 0)
    terms["context"] = factors.context_bytes
    return VramEstimate(
        terms=terms, peak_bytes=sum(terms.values()), moment=found.moment,
        confirmed=calibration is not None and calibration.covers(profile),
        calibration=calibration.name if calibration is not None else "",
    )  # fmt: skip


def naive_estimate(profile: ModelProfile, shape: TrainingShape) -> int:
    """Return the published formula "parameters x 4 x 3 + batch": weights, gradients, momentum, images."""
    return profile.parameters * 4 * 3 + shape.batch * 3 * shape.image_size**2 * 4


def require_shape(profile: ModelProfile, shape: TrainingShape) -> None:
    """Refuse what this network cannot be trained with.

    Raises:
        EstimateRefused: an image size its strides do not divide, an empty batch, or another class count.
    """
    stride = max(profile.strides)
    where = f"estimate of {profile.name}"
    if shape.image_size < stride or shape.image_size % stride:
        raise EstimateRefused(
            expected=f"an image size that {stride} divides", got=f"{shape.image_size}", where=where,
            now=f"Take {max(-(-shape.image_size // stride), 1) * stride} px.",
        )  # fmt: skip
    if shape.batch < 1 or shape.devices < 1 or shape.boxes_per_image < 0 or shape.accumulation < 1:
        raise EstimateRefused(
            expected="at least one image and one device",
            got=f"{shape}",
            where=where,
            now="Correct the numbers.",
        )
    if profile.frozen_layers > shape.freeze_layers:
        raise EstimateRefused(
            expected=f"{profile.frozen_layers} frozen layers, as traced", got=f"{shape.freeze_layers}",
            where=where,
            now="Profile the network with as many frozen layers as are trained with.",
        )  # fmt: skip
    if shape.classes is not None and shape.classes != profile.classes:
        raise EstimateRefused(
            expected=f"{profile.classes} classes, as traced", got=f"{shape.classes}", where=where,
            now="Profile the network with this class list.",
        )  # fmt: skip
