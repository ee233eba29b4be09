"""Test that the guide to renting and the code say the same: examples, kinds, commands."""

from __future__ import annotations

import re

import pytest
import tomllib
from typer.main import get_command

from flows.cli.app import app
from flows.gpus.providers import MADE_BY
from flows.settings import Settings
from tests.helpers import ROOT

GUIDE = (ROOT / "docs" / "renting.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```toml\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_every_example_is_taken_as_settings(number: int) -> None:
    """What a person copies into whetstone.toml is read without an error."""
    content = tomllib.loads(EXAMPLES[number])
    Settings.model_validate({"installation": "plant7", **content})


def test_every_kind_of_provider_has_its_place() -> None:
    """Each kind stands in the table at the top and in an example."""
    shown = {
        section["kind"] for text in EXAMPLES for section in tomllib.loads(text).get("providers", {}).values()
    }
    assert shown == set(MADE_BY)
    assert all(f"| `{kind}` |" in GUIDE for kind in MADE_BY)


def test_every_command_it_names_is_there() -> None:
    """`whetstone gpus X` exists for each X that is shown."""
    named = set(re.findall(r"whetstone gpus ([a-z]+)", GUIDE))
    group = get_command(app).commands["gpus"]  # type: ignore[attr-defined]
    assert named == set(group.commands)
