"""Ask the tracing child for a profile; both sides read this."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

RECIPE = 2
"""Counts changes to how profiles are made, so that older ones in a cache are not taken."""


class TraceRequest(BaseModel):
    """Name a network: a yaml ultralytics knows or a file, or a `.pt`, with the class list to build it for.

    `class_names` empty means `classes` made-up names after those a `.pt` has.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    model: str
    classes: int
    class_names: tuple[str, ...] = ()
    freeze_layers: int = 0
    threads: int = 0
    out: Path


class TraceFailure(BaseModel):
    """Hold why a profile could not be made."""

    expected: str
    got: str
    where: str
    now: str = ""
