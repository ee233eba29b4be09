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
from detection.novelty import FEATURES_KEY, FeatureReference
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
Layout = Literal["dense", "objectness", "end2end", "dfl"]


@dataclass(frozen=True, slots=True)
class ModelFile:
    """Hold what is known of a model before it runs.

    Attributes:
        model_id: SHA-256 of the file's bytes.
        layout: how the detection outputs lie; `objectness` is the older YOLOv5 head.
        output_shapes: by output name; None where the graph leaves a size open.
        where: the file, for error messages.
        feature_reference: what training knew, to tell how novel a frame is; None if the file does not say.
    """

    model_id: str
    spec: InputSpec
    class_names: tuple[str, ...]
    layout: Layout = "dense"
    output_shapes: Mapping[str, Shape | None] = field(default_factory=dict)
    where: str = "model"
    feature_reference: FeatureReference | None = None


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
    layout = _layout(shapes, spec, len(names), where)
    reference = _feature_reference(properties, shapes.get(spec.features_name or ""), where)
    return ModelFile(sha256_of(content), spec, names, layout, shapes, where, reference)


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


def _feature_reference(
    properties: Mapping[str, str], shape: Shape | None, where: str
) -> FeatureReference | None:
    """Read what training knew; files of earlier trainers and origins without training images do not say."""
    text = properties.get(FEATURES_KEY)
    if not text:
        return None
    reference = FeatureReference.from_json(text, where=where)
    if shape is not None and shape[-1] != reference.dimensions:
        raise ModelFileError(
            expected=f"a feature reference of {shape[-1]} dimensions",
            got=str(reference.dimensions),
            where=where,
        )
    return reference


def _check_input(inputs: Sequence[Any], spec: InputSpec, where: str) -> None:
    expected = (spec.input_name, "tensor(uint8)", [1, spec.height, spec.width, 3])
    got = [(one.name, one.type, one.shape) for one in inputs]
    if got != [expected]:
        raise ModelFileError(expected=f"one input {expected}", got=f"inputs {got}", where=where)


def _output_shapes(outputs: Sequence[Any], spec: InputSpec, where: str) -> dict[str, Shape | None]:
    by_name = {one.name: one for one in outputs}
    features = () if spec.features_name is None else (spec.features_name,)
    wanted = (*spec.detection_outputs, *features)
    unread = sorted(set(by_name) - set(wanted))
    if spec.head == "dfl" and unread:
        # A level that nobody reads would be objects of one size that nobody finds.
        raise ModelFileError(expected=f"outputs {list(wanted)}", got=f"also {unread}", where=where)
    shapes: dict[str, Shape | None] = {}
    for name in wanted:
        one = by_name.get(name)
        if one is None or one.type != "tensor(float)":
            got = f"outputs {sorted(by_name)}" if one is None else one.type
            raise ModelFileError(expected=f"float output {name!r}", got=got, where=where)
        static = all(isinstance(side, int) and side > 0 for side in one.shape)
        shapes[name] = tuple(one.shape) if static and one.shape else None
    return shapes


def _layout(shapes: Mapping[str, Shape | None], spec: InputSpec, class_count: int, where: str) -> Layout:
    """Tell how the detection outputs are laid out, from the side that depends on the classes."""
    if spec.head == "dfl":
        return _require_levels(shapes, spec, class_count, where)
    shape = shapes[spec.detections_name]
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


def _require_levels(
    shapes: Mapping[str, Shape | None], spec: InputSpec, class_count: int, where: str
) -> Layout:
    """Check the outputs of a head that ends early: each stride has its grid, all as many bins."""
    got = [shapes[name] for name in spec.detection_outputs]
    bins = got[0][1] // 4 if got and got[0] is not None and len(got[0]) == 4 else 0
    wanted: list[Shape] = []
    for stride in spec.strides:
        grid = (-(-spec.height // stride), -(-spec.width // stride))
        wanted += [(1, 4 * bins, *grid), (1, class_count, *grid)]
    if not wanted or bins < 2 or got != wanted:
        raise ModelFileError(
            expected=f"for each of the strides {list(spec.strides)} boxes (1, 4 * bins, h, w) "
            f"and logits (1, {class_count}, h, w)",
            got=str(got),
            where=where,
        )
    return "dfl"
