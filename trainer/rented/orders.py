"""Read what a rented machine is told: by its environment, and by the guard to the trainer it starts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from fleet_contracts.renting import LEASE, POWER_OFF, UNTIL, WORK
from trainer.errors import OrdersRefused

_DEFAULT_WORK = "whetstone-work"


@dataclass(frozen=True, slots=True)
class Orders:
    """Hold under which lease a machine runs, until when, how it is switched off, and where it works."""

    lease: str
    until: datetime
    work: Path
    power_off: str = field(default="", repr=False)
    """It may hold a key that ends this one machine."""

    @property
    def place(self) -> Path:
        """Return the folder of this lease: log, clock note, ticket."""
        return self.work / "leases" / self.lease

    @property
    def log(self) -> Path:
        """Return where the trainer's output goes."""
        return self.place / "trainer.log"

    @property
    def clock(self) -> Path:
        """Return where the trainer leaves what the store's clock showed."""
        return self.place / "clock.json"

    @property
    def ticket(self) -> Path:
        """Return where the ticket lies, for the trainer and for the farewell."""
        return self.place / "ticket.json"


@dataclass(frozen=True, slots=True)
class Handover:
    """Hold what the guard tells the trainer by standard input; `began` is in `ticks`."""

    orders: Orders
    claim: str = field(repr=False)
    guard: int
    began: float


def read_orders(environment: Mapping[str, str]) -> Orders:
    """Read the environment a machine was started with.

    Raises:
        OrdersRefused: it lacks a name, or the deadline cannot be read.
    """
    lease, told = environment.get(LEASE, ""), environment.get(UNTIL, "")
    if not lease or "/" in lease or lease.startswith("."):
        raise OrdersRefused(expected=f"the lease's name in {LEASE}", got=repr(lease), where="environment")
    try:
        until = datetime.fromisoformat(told.replace("Z", "+00:00"))
    except ValueError as error:
        raise OrdersRefused(
            expected=f"a moment in ISO 8601 in {UNTIL}", got=repr(told), where="environment"
        ) from error
    if until.tzinfo is None:
        raise OrdersRefused(expected=f"a time zone in {UNTIL}", got=told, where="environment")
    work = Path(environment.get(WORK) or Path.home() / _DEFAULT_WORK).expanduser().absolute()
    return Orders(lease, until, work, environment.get(POWER_OFF, ""))


def pack(told: Handover) -> bytes:
    """Return a handover as bytes for the trainer's standard input."""
    orders = told.orders
    return json.dumps({
        "lease": orders.lease, "until": orders.until.isoformat(), "work": str(orders.work),
        "power_off": orders.power_off, "claim": told.claim, "guard": told.guard, "began": told.began,
    }).encode()  # fmt: skip


def unpack(content: bytes) -> Handover:
    """Read a handover back."""
    told = json.loads(content)
    until = datetime.fromisoformat(told["until"])
    orders = Orders(told["lease"], until, Path(told["work"]), told["power_off"])
    return Handover(orders, told["claim"], int(told["guard"]), float(told["began"]))
