"""Hold the ingest process to law 1 with real SIGKILLs, a real store and a real broker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

from sqlalchemy import func, select

from fleet_contracts import encode, keys
from flows.context import Context, open_context
from flows.database.schema import SampleRow
from flows.ingest.grants import answer_request
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
from tests.flows.ingest.brokers import mosquitto
from tests.flows.kit import CLASSES, DEVICE, TASK, SimulatedBox, picture
from tests.flows.store.servers import CREDENTIALS, rclone_store
from tests.helpers import ROOT, wait_until

IMAGES = 60
KILLS = 4


def _start(folder: Path) -> subprocess.Popen[bytes]:
    with (folder / "ingest.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "flows.ingest", "--folder", str(folder)], cwd=ROOT, stdout=log, stderr=log
        )


def _committed(ctx: Context) -> int:
    with ctx.database.reader() as session:
        return session.scalar(select(func.count()).select_from(SampleRow)) or 0


def _has_committed(ctx: Context, count: int) -> bool:
    return _committed(ctx) >= count


def _upload_all(ctx: Context) -> list[str]:
    box = SimulatedBox(ctx)
    ids = []
    for number in range(IMAGES):
        content = picture(number)
        example = box.describe(content, part=f"plate-{number}")
        answer = answer_request(ctx, box.request([(example.sample_id, len(content))]))
        assert answer.grant is not None
        place = (TASK, answer.grant.grant_id, example.sample_id)
        ctx.store.put(keys.incoming(*place, "image"), content)
        ctx.store.put(keys.incoming(*place, "announcement"), encode(example))
        ids.append(example.sample_id)
    return ids


def test_killed_again_and_again_ingest_loses_nothing(tmp_path: Path) -> None:
    """SIGKILL while it takes images in, several times; in the end every image is committed exactly once."""
    folder, data = tmp_path / "installation", tmp_path / "data"
    folder.mkdir()
    data.mkdir()
    with rclone_store(data) as store, mosquitto(tmp_path) as port:
        endpoint = store.endpoint
        write_credentials(folder / "secrets" / "store.json", CREDENTIALS)
        settings = Settings(
            store=StoreSettings(endpoint=endpoint, bucket="whetstone-test"),
            broker=BrokerSettings(port=port),
            labels=LabelSettings(poll_seconds=60),
            sweep_seconds=0.2,
        )
        write_settings(folder, settings)
        with open_context(folder) as opened:
            ctx = create_task(opened, TASK, CLASSES, TaskSettings(devices=(DEVICE,)))
            ids = _upload_all(ctx)
            kills = 0
            process = _start(folder)
            try:
                for goal in range(1, KILLS + 1):
                    reached = goal * IMAGES // (KILLS + 2)
                    wait_until(partial(_has_committed, ctx, reached), 60, f"{reached} images to be committed")
                    assert process.poll() is None, "ingest must be alive to be killed"
                    os.kill(process.pid, signal.SIGKILL)
                    assert process.wait() == -signal.SIGKILL
                    kills += 1
                    process = _start(folder)
                wait_until(lambda: _committed(ctx) == IMAGES, 60, "all images to be committed")
                wait_until(
                    lambda: list(ctx.store.list(f"tasks/{TASK}/incoming/")) == [], 30, "incoming to be empty"
                )
                process.terminate()
                assert process.wait(20) == 0
            finally:
                process.kill()
                process.wait()
            assert kills == KILLS
            for sample_id in ids:
                assert ctx.store.stat(keys.sample_image(TASK, sample_id)) is not None
                assert ctx.store.stat(keys.sample_sidecar(TASK, sample_id)) is not None


def test_an_installation_that_cannot_be_opened_says_why(tmp_path: Path) -> None:
    """Without settings the process ends with code 2 and names the file."""
    process = _start(tmp_path)
    assert process.wait(30) == 2
    assert "whetstone.toml" in (tmp_path / "ingest.log").read_text()
