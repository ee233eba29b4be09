"""Make one number format of an exported model, choosing by training images alone.

(1) Calibrate on some training images; others are held back to choose by.
(2) int8: choose the method of calibration whose file sees the held-back images most like the float file.
(3) Search the blocks to keep in float, by the same images.
(4) Take over what the float file says of itself, and say the format; write the file whole.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detection.detections import Detections
from detection.model_file import read_model
from detection.novelty import FEATURES_KEY
from fleet_contracts.training import Precision
from trainer.backend_job import write_whole
from trainer.errors import DatasetRefused
from trainer.formats.calibration import METHODS, Method, Range, Seen, canvases_of, observe, ranges_by
from trainer.formats.disagreement import detections_of, disagreement
from trainer.formats.graphs import (
    Block,
    blocks_of,
    convolutions_of,
    first_convolutions,
    infer_shapes,
    output_nodes,
)
from trainer.formats.half import halved
from trainer.formats.int8 import quantised
from trainer.formats.names import PRECISION_KEY
from trainer.formats.sensitive import search

MOST_IMAGES = 64
LEAST_IMAGES = 8
"""Fewer training images say too little about ranges."""
SECONDS = 45.0
"""For calibrating, choosing and searching together; a larger network is searched less, not longer."""


@dataclass(frozen=True, slots=True)
class MakeInputs:
    """Hold what a format is made from: the float file and training images, evenly chosen."""

    source: Path
    images: tuple[Path, ...]
    seconds: float = SECONDS
    threads: int = 1
    told: Callable[[str], None] = lambda _: None


@dataclass(frozen=True, slots=True)
class Made:
    """Say how a file was made; `error` is its disagreement with the float file on held-back images."""

    file: Path
    precision: Precision
    error: float
    kept_layers: tuple[str, ...] = ()
    method: str = ""
    seconds: float = 0.0


def make_format(precision: Precision, inputs: MakeInputs, out: Path) -> Made:
    """Write a model in another number format.

    Args:
        precision: `fp16` or `int8`.
        inputs: what it is made from.
        out: the file to write.

    Raises:
        DatasetRefused: too few training images that decode to find ranges by.
        ValueError: not a format that is made from the float file.
    """
    began = time.monotonic()
    if precision == "fp16":
        made, kept, method = _half(inputs)
    elif precision == "int8":
        made, kept, method = _int8(inputs, began)
    else:
        raise ValueError(f"expected fp16 or int8, got {precision}")
    write_file(made, _load(inputs.source), precision, out)
    checked = _held_back(inputs.images)
    error = disagreement(
        detections_of(inputs.source, checked, threads=inputs.threads),
        detections_of(out, checked, threads=inputs.threads),
    )
    read_model(out)  # what cannot be read here must not leave this machine
    return Made(out, precision, error, kept, method, round(time.monotonic() - began, 3))


def write_file(made: Any, source: Any, precision: Precision, out: Path) -> None:
    """Write a model with the source's own metadata and its format, by which it says what it is.

    What training knew of the float file's features is left out: another format's features differ, and
    `feature_reference` measures its own.
    """
    # (4)
    kept = {entry.key: entry.value for entry in source.metadata_props if entry.key != FEATURES_KEY}
    del made.metadata_props[:]
    for key, value in {**kept, PRECISION_KEY: precision}.items():
        entry = made.metadata_props.add()
        entry.key, entry.value = key, value
    made.producer_name, made.producer_version, made.doc_string = source.producer_name, "", ""
    made.ir_version = source.ir_version
    write_whole(out, made.SerializeToString(deterministic=True))


def _half(inputs: MakeInputs) -> tuple[Any, tuple[str, ...], str]:
    graph = _load(inputs.source)
    kept = output_nodes(graph, read_model(inputs.source).spec.detection_outputs)
    return halved(graph, kept), convolutions_of(graph, (*first_convolutions(graph), *kept)), ""


def _int8(inputs: MakeInputs, began: float) -> tuple[Any, tuple[str, ...], str]:
    until = began + inputs.seconds
    work = _Workbench(inputs)
    if len(work.canvases) < LEAST_IMAGES:
        raise DatasetRefused(
            expected=f"at least {LEAST_IMAGES} training images to calibrate int8 on",
            got=f"{len(work.canvases)} of {len(inputs.images)} images, one in four held back to choose by",
            where=str(inputs.source),
            now="Train on more images, or leave int8 out of the recipe's precisions.",
        )
    # (1)
    inputs.told(f"calibrating on {len(work.canvases)} training images")
    seen = observe(work.graph, work.canvases, work.input_name)
    # (2)
    always = output_nodes(work.graph, work.outputs)
    errors: dict[Method, float] = {}
    for method in METHODS:
        errors[method] = work.error_of(ranges_by(method, seen), always)
        if time.monotonic() > began + inputs.seconds / 2:
            break
    best = min(errors, key=lambda method: errors[method])
    inputs.told("; ".join(f"{method} {error:.4f}" for method, error in errors.items()) + f": {best}")
    ranges = ranges_by(best, seen)
    # (3)
    blocks = _by_noise(blocks_of(infer_shapes(work.graph)), seen, ranges, work.graph)
    found = search(blocks, lambda kept: work.error_of(ranges, (*always, *_nodes(kept))), until, inputs.told)
    kept = (*always, *_nodes(found.kept))
    return quantised(work.graph, ranges, kept), convolutions_of(work.graph, kept), best


class _Workbench:
    """Hold the float file and the two halves of the images, and tell how well an int8 file would do."""

    def __init__(self, inputs: MakeInputs) -> None:
        self.graph = _load(inputs.source)
        spec = read_model(inputs.source).spec
        self.input_name, self.outputs = spec.input_name, spec.detection_outputs
        self.canvases = canvases_of(_calibrating(inputs.images), spec)
        self._checked = _held_back(inputs.images)
        self._threads = inputs.threads
        self._source = self.graph
        self._wanted: list[Detections] = detections_of(inputs.source, self._checked, threads=inputs.threads)

    def error_of(self, ranges: dict[str, Range], kept: Sequence[str]) -> float:
        made = quantised(self.graph, ranges, kept)
        with tempfile.TemporaryDirectory(prefix="whetstone-int8-") as folder:
            file = Path(folder) / "tried.onnx"
            write_file(made, self._source, "int8", file)
            return disagreement(self._wanted, detections_of(file, self._checked, threads=self._threads))


def _calibrating(images: Sequence[Path]) -> list[Path]:
    """Return three quarters of the images, evenly."""
    return [image for number, image in enumerate(images) if number % 4 != 3]


def _held_back(images: Sequence[Path]) -> list[Path]:
    return [image for number, image in enumerate(images) if number % 4 == 3]


def _nodes(blocks: Sequence[Block]) -> tuple[str, ...]:
    return tuple(name for block in blocks for name in block.nodes)


def _by_noise(
    blocks: Sequence[Block], seen: dict[str, Seen], ranges: dict[str, Range], graph: Any
) -> list[Block]:
    """Return blocks with the noisiest tensor first: time may not suffice to try them all."""
    outputs = {node.name: tuple(node.output) for node in graph.graph.node}
    first = set(first_convolutions(graph))

    def noise(block: Block) -> float:
        names = [name for node in block.nodes if node not in first for name in outputs.get(node, ())]
        return max((seen[name].noise_share(ranges[name]) for name in names if name in seen), default=0.0)

    return sorted(blocks, key=noise, reverse=True)


def _load(path: Path) -> Any:
    import onnx

    return onnx.load(str(path))
