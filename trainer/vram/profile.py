"""Hold what a trace of one network at small sizes gave: every block's life and how its size grows.

A size is a polynomial in what a step is made of. A monomial is written as the product of its symbols:

    ""  one            B  images on the device        P  pixels of an image       S  side of an image
    n   most boxes in one image    T  boxes in the batch
    C   pairs of a box and an anchor inside it         F, f  anchors chosen for boxes (one-to-many, -one)

so `("BP", 32.0)` is 32 bytes for each pixel of the batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from fleet_contracts.base import Value

Term = Literal["weights", "gradients", "optimizer", "ema", "activations", "batch", "loss", "workspace", "ddp"]
TERMS: tuple[Term, ...] = (
    "weights", "gradients", "optimizer", "ema", "activations", "batch", "loss", "workspace", "ddp",
)  # fmt: skip
Polynomial = tuple[tuple[str, float], ...]
Block = tuple[int, int, int, int]
"""Operation numbers of birth and death, the polynomial's number, the term's number in TERMS."""


class Timeline(Value):
    """Hold the blocks of a stretch of operations; one that dies at or after `length` outlives it.

    `marks` name when each moment of the step begins.
    """

    length: int
    marks: tuple[tuple[str, int], ...] = ()
    polynomials: tuple[Polynomial, ...] = ()
    blocks: tuple[Block, ...] = ()


class ModelProfile(Value):
    """Hold everything an estimate needs to know of one network with one class list.

    `parameter_sizes` and `buffer_sizes` are bytes in full precision, one entry a tensor. `trainable` are
    the numbers of those parameters that get gradients. `timelines` are named fp32, mixed and validation;
    `optimizers` by the optimizer's name. `flops_per_pixel` counts one forward pass.
    """

    name: str
    classes: int
    content_sha256: str
    parameters: int
    parameter_sizes: tuple[int, ...]
    buffer_sizes: tuple[int, ...] = ()
    trainable: tuple[int, ...] | None = None
    strides: tuple[int, ...] = (8, 16, 32)
    reg_max: int = 16
    end_to_end: bool = False
    frozen_layers: int = 0
    flops_per_pixel: float = 0.0
    topk: tuple[int, ...] = (10,)
    timelines: dict[str, Timeline]
    optimizers: dict[str, Timeline] = Field(default_factory=dict)
    optimizer_copies: dict[str, float] = Field(default_factory=dict)
    exact_share: float = 1.0
    """Share of traced bytes whose polynomial meets every traced size to the byte."""
    versions: dict[str, str] = Field(default_factory=dict)

    @property
    def anchors_per_pixel(self) -> float:
        """Return how many predictions the head makes for each input pixel."""
        return sum(1.0 / stride**2 for stride in self.strides)

    @property
    def trained_sizes(self) -> tuple[int, ...]:
        """Return the sizes of parameters that get gradients."""
        if self.trainable is None:
            return self.parameter_sizes
        return tuple(self.parameter_sizes[number] for number in self.trainable)


def evaluated(polynomial: Polynomial, symbols: Mapping[str, float]) -> int:
    """Return the bytes of a polynomial, never below zero."""
    total = 0.0
    for monomial, factor in polynomial:
        value = factor
        for symbol in monomial:
            value *= symbols[symbol]
        total += value
    return max(round(total), 0)


def sketched_profile(
    name: str = "sketch", parameters: int = 2_600_000, width: float = 1.0, classes: int = 80
) -> ModelProfile:
    """Return a profile from a formula, for plans of networks nobody traced and for tests of planners.

    The constants are those of yolo11n-like networks, scaled by parameters and width; a trace is far closer.
    """
    layers = 90
    saved = 630.0 * width
    anchors = (1 / 64 + 1 / 256 + 1 / 1024) * 4.0
    loss: Polynomial = (("BP", anchors * (6 * classes + 64)), ("BPn", anchors * 6))
    return ModelProfile(
        name=name, classes=classes, content_sha256="", parameters=parameters,
        parameter_sizes=(parameters * 4 // layers,) * layers,
        timelines={
            precision: _sketched_timeline(layers, saved * share, loss, parameters * 4 // layers)
            for precision, share in (("fp32", 1.0), ("mixed", 0.55), ("validation", 0.05))
        },
    )  # fmt: skip


def _sketched_timeline(layers: int, saved: float, loss: Polynomial, layer_bytes: int) -> Timeline:
    length = 2 * layers + 1
    activation: Polynomial = (("BP", saved / layers),)
    batch: Polynomial = (("BP", 12.0),)
    gradient: Polynomial = (("", float(layer_bytes)),)
    lives = [(layer, length - 1 - layer, 0, TERMS.index("activations")) for layer in range(layers)]
    gained = [(length - 1 - layer, length, 3, TERMS.index("gradients")) for layer in range(layers)]
    return Timeline(
        length=length, polynomials=(activation, batch, loss, gradient),
        marks=(("forward", 0), ("loss", layers), ("backward", layers + 1), ("optimizer", length - 1)),
        blocks=((0, length - 1, 1, TERMS.index("batch")), *lives, *gained,
                (layers, layers, 2, TERMS.index("loss"))),
    )  # fmt: skip
