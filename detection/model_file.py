"""Read what an ONNX file says of itself: input, outputs and class names.

The trainer writes this into the file's metadata, so a model carries its own contract and no second
file can be mixed up with it. The graph is checked against it before a frame is shown to the model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from detection.errors import ModelFileError
from detection.ort_session import open_session
from detection.providers import CPU
from fleet_contracts.base import decode
from fleet_contracts.errors import MalformedDocument
from fleet_contracts.ids import sha256_of
from fleet_contracts.judging import InputSpec

SPEC_KEY = "whetstone.input_spec"
"""Metadata property that holds an `InputSpec` as JSON."""
CLASSES_KEY = "whetstone.classes"
"""Metadata property that holds the class names as a JSON list, in the order of their ids."""

Shape = tuple[int, ...]
Layout = Literal["dense", "objectness", "end2end"]


@dataclass(frozen=True, slots=True)
class ModelFile:
    """Hold what is known of a model before it runs.

    Attributes:
        model_id: SHA-256 of the file's bytes.
        layout: how the rows of the detection output lie; `objectness` is the older YOLOv5 head.
        output_shapes: by output name; None where the graph leaves a size open.
        where: the file, for error messages.
    """

    model_id: str
    spec: InputSpec
    class_names: tuple[str, ...]
    layout: Layout = "dense"
    output_shapes: Mapping[str, Shape | None] = field(default_factory=dict)
    where: str = "model"


def read_model(path: Path) -> ModelFile:
    """Read and check an ONNX file without keeping it loaded.

    Raises:
        ModelFileError: absent, unreadable, without our metadata, or contradicting it.
    """
    content = read_content(path)
    return describe(open_session(content, str(path), threads=1, providers=(CPU,)), content, str(path))


def read_content(path: Path) -> bytes:
    """Read a model file's bytes.

    Raises:
        ModelFileError: it cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ModelFileError(
            expected="a readable ONNX file", got=error.strerror or str(error), where=str(path)
        ) from error


def describe(session: Any, content: bytes, where: str) -> ModelFile:
    """Check a loaded session against the metadata in its file.

    Args:
        session: an onnxruntime session of `content`.
        content: the file's bytes, for the model's id.
        where: the file, for error messages.

    Raises:
        ModelFileError: metadata is missing, or metadata and graph disagree.
    """
    properties: Mapping[str, str] = session.get_modelmeta().custom_metadata_map
    spec = _input_spec(properties, where)
    names = _class_names(properties, where)
    _check_input(session.get_inputs(), spec, where)
    shapes = _output_shapes(session.get_outputs(), spec, where)
    layout = _layout(shapes[spec.detections_name], spec, len(names), where)
    return ModelFile(sha256_of(content), spec, names, layout, shapes, where)


def _input_spec(properties: Mapping[str, str], where: str) -> InputSpec:
    if SPEC_KEY not in properties:
        raise ModelFileError(
            expected=f"metadata property {SPEC_KEY!r}", got=f"properties {sorted(properties)}", where=where
        )
    try:
        return decode(InputSpec, properties[SPEC_KEY].encode(), where=where)
    except MalformedDocument as error:
        raise ModelFileError(
            expected=f"an InputSpec in metadata property {SPEC_KEY!r}", got=error.got, where=where
        ) from error


def _class_names(properties: Mapping[str, str], where: str) -> tuple[str, ...]:
    text = properties.get(CLASSES_KEY, "")
    try:
        names = json.loads(text)
    except ValueError:
        names = None
    good = isinstance(names, list) and names and all(isinstance(name, str) and name for name in names)
    if not good or len(set(names)) != len(names):
        raise ModelFileError(
            expected=f"a JSON list of different class names in metadata property {CLASSES_KEY!r}",
            got=repr(text[:200]),
            where=where,
        )
    return tuple(names)


def _check_input(inputs: Sequence[Any], spec: InputSpec, where: str) -> None:
    expected = (spec.input_name, "tensor(uint8)", [1, spec.height, spec.width, 3])
    got = [(one.name, one.type, one.shape) for one in inputs]
    if got != [expected]:
        raise ModelFileError(expected=f"one input {expected}", got=f"inputs {got}", where=where)


def _output_shapes(outputs: Sequence[Any], spec: InputSpec, where: str) -> dict[str, Shape | None]:
    by_name = {one.name: one for one in outputs}
    wanted = [name for name in (spec.detections_name, spec.features_name) if name is not None]
    shapes: dict[str, Shape | None] = {}
    for name in wanted:
        one = by_name.get(name)
        if one is None or one.type != "tensor(float)":
            got = f"outputs {sorted(by_name)}" if one is None else one.type
            raise ModelFileError(expected=f"float output {name!r}", got=got, where=where)
        static = all(isinstance(side, int) and side > 0 for side in one.shape)
        shapes[name] = tuple(one.shape) if static and one.shape else None
    return shapes


def _layout(shape: Shape | None, spec: InputSpec, class_count: int, where: str) -> Layout:
    """Tell how the detection output is laid out, from the one side that depends on the classes."""
    if shape is None:
        return spec.head
    rows_of: dict[Layout, bool] = {
        "end2end": spec.head == "end2end" and len(shape) == 3 and shape[2] == 6,
        "dense": spec.head == "dense" and len(shape) == 3 and shape[1] == 4 + class_count,
        "objectness": spec.head == "dense" and len(shape) == 3 and shape[2] == 5 + class_count,
    }
    for layout, fits in rows_of.items():
        if fits and shape[0] == 1:
            return layout
    wanted = "(1, n, 6)" if spec.head == "end2end" else f"(1, {4 + class_count}, n)"
    raise ModelFileError(
        expected=f"{spec.head} output {wanted} for {class_count} classes", got=str(shape), where=where
    )
