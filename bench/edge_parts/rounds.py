"""Let contenders run in turn, block by block, each in its own child; only one works at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.edge_parts.children import ROOT, Block, Child, ChildFailed, python_module
from bench.edge_parts.exports import WORK, Exports
from bench.edge_parts.plan import BARE, ENGINE, LOOP, ROBOFLOW, WARM, Growth, Scenario, Tails
from edge_agent.settings.inference import InferenceConfig

PEERS = ROOT / ".venv-peers" / "bin" / "python"
MEASURED_CORE = 0
BESIDE = "beside"
"""Our loop with work on the other core."""
Advance = Callable[[float], None]


@dataclass(slots=True)
class Measured:
    """Hold the rounds of one scenario: blocks by contender, what each found, used, and why one is missing."""

    scenario: Scenario
    rounds: list[dict[str, Block]] = field(default_factory=list)
    found: dict[str, list[list[list[float]]]] = field(default_factory=dict)
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def blocks(self, name: str) -> list[Block]:
        """Return a contender's blocks."""
        return [told[name] for told in self.rounds if name in told]

    def paired(self, *names: str) -> list[list[float]]:
        """Return the time per frame of some contenders, one list each, of the rounds all took part in."""
        shared = [told for told in self.rounds if all(name in told for name in names)]
        return [[told[name].mean_ms for told in shared] for name in names]


@dataclass(slots=True)
class Beside:
    """Hold the loop's blocks with the other core idle and busy."""

    tails: Tails
    idle: list[Block] = field(default_factory=list)
    busy: list[Block] = field(default_factory=list)
    done: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Memory:
    """Hold the loop's resident memory in MB along frames and along swaps."""

    growth: Growth
    by_frames: list[float] = field(default_factory=list)
    by_swaps: list[float] = field(default_factory=list)
    gaps_ms: list[float] = field(default_factory=list)


def run_scenario(scenario: Scenario, exports: Exports, advance: Advance) -> Measured:
    """Measure every contender that starts; the loop and the bare engine must."""
    measured = Measured(scenario)
    cores = list(range(scenario.cores))
    with ExitStack() as open_ones:
        children: dict[str, Child] = {}
        for name in scenario.every:
            try:
                children[name] = open_child(name, exports, cores)
            except ChildFailed as error:
                if name != ROBOFLOW:
                    raise
                measured.missing[name] = str(error)
                continue
            open_ones.callback(children[name].close)
        for number in range(scenario.blocks):
            told: dict[str, Block] = {}
            for name in (name for name in scenario.order(number) if name in children):
                told[name] = children[name].run(scenario.frames, WARM)
                advance(scenario.seconds() / scenario.blocks / len(scenario.order(number)))
            measured.rounds.append(told)
        measured.facts = {name: child.ask("facts") for name, child in children.items()}
        # After their memory was read, since our loop's child loads a second detector to look with.
        for name in [name for name in children if name not in (BARE, ENGINE)]:
            measured.found[name] = children[name].ask("look")["found"]
        _end(children.get(LOOP))
    return measured


def run_tails(tails: Tails, exports: Exports, other_core: int, advance: Advance) -> Beside:
    """Measure the loop in pairs of blocks, the other core idle in one and at work in the other."""
    beside = Beside(tails)
    with ExitStack() as open_ones:
        served = {"kind": "servers", "cores": [other_core], "folder": str(exports.ours.parent)}
        servers = Child(python_module("servers"), served, WORK / "servers.log")
        open_ones.callback(servers.close)
        more = {"port": servers.ask("facts")["port"], "other_core": other_core}
        line = open_child(BESIDE, exports, [MEASURED_CORE], more)
        open_ones.callback(line.close)
        for number in range(tails.pairs):
            for busy in (False, True) if number % 2 == 0 else (True, False):
                line.ask("busy", on=busy)
                block = line.run(tails.frames, WARM)
                (beside.busy if busy else beside.idle).append(block)
                advance(tails.seconds() / tails.pairs / 2)
        beside.done = line.ask("busy", on=False)
        beside.done["received"] = servers.ask("facts")["received"]
        beside.facts = line.ask("facts")
        _end(line)
    return beside


def run_growth(growth: Growth, exports: Mapping[int, Exports], advance: Advance) -> Memory:
    """Sample the loop's resident memory along many frames, then along many swaps."""
    memory = Memory(growth)
    line = open_child(LOOP, exports[growth.frames_size], [MEASURED_CORE])
    try:
        for _ in range(growth.frames // growth.sample_every):
            line.run(growth.sample_every, WARM)
            memory.by_frames.append(line.ask("facts")["rss_mb"])
            advance(growth.seconds() * 0.8 * growth.sample_every / growth.frames)
        _end(line)
    finally:
        line.close()
    line = open_child(LOOP, exports[growth.swaps_size], [MEASURED_CORE])
    try:
        for number in range(growth.first_swaps + growth.swaps):
            told = line.ask("swap", frames=growth.frames_per_swap)
            if number >= growth.first_swaps:
                memory.by_swaps.append(told["rss_mb"])
                memory.gaps_ms.append(told["gap_ms"])
            advance(growth.seconds() * 0.2 / (growth.first_swaps + growth.swaps))
        _end(line)
    finally:
        line.close()
    return memory


def open_child(
    kind: str, exports: Exports, cores: Sequence[int], more: Mapping[str, Any] | None = None
) -> Child:
    """Start a contender.

    Raises:
        ChildFailed: it cannot run here; the message says why.
    """
    box = InferenceConfig()
    ours = kind in (ENGINE, LOOP, BESIDE)
    spec = {
        "kind": kind, "cores": list(cores), "threads": 1, "size": exports.size, "names": exports.names,
        "onnx": str(exports.ours if ours else exports.plain), "frames": str(exports.frames),
        "conf": box.min_confidence, "iou": box.iou, "work": str(WORK), **(more or {}),
    }  # fmt: skip
    module = {LOOP: "line", BESIDE: "line", ROBOFLOW: "roboflow"}.get(kind, "contenders")
    if kind == ROBOFLOW and not PEERS.exists():
        raise ChildFailed("not installed; scripts/peers.sh installs it")
    return Child(_command(module, kind), spec, Path(WORK / f"{kind}.log"))


def _command(module: str, kind: str) -> list[str]:
    return python_module(module, PEERS) if kind == ROBOFLOW else python_module(module)


def _end(line: Child | None) -> None:
    """Let our loop stop in good order, so that its folder goes with it."""
    if line is not None:
        line.ask("end")
