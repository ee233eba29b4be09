"""Be an updater that never updates: the in-memory twin of `ota.updater`, for dry runs and tests.

It serves the models it is given, the first at once, the others when told to.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from edge_agent.model_slot import ModelSlot, ServingModel
from fleet_contracts.releases import DeviceState, RolloutOrder


@dataclass(frozen=True, slots=True)
class StillState:
    """Hold what such an updater says of itself."""

    release_version: int = 0
    model_id: str | None = None
    state: DeviceState = "serving"
    rollout_id: str = ""
    problem: str = ""
    metadata_expired: bool = False


class StillUpdater:
    """Offer a fixed model; remember orders, and follow none."""

    def __init__(self, slot: ModelSlot, first: ServingModel | None = None) -> None:
        self._slot = slot
        self._first = first
        self._serving = first
        self.orders: list[RolloutOrder] = []

    def run(self, stop: threading.Event) -> None:
        """Offer the first model, then wait for the end."""
        if self._first is not None:
            self._slot.offer(self._first)
        stop.wait()

    def offer(self, model: ServingModel) -> None:
        """Offer another model."""
        self._serving = model
        self._slot.offer(model)

    def on_order(self, order: RolloutOrder) -> None:
        """Remember an order."""
        self.orders.append(order)

    def state(self) -> StillState:
        """Say what was offered last."""
        if self._serving is None:
            return StillState(state="starting")
        return StillState(self._serving.release_version, self._serving.model_id)

    def wake(self) -> None:
        """Do nothing."""
