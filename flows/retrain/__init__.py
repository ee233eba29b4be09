"""Turn verified labels into a signed release: snapshot, plan, training, gate, release and rollout."""

from __future__ import annotations
