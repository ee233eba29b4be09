"""Test that the guides and the code say the same: every key, every example, every link."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from edge_agent.config import AgentConfig, BrokerConfig, parse_config
from edge_agent.doctor.certificates import judge_own
from edge_agent.events import Events
from edge_agent.link.base import LinkHandlers, LinkOptions
from edge_agent.link.mqtt import MqttLink
from edge_agent.settings.mistakes import keys_of
from tests.edge_agent.link.certificates import Authority
from tests.edge_agent.link.production_broker import ProductionBroker
from tests.edge_reference import GUIDE, written
from tests.helpers import ROOT, wait_until

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

BASE: dict[str, Any] = {
    "task_id": "boards",
    "device_id": "box-1",
    "data_dir": "data",
    "broker": {"host": "broker"},
    "releases": {"url": "http://r/", "root_file": "root.json"},
    "camera": {"source": "folder:frames"},
}
SECTIONS = tuple(AgentConfig.model_fields)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def examples(path: Path) -> list[str]:
    """Return the TOML blocks of a page that are the agent's, not the cloud side's."""
    found = re.findall(r"^```toml\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [text for text in found if not text.startswith("[tasks.")]


def test_every_key_and_its_default_stand_in_the_guide() -> None:
    """The tables are what the sections say; `python -m tests.edge_reference` writes them."""
    text = GUIDE.read_text(encoding="utf-8")
    assert text == written(text), "run: python -m tests.edge_reference"
    kinds = {"outputs.kind"}
    missing = [key for key in keys_of(AgentConfig) if f"`{key}`" not in text and key not in kinds]
    assert missing == []
    assert 'kind = "modbus"' in text


@pytest.mark.parametrize("number", range(len(examples(GUIDE))))
def test_every_example_of_the_guide_is_a_configuration(number: int) -> None:
    """A reader may paste any block into a working file."""
    values = {**BASE, **tomllib.loads(examples(GUIDE)[number])}
    parse_config(values, where=ROOT / "agent.toml")


def test_no_guide_names_a_key_that_does_not_exist() -> None:
    """A dotted name in backticks that begins like a section is a key."""
    known = set(keys_of(AgentConfig))
    known |= {key.rpartition(".")[0] for key in known}
    for page in PAGES:
        named = re.findall(r"`([a-z_]+(?:\.[a-z_]+)+)`", page.read_text(encoding="utf-8"))
        for name in named:
            section = name.partition(".")[0]
            if section in SECTIONS and not name.endswith((".md", ".py", ".toml")) and page == GUIDE:
                assert name in known or is_problem(name), f"{page.name}: {name}"


@cache
def code() -> str:
    """Return the box's whole code."""
    return "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "edge_agent").rglob("*.py"))


def is_problem(name: str) -> bool:
    """Tell whether a dotted name is a problem or event; some are put together from a prefix and a word."""
    return f'"{name}"' in code() or f'"{name.partition(".")[2]}"' in code()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_within_the_repository_lead_somewhere(page: Path) -> None:
    """No page points at a file that is gone."""
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_problems_named_in_the_guide_are_ones_the_agent_raises() -> None:
    """A reader who searches for what the report says finds it."""
    text = GUIDE.read_text(encoding="utf-8")
    for name in re.findall(
        r"`((?:source|camera|broker|store|link|engine|machine|clock|outbox)\.[a-z-]+)`", text
    ):
        if name not in keys_of(AgentConfig):
            assert is_problem(name), name


def test_the_recipe_for_certificates_fits_the_brokers_settings(tmp_path: Path) -> None:
    """The guide's openssl lines make a broker and a box that trust each other under deploy/mosquitto."""
    text = GUIDE.read_text(encoding="utf-8")
    recipe = next(block for block in re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S) if "-x509" in block)
    folder = tmp_path / "ca"
    folder.mkdir()
    lines = recipe.replace("192.0.2.10", "127.0.0.1")
    done = subprocess.run(
        ["bash", "-e", "-c", lines], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    facts = [finding.level for finding in judge_own(folder / "box-1.pem", folder / "box-1-key.pem", "box-1")]
    assert facts == ["ok"]
    broker = GuidesBroker(tmp_path, cast("Authority", SimpleNamespace(folder=folder)))
    broker.start()
    try:
        own = {"cert_file": folder / "box-1.pem", "key_file": folder / "box-1-key.pem"}
        settings = BrokerConfig(
            host="127.0.0.1", port=broker.port, tls=True, ca_file=folder / "ca.pem", **own
        )
        events = Events()
        link = MqttLink(settings, LinkOptions("box-1", ("whetstone/v1/boards/down/box-1/+",)), events)
        link.start(LinkHandlers())
        wait_until(link.is_connected, 15, f"the connection: {events.problems()}")
        link.stop()
    finally:
        broker.stop()


class GuidesBroker(ProductionBroker):
    """Be the production broker with the certificates of the guide."""

    def issue_server(self, hosts: tuple[str, ...], **times: object) -> None:
        """Leave the certificate that is there."""


def test_every_law_names_tests_that_are_there() -> None:
    """A law whose tests were renamed or dropped would go untested unseen."""
    text = (ROOT / "docs" / "laws.md").read_text(encoding="utf-8")
    laws = re.findall(r"^(\d+)\. \*\*", text, re.MULTILINE)
    rows = dict(re.findall(r"^\| (\d+) \| (.+) \|$", text, re.MULTILINE))
    assert list(rows) == laws
    for names in rows.values():
        for name in re.findall(r"`([^`]+)`", names):
            assert (ROOT / "tests" / name).exists(), name
