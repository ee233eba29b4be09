"""Write static int8: weights per output channel, activations as uint8 with a zero point, as QDQ nodes.

QDQ (quantise, dequantise) leaves a graph of ordinary operators that every onnxruntime since 1.10 reads and
fuses. Activations are uint8 with a free zero point, since most of them come out of SiLU and lie between -0.28
and some large number: a symmetric int8 would spend half its steps on nothing, and on x86 onnxruntime runs
it twice as slowly (ADR 15). TensorRT wants symmetric int8 and is better served by the float16 file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import contextmanager
from typing import Any

from trainer.formats.calibration import Range
from trainer.formats.graphs import QUANTISED_OPS, sort_nodes


def quantised(graph: Any, ranges: Mapping[str, Range], kept: Iterable[str]) -> Any:
    """Return the int8 twin of a float model; the argument is not changed.

    Args:
        graph: the exported model.
        ranges: of every tensor that goes into or comes out of a node that is quantised.
        kept: names of nodes that stay in float.
    """
    import numpy as np
    import onnx
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    copy = onnx.ModelProto()
    copy.CopyFrom(graph)
    table = {
        name: TensorData(lowest=np.float32(one.low), highest=np.float32(one.high))
        for name, one in ranges.items()
    }
    with _quiet():
        quantizer = QDQQuantizer(
            copy, True, False, QuantType.QInt8, QuantType.QUInt8,  # per channel, full range
            TensorsData(CalibrationMethod.MinMax, table), None, list(kept), list(QUANTISED_OPS),
            {"ActivationSymmetric": False, "WeightSymmetric": True},
        )  # fmt: skip
        quantizer.quantize_model()
    made = quantizer.model.model
    _drop_unused_domains(made)
    sort_nodes(made.graph)
    onnx.checker.check_model(made)
    return made


def _drop_unused_domains(model: Any) -> None:
    """Leave only the operator sets that nodes use: a reader may refuse one that it does not know."""
    used = {node.domain or "" for node in model.graph.node}
    kept = [one for one in model.opset_import if (one.domain or "") in used]
    versions = [(one.domain, one.version) for one in kept]
    del model.opset_import[:]
    for domain, version in versions:
        entry = model.opset_import.add()
        entry.domain, entry.version = domain, version


@contextmanager
def _quiet() -> Any:
    """Keep the quantizer from advising on the root logger, which is not ours."""
    import logging

    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
