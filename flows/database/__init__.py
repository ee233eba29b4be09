"""Keep what needs transactions: leases, the champion, rollouts, triggers, and the catalog."""

from __future__ import annotations

from flows.database.engine import Database

__all__ = ["Database"]
