"""Export the file that ships: uint8 camera pixels in, detections and a feature vector out.

The preprocessing is part of the graph. The scale by 1/255 and the BGR order are folded into the first
convolution, which is exact and leaves the box only a transpose of bytes and a cast. A head that regresses
boxes by distributions (DFL) ends before it decodes them: the box does so for its few candidates (ADR 8).
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

from fleet_contracts.base import encode
from fleet_contracts.judging import HeadKind, InputSpec
from trainer.backend_job import write_whole
from trainer.errors import BackendFailed

SPEC_KEY = "whetstone.input_spec"
CLASSES_KEY = "whetstone.classes"
_MAX_IR_VERSION = 10
"""What onnxruntime 1.23, the last for Python 3.10, reads."""
_MAX_DETECTIONS = 300


class ShippedModel(nn.Module):
    """Wrap a fused detection model: uint8 NHWC BGR to the spec's detection outputs and the features."""

    def __init__(self, model: nn.Module, kind: HeadKind) -> None:
        super().__init__()
        self.model = model
        head = model.model[-1]
        head.export = True
        head.format = "onnx"
        head.max_det = _MAX_DETECTIONS
        head.end2end = kind == "end2end"
        if kind == "dfl":
            model.model[-1] = _EarlyHead(head)
        _fold_preprocessing(model.model[0])
        self._deepest: torch.Tensor | None = None
        model.model[-1].register_forward_pre_hook(self._remember)

    def _remember(self, _head: nn.Module, inputs: tuple[Any, ...]) -> None:
        self._deepest = inputs[0][-1]

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return detection outputs as the input spec says, and the mean of the deepest feature map."""
        # Bytes are transposed, not floats: a quarter of the memory to move.
        answer = self.model(image.permute(0, 3, 1, 2).float())
        outputs = answer if isinstance(answer, tuple) else (answer,)
        assert self._deepest is not None
        return (*outputs, self._deepest.mean(dim=(2, 3)))


class _EarlyHead(nn.Module):
    """Run a DFL head's convolutions and leave its decoding to the reader of the file."""

    def __init__(self, head: Any) -> None:
        super().__init__()
        self.boxes, self.logits = head.cv2, head.cv3
        # What the network's own forward pass asks of each of its layers.
        self.i, self.f, self.type = head.i, head.f, head.type

    def forward(self, maps: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """Return boxes and logits of each level, finest first."""
        pairs = zip(self.boxes, self.logits, maps, strict=True)
        return tuple(answer for boxes, logits, level in pairs for answer in (boxes(level), logits(level)))


def head_kind(head: Any) -> HeadKind:
    """Say in which form a head is shipped: end to end where it can, else before its decoding."""
    if getattr(head, "one2one_cv2", None) is not None:
        return "end2end"
    # Only the plain head is known to decode as `detection` does; one without distributions is cheap already.
    return "dfl" if type(head).__name__ == "Detect" and head.reg_max > 1 else "dense"


def export_onnx(
    model: nn.Module, class_names: tuple[str, ...], image_size: int, out: Path, opset: int
) -> InputSpec:
    """Write the ONNX file of a model and return what it takes and gives. The model is changed for it.

    Raises:
        BackendFailed: the exported file differs from what boxes can load.
    """
    head = model.model[-1]
    kind = head_kind(head)
    head.end2end = kind == "end2end"
    strides = tuple(int(stride) for stride in head.stride) if kind == "dfl" else ()
    model.eval()
    model.fuse(verbose=False)
    shipped = ShippedModel(model, kind).eval()
    spec = InputSpec(width=image_size, height=image_size, head=kind, strides=strides)
    example = torch.zeros(1, image_size, image_size, 3, dtype=torch.uint8)
    raw = out.with_suffix(".raw.onnx")
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer warns about every shape; shapes are static here
        shipped(example)
        torch.onnx.export(
            shipped, (example,), str(raw), opset_version=opset, dynamo=False,
            input_names=[spec.input_name], output_names=[*spec.detection_outputs, "features"],
        )  # fmt: skip
    graph = _slimmed(onnx.load(str(raw)), image_size)
    raw.unlink()
    _stamp(graph, spec, class_names)
    if graph.ir_version > _MAX_IR_VERSION:
        raise BackendFailed(
            expected=f"ONNX IR version at most {_MAX_IR_VERSION}", got=str(graph.ir_version), where=str(out)
        )
    onnx.checker.check_model(graph)
    write_whole(out, graph.SerializeToString(deterministic=True))
    return spec


def _fold_preprocessing(first: nn.Module) -> None:
    convolution = getattr(first, "conv", None)
    if not isinstance(convolution, nn.Conv2d) or convolution.in_channels != 3 or hasattr(first, "bn"):
        raise BackendFailed(
            expected="a fused network that opens with a convolution of 3 channels",
            got=type(first).__name__,
            where="export",
        )
    with torch.no_grad():
        convolution.weight.copy_(convolution.weight.flip(1) / 255)


def _slimmed(graph: Any, image_size: int) -> Any:
    """Return the simplified graph if it computes the same, else the graph as it was."""
    try:
        import onnxslim
    except ImportError:
        return graph
    slim = onnxslim.slim(graph)
    if slim is None:
        return graph
    image = np.random.default_rng(0).integers(0, 256, (1, image_size, image_size, 3), dtype=np.uint8)
    before, after = _run(graph, image), _run(slim, image)
    same = all(
        np.allclose(one, other, rtol=1e-3, atol=1e-3) for one, other in zip(before, after, strict=True)
    )
    return slim if same else graph


def _run(graph: Any, image: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    session = session_of(graph.SerializeToString())
    outputs: list[np.ndarray[Any, Any]] = session.run(None, {session.get_inputs()[0].name: image})
    return outputs


def session_of(content: bytes | str) -> Any:
    """Open a CPU session on ONNX bytes or a file."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _stamp(graph: Any, spec: InputSpec, class_names: tuple[str, ...]) -> None:
    """Write what `detection/` reads into the file itself, so that a model cannot be run as another's."""
    del graph.metadata_props[:]
    for key, value in ((SPEC_KEY, encode(spec).decode()), (CLASSES_KEY, json.dumps(list(class_names)))):
        entry = graph.metadata_props.add()
        entry.key, entry.value = key, value
    graph.producer_name, graph.producer_version, graph.doc_string = "whetstone", "", ""
