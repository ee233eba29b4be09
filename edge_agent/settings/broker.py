"""Say how the box reaches the MQTT broker."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from edge_agent.settings.base import Section, Some


class BrokerConfig(Section):
    """Say how the box reaches the MQTT broker."""

    host: Annotated[str, Field(min_length=1)]
    """With `tls`, a name or address that the broker's certificate carries."""
    port: Annotated[int, Field(ge=1, le=65535)] = 1883
    username: str = ""
    password_file: Path | None = None
    tls: bool = False
    ca_file: Path | None = None
    """Who signs the broker's certificate; without it the system's authorities are trusted."""
    cert_file: Path | None = None
    """The box's own certificate; its common name is the device id, which the broker's ACL goes by."""
    key_file: Path | None = None
    keepalive_s: Annotated[int, Field(ge=5, le=3600)] = 30
    """A connection that is dead without a word is noticed within this time."""
    reconnect_max_s: Some = 60.0
