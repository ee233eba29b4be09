"""Make tiny ONNX models by hand, so that engine, file format and decoding are tested without torch.

A model answers with fixed boxes; their scores are multiplied by `slope * brightness + offset`,
where brightness is the mean of the canvas from 0 to 1, so a test can tell that the frame was seen.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from fleet_contracts.base import encode
from fleet_contracts.judging import HeadKind, InputSpec

Row = tuple[float, float, float, float, float, int]
"""x1 y1 x2 y2 in canvas pixels, score, class id."""


@dataclass(frozen=True)
class TinyModel:
    """Describe a model to make."""

    rows: Sequence[Row] = ((8.0, 8.0, 24.0, 24.0, 0.9, 0),)
    class_names: tuple[str, ...] = ("scratch", "missing")
    width: int = 64
    height: int = 64
    head: HeadKind = "dense"
    slope: float = 0.0
    offset: float = 1.0
    features: int = 4
    positions: int = 16
    strides: tuple[int, ...] = (8, 16, 32)
    """Of a `dfl` head; all boxes lie on the first."""
    dynamic: bool = False
    objectness: bool = False
    properties: tuple[tuple[str, str], ...] | None = None
    """Metadata to write instead of what belongs there."""


def raw_output(model: TinyModel) -> npt.NDArray[np.float32]:
    """Return what the model answers when its score factor is one."""
    n, classes = model.positions, len(model.class_names)
    if model.head == "end2end":
        table = np.zeros((1, n, 6), np.float32)
        for index, row in enumerate(model.rows):
            table[0, index] = row
        return table
    columns = 5 + classes if model.objectness else 4 + classes
    table = np.zeros((1, n, columns), np.float32)
    for index, (x1, y1, x2, y2, score, class_id) in enumerate(model.rows):
        table[0, index, :4] = ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1)
        table[0, index, columns - classes + class_id] = score
        if model.objectness:
            table[0, index, 4] = 1.0
    return table if model.objectness else np.ascontiguousarray(table.transpose(0, 2, 1))


BINS = 16
_NEVER = -100.0


def raw_levels(model: TinyModel) -> dict[str, npt.NDArray[np.float32]]:
    """Return what a `dfl` model answers, but class scores in the place of their logits."""
    outputs: dict[str, npt.NDArray[np.float32]] = {}
    for stride in model.strides:
        grid = (model.height // stride, model.width // stride)
        outputs[f"boxes_{stride}"] = np.full((1, 4 * BINS, *grid), _NEVER, np.float32)
        outputs[f"logits_{stride}"] = np.zeros((1, len(model.class_names), *grid), np.float32)
    stride = model.strides[0]
    taken: set[tuple[int, int]] = set()
    for x1, y1, x2, y2, score, class_id in model.rows:
        cell = (int((y1 + y2) / 2 // stride), int((x1 + x2) / 2 // stride))
        while cell in taken:
            cell = (cell[0] - 1, cell[1] - 1)
        taken.add(cell)
        x, y = (cell[1] + 0.5) * stride, (cell[0] + 0.5) * stride
        for side, reach in enumerate(((x - x1), (y - y1), (x2 - x), (y2 - y))):
            bin_, rest = divmod(reach / stride, 1.0)
            column = outputs[f"boxes_{stride}"][0, side * BINS : (side + 1) * BINS, cell[0], cell[1]]
            column[int(bin_)] = np.log(max(1.0 - rest, 1e-30))
            column[int(bin_) + 1] = np.log(max(rest, 1e-30))
        outputs[f"logits_{stride}"][0, class_id, cell[0], cell[1]] = score
    return outputs


def save(model: TinyModel, path: Path) -> Path:
    """Write the model file and return its path."""
    if model.head == "dfl":
        return _save_dfl(model, path)
    full = raw_output(model)
    scores = np.zeros_like(full)
    if model.head == "end2end":
        scores[..., 4] = full[..., 4]
    elif model.objectness:
        scores[..., 5:] = full[..., 5:]
    else:
        scores[:, 4:] = full[:, 4:]
    constants = {
        "fixed": full - scores,
        "scores": scores,
        "slope": np.asarray(model.slope / 255.0, np.float32),
        "offset": np.asarray(model.offset, np.float32),
        "ones": np.ones((1, model.features), np.float32),
        "all": np.ones(model.positions, np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "slope"], ["sloped"]),
        helper.make_node("Add", ["sloped", "offset"], ["factor"]),
        helper.make_node("Mul", ["scores", "factor"], ["scaled"]),
        helper.make_node("Add", ["fixed", "scaled"], ["full" if model.dynamic else "detections"]),
        helper.make_node("Mul", ["ones", "factor"], ["features"]),
    ]
    shape: list[int | str] = list(full.shape)
    if model.dynamic:
        along = 1 if model.head == "end2end" else 2
        shape[along] = "n"
        # How many columns stay is known at run time only, so no engine can work the size out.
        nodes.append(helper.make_node("Mul", ["all", "mean"], ["shown"]))
        nodes.append(helper.make_node("Cast", ["shown"], ["keep"], to=TensorProto.BOOL))
        nodes.append(helper.make_node("Compress", ["full", "keep"], ["detections"], axis=along))
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, model.height, model.width, 3])],
        [
            helper.make_tensor_value_info("detections", TensorProto.FLOAT, shape),
            helper.make_tensor_value_info("features", TensorProto.FLOAT, [1, model.features]),
        ],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    helper.set_model_props(proto, dict(_properties(model)))
    onnx.save(proto, str(path))
    return path


def _save_dfl(model: TinyModel, path: Path) -> Path:
    constants = {
        "slope": np.asarray(model.slope / 255.0, np.float32),
        "offset": np.asarray(model.offset, np.float32),
        "one": np.asarray(1.0, np.float32),
        "ones": np.ones((1, model.features), np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "slope"], ["sloped"]),
        helper.make_node("Add", ["sloped", "offset"], ["factor"]),
        helper.make_node("Mul", ["ones", "factor"], ["features"]),
    ]
    outputs = []
    for name, array in raw_levels(model).items():
        constants[f"{name}_fixed"] = array
        if name.startswith("boxes"):
            nodes.append(helper.make_node("Mul", [f"{name}_fixed", "one"], [name]))
        else:
            nodes += [
                helper.make_node("Mul", [f"{name}_fixed", "factor"], [f"{name}_p"]),
                helper.make_node("Sub", ["one", f"{name}_p"], [f"{name}_q"]),
                helper.make_node("Div", [f"{name}_p", f"{name}_q"], [f"{name}_odds"]),
                helper.make_node("Log", [f"{name}_odds"], [name]),
            ]
        outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, list(array.shape)))
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, model.height, model.width, 3])],
        [*outputs, helper.make_tensor_value_info("features", TensorProto.FLOAT, [1, model.features])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    helper.set_model_props(proto, dict(_properties(model)))
    onnx.save(proto, str(path))
    return path


def _properties(model: TinyModel) -> tuple[tuple[str, str], ...]:
    if model.properties is not None:
        return model.properties
    strides = model.strides if model.head == "dfl" else ()
    spec = InputSpec(width=model.width, height=model.height, head=model.head, strides=strides)
    return (
        ("whetstone.input_spec", encode(spec).decode()),
        ("whetstone.classes", json.dumps(list(model.class_names))),
    )
