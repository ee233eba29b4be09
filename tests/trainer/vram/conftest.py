"""Trace two networks once for all tests: a tiny one with one head, and one with two heads and attention."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers import ROOT
from trainer.vram import ModelProfile, profile_of

TINY = str(ROOT / "tests" / "trainer" / "tiny.yaml")
TWO_HEADS = "yolo26n.yaml"


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder in which the session's profiles are kept."""
    return tmp_path_factory.mktemp("profiles")


@pytest.fixture(scope="session")
def tiny(cache: Path) -> ModelProfile:
    """Trace the tiny network."""
    return profile_of(TINY, 2, cache=cache)


@pytest.fixture(scope="session")
def two_heads(cache: Path) -> ModelProfile:
    """Trace yolo26n, which has one-to-many and one-to-one heads and attention."""
    return profile_of(TWO_HEADS, 2, cache=cache)
