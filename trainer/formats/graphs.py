"""Know an exported graph: which nodes can be quantised, which belong together, what they cost.

A block is what one module of the network became (`/model/model.6/...`); the head, whose branches answer for
different sizes of objects, falls into one block a branch.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

QUANTISED_OPS = ("Conv", "Concat", "MaxPool", "Add", "Mul", "Sigmoid", "Resize", "Slice", "Split")
"""What is computed in int8. Attention (MatMul, Softmax) stays in float: little work, wide ranges."""
_FLOAT = 1  # TensorProto.FLOAT; the package is loaded where it is needed
_BLOCK = re.compile(r"^/?(?:model/)?model\.(\d+)/(?:([^/]+)/)?")


@dataclass(frozen=True, slots=True)
class Block:
    """Name nodes that are kept in float together, and what share of the network's multiplications they do."""

    name: str
    nodes: tuple[str, ...]
    convolutions: tuple[str, ...]
    share: float


def infer_shapes(graph: Any) -> Any:
    """Return the model with the shapes of its inner tensors written down."""
    import onnx

    return onnx.shape_inference.infer_shapes(graph)


def float_shapes(inferred: Any) -> dict[str, tuple[int, ...]]:
    """Return the float tensors of a model whose shapes are known, inner ones and outputs."""
    shapes = {}
    for value in (*inferred.graph.value_info, *inferred.graph.output):
        kind = value.type.tensor_type
        if kind.elem_type == _FLOAT:
            shapes[value.name] = tuple(side.dim_value for side in kind.shape.dim)
    return shapes


def observed_tensors(inferred: Any) -> tuple[str, ...]:
    """Return the float tensors that go into or come out of quantised nodes, in the order of the graph."""
    known = float_shapes(inferred)
    names: dict[str, None] = {}
    for node in inferred.graph.node:
        if node.op_type in QUANTISED_OPS:
            names.update((name, None) for name in (*node.input, *node.output) if name in known)
    return tuple(names)


def output_nodes(graph: Any, outputs: Iterable[str]) -> tuple[str, ...]:
    """Return the last convolutions before these outputs, and all that lies between: how a head decodes.

    One step of int8 in a last convolution is one step of a score or a side, and coordinates in pixels, which
    decoding computes with, are beyond what eight bits or half floats tell apart.
    """
    makers = {name: node for node in graph.graph.node for name in node.output}
    waiting = [name for name in outputs if name in makers]
    found: dict[str, Any] = {}
    while waiting:
        node = makers[waiting.pop()]
        if node.name in found:
            continue
        found[node.name] = node
        # The convolution of DFL only sums a distribution up; the one that made it comes before.
        if node.op_type != "Conv" or "/dfl/" in node.name:
            waiting += [name for name in node.input if name in makers]
    return tuple(node.name for node in graph.graph.node if node.name in found)


def convolutions_of(graph: Any, names: Iterable[str]) -> tuple[str, ...]:
    """Return which of these nodes are convolutions, in the order of the graph."""
    wanted = set(names)
    return tuple(node.name for node in graph.graph.node if node.op_type == "Conv" and node.name in wanted)


def first_convolutions(graph: Any) -> tuple[str, ...]:
    """Return the nodes up to and with the first convolution, which holds the scale of the pixels."""
    names = []
    for node in graph.graph.node:
        names.append(node.name)
        if node.op_type == "Conv":
            break
    return tuple(names)


def blocks_of(inferred: Any) -> tuple[Block, ...]:
    """Return the quantisable nodes by block, in the order of the graph."""
    costs = _multiplications(inferred)
    total = max(sum(costs.values()), 1)
    nodes = [node for node in inferred.graph.node if node.op_type in QUANTISED_OPS]
    head = _head_number(node.name for node in nodes)
    groups: dict[str, list[Any]] = {}
    for node in nodes:
        groups.setdefault(_block_name(node.name, head), []).append(node)
    return tuple(
        Block(
            name=name,
            nodes=tuple(node.name for node in members),
            convolutions=tuple(node.name for node in members if node.op_type == "Conv"),
            share=sum(costs.get(node.name, 0) for node in members) / total,
        )
        for name, members in groups.items()
        if any(node.op_type == "Conv" for node in members)
    )


def sort_nodes(graph: Any) -> None:
    """Put nodes behind those they read from, which ONNX asks for and converters do not keep."""
    nodes = list(graph.node)
    makers = {name: index for index, node in enumerate(nodes) for name in node.output}
    reads = [[makers[name] for name in node.input if name in makers] for node in nodes]
    waits = [len(set(made)) for made in reads]
    readers: list[list[int]] = [[] for _ in nodes]
    for index, made in enumerate(reads):
        for maker in set(made):
            readers[maker].append(index)
    # The earliest of those that can go: a graph that is in order stays as it is.
    ready = [index for index, count in enumerate(waits) if count == 0]
    ordered = []
    while ready:
        index = heapq.heappop(ready)
        ordered.append(nodes[index])
        for reader in readers[index]:
            waits[reader] -= 1
            if waits[reader] == 0:
                heapq.heappush(ready, reader)
    if len(ordered) != len(nodes):
        raise ValueError("expected a graph without loops, got one that cannot be put into order")
    copies = [type(node).FromString(node.SerializeToString()) for node in ordered]
    del graph.node[:]
    graph.node.extend(copies)


def _head_number(names: Iterable[str]) -> int:
    numbers = [int(found[1]) for name in names if (found := _BLOCK.match(name))]
    return max(numbers, default=-1)


def _block_name(node: str, head: int) -> str:
    found = _BLOCK.match(node)
    if found is None:
        # Another exporter's names: what lies in one folder belongs together.
        return node.rsplit("/", 2)[0] or node
    number = int(found[1])
    return f"model.{number}/{found[2]}" if number == head and found[2] else f"model.{number}"


def _multiplications(inferred: Any) -> dict[str, int]:
    """Return multiplications of each convolution for one image."""
    shapes = float_shapes(inferred)
    weights = {one.name: tuple(one.dims) for one in inferred.graph.initializer}
    costs = {}
    for node in inferred.graph.node:
        if node.op_type != "Conv" or node.input[1] not in weights:
            continue
        grid = shapes.get(node.output[0], ())[2:]
        cost = 1
        for side in (*weights[node.input[1]], *grid):
            cost *= max(side, 1)
        costs[node.name] = cost
    return costs
