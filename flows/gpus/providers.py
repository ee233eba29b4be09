"""Choose the providers of an installation by name; later ones are added to this table."""

from __future__ import annotations

from pathlib import Path

from flows.gpus.base import GpuProvider
from flows.gpus.local import LocalProvider


def providers(folder: Path) -> dict[str, GpuProvider]:
    """Return every provider this installation may rent from, by the name leases carry."""
    local = LocalProvider(folder)
    return {local.name: local}
