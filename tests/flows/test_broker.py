"""Test that the cloud side is let in by the production broker, and says what is wrong when it is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.errors import SettingsError
from flows.ingest.link import MqttLink
from flows.settings import BrokerSettings
from tests.edge_agent.link.certificates import Authority
from tests.edge_agent.link.production_broker import ProductionBroker
from tests.helpers import wait_until

TOPIC = "whetstone/v1/boards/up/box-1/report"


def settings_of(broker: ProductionBroker, name: str) -> BrokerSettings:
    client = broker.as_client(name)
    return BrokerSettings(
        host=client.host,
        port=client.port,
        tls=True,
        ca_file=client.ca_file,
        cert_file=client.cert_file,
        key_file=client.key_file,
    )


def test_ingest_is_let_in_by_its_certificate_and_hears_boxes(tmp_path: Path) -> None:
    """With the deployed settings and ACL, the cloud's certificate is its user name."""
    broker = ProductionBroker(tmp_path, Authority(tmp_path / "certs"))
    heard: list[str] = []
    broker.start()
    try:
        link = MqttLink(settings_of(broker, "whetstone-cloud"), tmp_path)
        link.start(lambda topic, _: heard.append(topic))
        try:
            wait_until(link.is_connected, 10, "ingest to be let in")

            def told() -> bool:
                link.publish(TOPIC, b"{}")
                return TOPIC in heard

            wait_until(told, 10, "ingest to hear a box's topic")
        finally:
            link.stop()
    finally:
        broker.stop()


def test_a_certificate_that_is_not_there_is_told_with_the_key_to_correct(tmp_path: Path) -> None:
    """Nothing is tried for ever with files that cannot be read."""
    broker = BrokerSettings(tls=True, cert_file=Path("none.pem"), key_file=Path("none-key.pem"))
    with pytest.raises(SettingsError, match="cert_file"):
        MqttLink(broker, tmp_path)
