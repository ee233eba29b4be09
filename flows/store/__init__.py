"""Reach the object store through one port, with a MinIO client and an in-memory twin behind it."""

from __future__ import annotations

from flows.store.base import ObjectInfo, ObjectStore
from flows.store.memory import MemoryStore

__all__ = ["MemoryStore", "ObjectInfo", "ObjectStore"]
