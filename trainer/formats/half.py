"""Write float16: half the bytes, for boxes that compute in it (GPUs, TensorRT, ARM with half floats).

The first convolution stays in float32, since the scale of the pixels (1/255) is folded into its weights and
would make them numbers that float16 rounds away; so does the mean that makes features. Outputs are
float32 as before, so `detection/` reads them unchanged. A processor without float16 casts back and forth and
gains nothing but space: the gate measures what its own one does.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from trainer.formats.graphs import first_convolutions, sort_nodes

_FLOAT_OPS = ("ReduceMean", "TopK", "Range", "CumSum", "NonMaxSuppression", "Upsample")
"""Sums over many numbers, and what float16 has no kernel or no range for."""


def halved(graph: Any, kept: Iterable[str] = ()) -> Any:
    """Return the float16 twin of a float model with the same inputs and outputs; the argument is not changed.

    Args:
        graph: the exported model.
        kept: names of further nodes that stay in float32.
    """
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    copy = onnx.ModelProto()
    copy.CopyFrom(graph)
    blocked = [*first_convolutions(graph), *kept]
    made = convert_float_to_float16(
        copy, keep_io_types=True, op_block_list=list(_FLOAT_OPS), node_block_list=blocked
    )
    # Inferred shapes of inner tensors are of no use to a reader, and some carry the type they had before.
    del made.graph.value_info[:]
    _join_casts(made.graph)
    sort_nodes(made.graph)
    onnx.checker.check_model(made)
    return made


def _join_casts(graph: Any) -> None:
    """Connect float32 nodes directly where the converter went through float16 between them."""
    import onnx

    def casts(node: Any, kind: int) -> bool:
        return node.op_type == "Cast" and any(one.name == "to" and one.i == kind for one in node.attribute)

    down = {node.output[0]: node.input[0] for node in graph.node if casts(node, onnx.TensorProto.FLOAT16)}
    doubled = [node for node in graph.node if casts(node, onnx.TensorProto.FLOAT) and node.input[0] in down]
    direct = {node.output[0]: down[node.input[0]] for node in doubled}
    outputs = {one.name for one in graph.output}
    makers = {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name in direct:
                node.input[index] = direct[name]
    for name in set(direct) & outputs:
        # The node that writes the value takes over the output's name.
        maker = makers[direct[name]]
        old = direct[name]
        maker.output[list(maker.output).index(old)] = name
        for node in graph.node:
            for index, taken in enumerate(node.input):
                if taken == old:
                    node.input[index] = name
    for node in doubled:
        graph.node.remove(node)
    _drop_unread(graph, outputs)


def _drop_unread(graph: Any, outputs: set[str]) -> None:
    read = {name for node in graph.node for name in node.input} | outputs
    for node in [one for one in graph.node if one.op_type == "Cast" and not set(one.output) & read]:
        graph.node.remove(node)
