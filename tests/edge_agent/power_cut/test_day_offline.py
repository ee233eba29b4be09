"""Let a box keep examples for a day without a network, cut its power, and let it reconnect.

Every part is real: outbox, writer, link and uploader of the box, Mosquitto, `rclone serve s3`, and ingest in a
process of its own. The power is cut twice: at the end of the day, and in the middle of the upload.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sqlalchemy import select

from flows.context import Context, open_context
from flows.database.schema import SampleRow, SightingRow
from flows.settings import (
    BrokerSettings,
    LabelSettings,
    Settings,
    StoreSettings,
    TaskSettings,
    write_settings,
)
from flows.store.credentials import write_credentials
from flows.tasks import create_task
from tests.edge_agent.builders import CLASSES, DEVICE, TASK, write_config
from tests.edge_agent.power_cut.harness import PowerSupply
from tests.edge_agent.real_broker import RealBroker
from tests.flows.store.servers import CREDENTIALS, rclone_store
from tests.helpers import ROOT, wait_until

DAY = 24 * 60 * 10


@dataclass
class Site:
    """Hold a box on a power supply, and the cloud it will find."""

    folder: Path
    supply: PowerSupply
    broker: RealBroker
    ctx: Context
    accepted: list[str] = field(default_factory=list)
    add_ms: list[float] = field(default_factory=list)

    def box_until(self, first: int, count: int, *, lines: int, waiting: int | None = None) -> None:
        """Run the box until it has accepted `lines` examples or only `waiting` wait; then cut its power."""
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.edge_agent.power_cut.offline_box", str(self.folder / "agent.toml"),
             str(first), str(count)],
            cwd=ROOT, env={**os.environ, **self.supply.environment()}, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        try:
            for line in process.stdout:
                self._hear(line)
                if line.startswith("waiting "):
                    if waiting is not None and int(line.split()[1]) <= waiting:
                        break
                elif len(self.accepted) >= lines:
                    break
        finally:
            process.kill()
        # What it had accepted before it died, though we had not read it yet.
        for line in process.stdout.read().splitlines(keepends=True):
            if line.endswith("\n"):
                self._hear(line)
        assert process.wait(10) == -9
        assert self.supply.counts()["file_syncs"] > 0
        self.supply.cut()

    def _hear(self, line: str) -> None:
        name, number = line.split()
        if name != "waiting":
            self.accepted.append(name)
            self.add_ms.append(float(number))

    def catalog(self) -> Counter[str]:
        """Return how many sightings each sample of the catalog has."""
        with self.ctx.database.reader() as session:
            samples = session.scalars(select(SampleRow.sample_id)).all()
            sightings = Counter(session.scalars(select(SightingRow.sample_id)).all())
        assert len(samples) == len(set(samples))
        assert set(samples) == set(sightings)
        return sightings

    def samples(self) -> int:
        """Return how many samples the catalog has."""
        return len(self.catalog())


@pytest.fixture
def site(shim: Path, tmp_path: Path) -> Iterator[Site]:
    broker, cloud = RealBroker(tmp_path), tmp_path / "installation"
    cloud.mkdir()
    (tmp_path / "bucket").mkdir()
    (tmp_path / "root.json").write_text("{}")
    outbox = {"free_floor_mb": 0, "retry_s": 0.5}
    write_config(tmp_path, broker.port, broker={"reconnect_max_s": 0.5}, outbox=outbox)
    supply = PowerSupply(shim, tmp_path / "data", tmp_path / "power")
    supply.begin()
    with rclone_store(tmp_path / "bucket") as store:
        write_credentials(cloud / "secrets" / "store.json", CREDENTIALS)
        settings = Settings(
            store=StoreSettings(endpoint=store.endpoint, bucket="whetstone-test"),
            broker=BrokerSettings(port=broker.port),
            labels=LabelSettings(poll_seconds=60),
        )
        write_settings(cloud, settings)
        with open_context(cloud) as opened:
            ctx = create_task(opened, TASK, CLASSES, TaskSettings(devices=(DEVICE,)))
            yield Site(tmp_path, supply, broker, ctx)
    broker.stop()


@contextmanager
def ingest(site: Site) -> Iterator[None]:
    """Run ingest as a process."""
    command = [sys.executable, "-m", "flows.ingest", "--folder", str(site.ctx.folder)]
    with (site.folder / "ingest.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        finally:
            process.kill()


def day_offline(site: Site, examples: int) -> dict[str, float]:
    """Live through it and return what was measured; fails when an example is lost or doubled."""
    # (1) The day: no broker listens. Its end: the power is cut while the next example is being kept.
    began = time.monotonic()
    site.box_until(0, examples + 1000, lines=examples)
    kept_s = time.monotonic() - began
    promised = set(site.accepted)
    assert len(promised) == len(site.accepted) >= examples
    assert site.samples() == 0
    # (2) The network is back. In the middle of the upload the power is cut again.
    site.broker.start()
    with ingest(site):
        began = time.monotonic()
        site.box_until(0, 0, lines=10**9, waiting=len(promised) // 2)
        wait_until(lambda: site.samples() > 0, 60, "the first examples to be in the catalog")
        # (3) The rest.
        site.box_until(0, 0, lines=10**9, waiting=0)
        sent_s = time.monotonic() - began
        wait_until(lambda: site.samples() >= len(promised), 60, "every example to be in the catalog")
    catalog = site.catalog()
    lost = promised - set(catalog)
    # One at hand when the power went may be there too: it was whole, only nobody had been told yet.
    extra = set(catalog) - promised
    doubled = [sample_id for sample_id, sightings in catalog.items() if sightings != 1]
    milliseconds = sorted(site.add_ms)
    figures = {
        "accepted": len(promised),
        "edge.offline_lost": len(lost),
        "doubled": len(doubled),
        "extra": len(extra),
        "add_p50_ms": statistics.median(milliseconds),
        "add_p99_ms": milliseconds[int(len(milliseconds) * 0.99)],
        "kept_s": round(kept_s, 1),
        "sent_s": round(sent_s, 1),
    }
    print(json.dumps(figures))
    assert not lost
    assert not doubled
    assert len(extra) <= 1
    return figures


def test_some_hours_offline_and_two_power_cuts_lose_nothing(site: Site) -> None:
    """Scaled: 150 examples, each of which arrives exactly once."""
    day_offline(site, 150)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_day_offline_and_two_power_cuts_lose_nothing(site: Site) -> None:
    """24 hours at ten examples a minute: 14,400 examples, each of which arrives exactly once."""
    figures = day_offline(site, DAY)
    assert figures["accepted"] >= DAY
