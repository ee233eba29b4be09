"""Run Mosquitto with the project's own production settings: only paths and the listener's address differ."""

from __future__ import annotations

import os
from pathlib import Path

from edge_agent.config import BrokerConfig
from tests.edge_agent.link.certificates import Authority
from tests.edge_agent.real_broker import RealBroker
from tests.helpers import ROOT

DEPLOYED = ROOT / "deploy" / "mosquitto"


class ProductionBroker(RealBroker):
    """Be a broker with TLS, client certificates and the project's ACL."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        super().__init__(folder)
        self.authority = authority
        self.issue_server(("127.0.0.1", "localhost"))
        (folder / "data").mkdir(exist_ok=True)
        # Mosquitto wants a file of its own that others cannot write.
        (folder / "acl").write_bytes((DEPLOYED / "acl").read_bytes())
        (folder / "acl").chmod(0o600)

    def issue_server(self, hosts: tuple[str, ...], **times: object) -> None:
        """Give the broker another certificate; it is read at the next start."""
        self.authority.issue("broker", "server", hosts=hosts, **times)  # type: ignore[arg-type]

    def settings(self) -> str:
        """Return deploy/mosquitto/mosquitto.conf with the test's paths."""
        text = (DEPLOYED / "mosquitto.conf").read_text()
        for deployed, here in (
            ("listener 8883", f"listener {self.port} {self.address}"),
            ("/mosquitto/certs/", f"{self.authority.folder}/"),
            ("/mosquitto/config/acl", f"{self._folder}/acl"),
            ("/mosquitto/data/", f"{self._folder}/data/"),
        ):
            assert deployed in text, f"{deployed} is no longer in mosquitto.conf"
            text = text.replace(deployed, here)
        # Started as root it would become a user who cannot read the test's folder.
        return text + ("user root\n" if os.geteuid() == 0 else "")

    def as_client(self, common_name: str, **changes: object) -> BrokerConfig:
        """Return how a client with its own certificate reaches it."""
        certificate, key = self.authority.issue(common_name)
        return BrokerConfig(
            **{
                "host": self.address,
                "port": self.port,
                "tls": True,
                "ca_file": self.authority.ca_file,
                "cert_file": certificate,
                "key_file": key,
                "reconnect_max_s": 0.5,
                **changes,
            }
        )
