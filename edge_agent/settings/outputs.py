"""Say which devices of the line hear of decisions: `[[outputs]]`, one table for each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, Field, StringConstraints, model_validator
from typing_extensions import Self

from edge_agent.settings.base import Section, Some
from fleet_contracts.ids import SLUG

Lane = Literal["accept", "reject", "unsure"]
Point = Literal["accept", "reject", "unsure", "parts", "verdict", "heartbeat", "failsafe", "stop"]
BitPoint = Literal["accept", "reject", "unsure", "heartbeat", "failsafe", "stop"]
Port = Annotated[int, Field(ge=1, le=65535)]
Register = Annotated[int, Field(ge=0, le=65535)]
ALL_LANES: tuple[Lane, ...] = ("accept", "reject", "unsure")


class OutputConfig(Section):
    """Say what every output has: which parts it acts on, when, and what it shows when we are in trouble."""

    name: Annotated[str, StringConstraints(pattern=SLUG)]
    on: tuple[Lane, ...] = ("reject",)
    """Verdicts that are pulsed."""
    unsure: Literal["reject", "accept", "separate"] = "reject"
    """Where parts go that nobody is sure about; `separate` needs "unsure" in `on`."""
    travel_ms: Annotated[float, Field(ge=0.0, le=600_000.0)] = 0.0
    """How long a part travels from the camera to this output, 0 = it acts as soon as a part is decided."""
    pulse_ms: Annotated[float, Field(ge=1.0, le=60_000.0)] = 100.0
    late_ok_ms: Annotated[float, Field(ge=0.0, le=60_000.0)] = 20.0
    """How late a pulse may begin and still hit its own part; not for an output without travel."""
    timeout_ms: Annotated[float, Field(ge=10.0, le=800.0)] = 200.0
    """How long the device may take to answer; nothing is asked twice."""
    failsafe: Literal["reject_all", "pass_all", "stop_line"] = "reject_all"
    failsafe_after_ms: Annotated[float, Field(ge=0.0, le=800.0)] = 200.0
    """How long trouble must last before the fail-safe state is shown."""
    recover_ms: Annotated[float, Field(ge=0.0, le=600_000.0)] = 1000.0
    """How long all must be well before it is left."""
    stall_ms: Annotated[float, Field(ge=100.0, le=60_000.0)] = 400.0
    """How long one engine call, or the loop outside of one, may take; above 700 a hang shows after 1 s."""
    silence_ms: Annotated[float, Field(ge=0.0, le=600_000.0)] = 700.0
    """How long a camera without a trigger may give no frame; longer than its interval; 0 = not watched."""
    failsafe_problems: tuple[str, ...] = ("camera.", "source.", "engine.", "model.", "rules.")
    """Problems that mean that parts pass uninspected, by how their names begin."""
    heartbeat_ms: Annotated[float, Field(ge=20.0, le=250.0)] = 200.0
    queue_parts: Annotated[int, Field(ge=1, le=10_000)] = 256
    """Parts under way between camera and output at most."""
    reconnect_max_s: Some = 5.0
    at_stop: Literal["failsafe", "rest"] = "failsafe"
    """What the output shows when the agent is stopped in good order."""

    @model_validator(mode="after")
    def _addresses_suffice(self) -> Self:
        missing = sorted({*self.on, *_needed(self.failsafe)} - self.addressed())
        if missing:
            raise ValueError(f"output {self.name!r} needs an address for {', '.join(missing)}")
        if self.unsure == "separate" and "unsure" not in self.on:
            raise ValueError(f"output {self.name!r}: unsure = 'separate' needs 'unsure' in on")
        return self

    def addressed(self) -> frozenset[Point]:
        """Return the points that have an address."""
        return frozenset(ALL_POINTS)


ALL_POINTS: tuple[Point, ...] = (*ALL_LANES, "parts", "verdict", "heartbeat", "failsafe", "stop")


class ModbusOutput(OutputConfig):
    """Be a Modbus TCP device. Addresses count from 0; a bit in a register is written as 0 or 1."""

    kind: Literal["modbus"]
    host: Annotated[str, Field(min_length=1)]
    port: Port = 502
    unit: Annotated[int, Field(ge=0, le=255)] = 1
    coils: dict[BitPoint, Register] = Field(default_factory=dict)
    registers: dict[Point, Register] = Field(default_factory=dict)

    def addressed(self) -> frozenset[Point]:
        """Return the points that have an address."""
        return frozenset((*self.coils, *self.registers))

    @model_validator(mode="after")
    def _addresses_differ(self) -> Self:
        _require_different(self.coils, "coil")
        _require_different(self.registers, "register")
        return self


class OpcUaOutput(OutputConfig):
    """Be an OPC UA server; nodes by their ids, such as `ns=2;s=Sorter.Reject`."""

    kind: Literal["opcua"]
    url: Annotated[str, Field(pattern=r"^opc\.tcp://.+")]
    nodes: dict[Point, str] = Field(default_factory=dict)
    security_policy: Literal["", "Basic256Sha256", "Aes128Sha256RsaOaep", "Aes256Sha256RsaPss"] = ""
    security_mode: Literal["Sign", "SignAndEncrypt"] = "SignAndEncrypt"
    cert_file: Path | None = None
    key_file: Path | None = None
    server_cert_file: Path | None = None
    """The only server certificate that is trusted."""
    username: str = ""
    password_file: Path | None = None

    def addressed(self) -> frozenset[Point]:
        """Return the points that have an address."""
        return frozenset(self.nodes)

    @model_validator(mode="after")
    def _addresses_differ(self) -> Self:
        _require_different(self.nodes, "node")
        return self

    @model_validator(mode="after")
    def _security_has_its_files(self) -> Self:
        if self.security_policy and not (self.cert_file and self.key_file and self.server_cert_file):
            raise ValueError("security_policy needs cert_file, key_file and server_cert_file")
        if self.username and self.password_file is None:
            raise ValueError("username needs password_file")
        return self


class MqttOutput(OutputConfig):
    """Be a broker: `<topic>/part` gets a JSON document per part, `/heartbeat` and `/failsafe` the rest."""

    kind: Literal["mqtt"]
    on: tuple[Lane, ...] = ALL_LANES
    unsure: Literal["reject", "accept", "separate"] = "separate"
    host: Annotated[str, Field(min_length=1)]
    port: Port = 1883
    topic: Annotated[str, StringConstraints(pattern=r"^[^+#/\s][^+#\s]*[^+#/\s]$")]
    client_id: str = ""
    username: str = ""
    password_file: Path | None = None
    tls: bool = False
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None


BitAddress = Annotated[str, StringConstraints(pattern=r"^\d{1,5}\.[0-7]$")]
ByteAddress = Annotated[int, Field(ge=0, le=65534)]


class S7Output(OutputConfig):
    """Be a Siemens S7: bits of one data block as `"byte.bit"`, numbers as the first byte of a WORD."""

    kind: Literal["s7"]
    host: Annotated[str, Field(min_length=1)]
    port: Port = 102
    rack: Annotated[int, Field(ge=0, le=7)] = 0
    slot: Annotated[int, Field(ge=0, le=31)] = 1
    db: Annotated[int, Field(ge=1, le=65535)]
    bits: dict[BitPoint, BitAddress] = Field(default_factory=dict)
    words: dict[Literal["parts", "verdict"], ByteAddress] = Field(default_factory=dict)

    def addressed(self) -> frozenset[Point]:
        """Return the points that have an address."""
        return frozenset((*self.bits, *self.words))

    @model_validator(mode="after")
    def _addresses_differ(self) -> Self:
        taken: dict[str, int] = {}
        for point, bit in self.bits.items():
            byte, place = bit.split(".")
            taken[point] = 8 * int(byte) + int(place)
        for word, start in self.words.items():
            taken |= {f"{word} bit {index}": 8 * start + index for index in range(16)}
        _require_different(taken, "bit")
        return self


Line = Annotated[int, Field(ge=0, le=1023)]


class GpioOutput(OutputConfig):
    """Be pins of this box, by their line numbers on a chip."""

    kind: Literal["gpio"]
    chip: str = "/dev/gpiochip0"
    lines: dict[BitPoint, Line] = Field(default_factory=dict)
    active_low: tuple[BitPoint, ...] = ()
    readback: dict[BitPoint, Line] = Field(default_factory=dict)
    """Input lines that are wired to outputs: every write is then checked at the pin itself."""

    def addressed(self) -> frozenset[Point]:
        """Return the points that have an address."""
        return frozenset(self.lines)

    @model_validator(mode="after")
    def _lines_differ(self) -> Self:
        used = [*self.lines.values(), *self.readback.values()]
        if len(set(used)) != len(used):
            raise ValueError("each line can serve one purpose only")
        if not {*self.readback, *self.active_low} <= set(self.lines):
            raise ValueError("readback and active_low speak of points that have a line")
        return self


class LogOutput(OutputConfig):
    """Be a line in the log per part; for setting up, and for lines where people sort."""

    kind: Literal["log"]
    on: tuple[Lane, ...] = ALL_LANES
    unsure: Literal["reject", "accept", "separate"] = "separate"


AnyOutput: TypeAlias = "ModbusOutput | OpcUaOutput | MqttOutput | S7Output | GpioOutput | LogOutput"


def _names_differ(outputs: tuple[AnyOutput, ...]) -> tuple[AnyOutput, ...]:
    names = [one.name for one in outputs]
    if len(set(names)) != len(names):
        raise ValueError(f"output names must differ, got {names}")
    return outputs


Outputs = Annotated[
    tuple[
        Annotated[
            ModbusOutput | OpcUaOutput | MqttOutput | S7Output | GpioOutput | LogOutput,
            Field(discriminator="kind"),
        ],
        ...,
    ],
    AfterValidator(_names_differ),
]


def _require_different(addresses: Mapping[Any, object], what: str) -> None:
    """Refuse two points at one address: a heartbeat on the ejector's coil would eject parts."""
    points: dict[object, object] = {}
    for point, address in addresses.items():
        if address in points:
            raise ValueError(f"{points[address]} and {point} share a {what}; each needs one of its own")
        points[address] = point


def _needed(failsafe: str) -> tuple[Point, ...]:
    """Return the points a fail-safe state cannot do without."""
    return {"reject_all": ("reject",), "stop_line": ("stop",)}.get(failsafe, ())  # type: ignore[return-value]
