"""Measure what an idle box writes: SD cards die of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from edge_agent.events import Events
from edge_agent.link.mqtt import MqttLink
from tests.edge_agent.builders import DEVICE, TASK, write_config
from tests.edge_agent.cloud_twin import CloudTwin, cloud_options
from tests.edge_agent.power_cut.harness import PowerSupply
from tests.edge_agent.put_server import PutServer
from tests.edge_agent.real_broker import RealBroker
from tests.helpers import ROOT, wait_until

IDLE_S = 180.0
MOST_BYTES_PER_HOUR = 1_000_000
"""A card of 32 GB that stands 1,000 cycles would last for thousands of years; sixty fsyncs an hour likewise."""


@dataclass(frozen=True)
class Wear:
    """Hold what a process had written at a moment."""

    at: float
    process_bytes: int
    data_bytes: int
    syncs: int

    @classmethod
    def of(cls, process: subprocess.Popen[bytes], supply: PowerSupply) -> Wear:
        """Read it: all the process made the disk write, and what of it went to its data folder."""
        fields = dict(line.split(": ") for line in Path(f"/proc/{process.pid}/io").read_text().splitlines())
        counts = supply.counts()
        syncs = counts["file_syncs"] + counts["folder_syncs"]
        return cls(time.monotonic(), int(fields["write_bytes"]), counts["bytes_written"], syncs)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_an_idle_box_hardly_writes(shim: Path, tmp_path: Path, broker: RealBroker, store: PutServer) -> None:
    """With default settings, a broker, and no frame for three minutes; extrapolated to an hour."""
    supply = PowerSupply(shim, tmp_path / "data", tmp_path / "power")
    supply.begin()
    (tmp_path / "frames").mkdir()
    (tmp_path / "root.json").write_text("{}")
    write_config(tmp_path, broker.port, outbox={"free_floor_mb": 0})
    cloud = CloudTwin(TASK, MqttLink(broker.config(), cloud_options(), Events()), store)
    cloud.start()
    with (tmp_path / "agent.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.edge_agent.agent_process", str(tmp_path / "agent.toml")],
            cwd=ROOT,
            env={**os.environ, **supply.environment()},
            stdout=log,
            stderr=log,
        )
    try:
        wait_until(lambda: DEVICE in cloud.reports, 30, "a report")
        settled = time.monotonic() + 15
        wait_until(lambda: time.monotonic() > settled, 30, "the start to be over")
        before = Wear.of(process, supply)
        wait_until(lambda: time.monotonic() > before.at + IDLE_S, IDLE_S + 10, "idle minutes")
        after = Wear.of(process, supply)
    finally:
        process.kill()
        process.wait(10)
        cloud.stop()
    hours = (after.at - before.at) / 3600
    figures = {
        "edge.idle_bytes_per_hour": round((after.process_bytes - before.process_bytes) / hours),
        "data_bytes_per_hour": round((after.data_bytes - before.data_bytes) / hours),
        "fsyncs_per_hour": round((after.syncs - before.syncs) / hours),
    }
    print(json.dumps(figures))
    assert before.syncs > 0, "the shim has counted the start"
    assert figures["edge.idle_bytes_per_hour"] < MOST_BYTES_PER_HOUR
    assert figures["fsyncs_per_hour"] < 70
