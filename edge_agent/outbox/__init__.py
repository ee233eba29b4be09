"""Keep hard examples on the box until the cloud has given a receipt for them."""

from __future__ import annotations

from edge_agent.outbox.books import PartKey, WaitingRow
from edge_agent.outbox.disk_guard import DiskGuard
from edge_agent.outbox.outbox import Outbox
from edge_agent.outbox.room import Loss
from edge_agent.outbox.writer import KeptFrame, OutboxWriter, PartDone

__all__ = ["DiskGuard", "KeptFrame", "Loss", "Outbox", "OutboxWriter", "PartDone", "PartKey", "WaitingRow"]
