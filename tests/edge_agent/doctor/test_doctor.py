"""Test the doctor on a healthy box and on boxes broken in one way each: the right finding, the right advice."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from edge_agent.care.machine import Machine
from edge_agent.doctor.camera import judge_image
from edge_agent.doctor.clock import judge_skew
from edge_agent.doctor.command import examine
from edge_agent.doctor.disk import is_sd_card
from edge_agent.doctor.finding import Finding, as_text, exit_code
from edge_agent.doctor.machine import judge_heat, judge_memory
from edge_agent.doctor.providers import Engines, advice
from edge_agent.login import log_in
from fleet_contracts.base import utc_now
from tests.edge_agent.doctor.clinic import Clinic, open_clinic
from tests.edge_agent.link.certificates import Authority
from tests.edge_agent.ota.ota_kit import DEVICE
from tests.helpers import ROOT, free_port

Break = Callable[[Clinic], None]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clinic]:
    """Open one clinic for all tests; each works on a copy of its configuration."""
    with open_clinic(tmp_path_factory.mktemp("clinic")) as made:
        yield made


@pytest.fixture
def clinic(home: Clinic) -> Iterator[Clinic]:
    """Give the healthy box, and heal it afterwards."""
    before = json.dumps(home.values)
    yield home
    home.values = json.loads(before)


def test_a_healthy_box_is_well(clinic: Clinic, capsys: pytest.CaptureFixture[str]) -> None:
    """Every check says ok and what it has seen; the exit code is 0."""
    code, findings = clinic.examine(capsys)
    assert [one for one in findings if one["level"] != "ok" and one["check"] != "machine"] == []
    assert code == 0 or any(one["check"] == "machine" and one["level"] == "warn" for one in findings)
    found = {one["check"]: one["found"] for one in reversed(findings)}
    assert "the cloud answers" in found["broker"]
    assert "newest release 1" in found["releases"]
    assert "release 1, 64x64" in found["model"]
    assert "64x64" in found["camera"]
    assert "does not run" in found["configuration"]


def wrong_port(clinic: Clinic) -> None:
    clinic.values["broker"]["port"] = free_port()


def unknown_host(clinic: Clinic) -> None:
    clinic.values["broker"]["host"] = "broker.invalid"


def no_tls(clinic: Clinic) -> None:
    clinic.values["broker"] = {"host": "127.0.0.1", "port": clinic.broker.port}


def other_name(clinic: Clinic) -> None:
    certificate, key = clinic.broker.authority.issue("box-z")
    clinic.values["broker"].update(cert_file=str(certificate), key_file=str(key))


def other_key(clinic: Clinic) -> None:
    _, key = clinic.broker.authority.issue("box-y")
    clinic.values["broker"]["key_file"] = str(key)


def expired(clinic: Clinic) -> None:
    now = utc_now()
    certificate, key = clinic.broker.authority.issue(
        DEVICE, "old", begins=now - timedelta(days=9), ends=now - timedelta(days=2)
    )
    clinic.values["broker"].update(cert_file=str(certificate), key_file=str(key))


def other_authority(clinic: Clinic) -> None:
    clinic.values["broker"]["ca_file"] = str(Authority(clinic.folder / "other", "another").ca_file)


def missing_key(clinic: Clinic) -> None:
    clinic.values["broker"]["key_file"] = str(clinic.folder / "nowhere.pem")


def open_key(clinic: Clinic) -> None:
    certificate, key = clinic.broker.authority.issue(DEVICE, "open")
    key.chmod(0o644)
    clinic.values["broker"].update(cert_file=str(certificate), key_file=str(key))


def foreign_root(clinic: Clinic) -> None:
    (clinic.folder / "foreign.json").write_text('{"signed": {}, "signatures": []}')
    clinic.values["releases"]["root_file"] = "foreign.json"


def wrong_url(clinic: Clinic) -> None:
    clinic.values["releases"]["url"] += "deeper/"


def dead_server(clinic: Clinic) -> None:
    clinic.values["releases"]["url"] = f"http://127.0.0.1:{free_port()}/"


def other_channel(clinic: Clinic) -> None:
    clinic.values["channel"] = "canary"


def dead_store(clinic: Clinic) -> None:
    clinic.values["doctor"]["store_url"] = f"http://127.0.0.1:{free_port()}"


def full_disk(clinic: Clinic) -> None:
    clinic.values["outbox"]["free_floor_mb"] = 1e12


def small_disk(clinic: Clinic) -> None:
    clinic.values["outbox"]["quota_mb"] = 1e12


def no_folder(clinic: Clinic) -> None:
    clinic.values["camera"]["source"] = "folder:nowhere"


def broken_image(clinic: Clinic) -> None:
    folder = clinic.folder / "broken"
    folder.mkdir(exist_ok=True)
    (folder / "a.jpg").write_bytes(b"\xff\xd8 half")
    clinic.values["camera"]["source"] = "folder:broken"


def black_image(clinic: Clinic) -> None:
    folder = clinic.folder / "black"
    folder.mkdir(exist_ok=True)
    cv2.imwrite(str(folder / "a.png"), np.zeros((8, 8, 3), np.uint8))
    clinic.values["camera"]["source"] = "folder:black"


def dead_plc(clinic: Clinic) -> None:
    clinic.values["outputs"] = [
        {"name": "gate", "kind": "modbus", "host": "127.0.0.1", "port": free_port(), "coils": {"reject": 1}}
    ]


def new_box(clinic: Clinic) -> None:
    clinic.values["data_dir"] = "new-data"


@pytest.mark.parametrize(
    ("breaks", "check", "level", "words", "advice"),
    [
        (wrong_port, "broker", "fail", "refused", "Is the broker running"),
        (unknown_host, "broker", "fail", "no such host", "broker.host"),
        (no_tls, "broker", "fail", "hangs up", "broker.tls = true"),
        (other_name, "certificates", "fail", '"box-z"', "CN = device_id"),
        (other_name, "broker", "ok", "no order came", "user name be the device id"),
        (other_key, "certificates", "fail", "is not the key", "same pair"),
        (expired, "certificates", "fail", "ran out 2 days ago", "Make a new one"),
        (other_authority, "broker", "fail", "signed by nobody", "certificates"),
        (missing_key, "certificates", "fail", "No such file", "broker.key_file"),
        (open_key, "certificates", "warn", "can be read by others", "chmod 600"),
        (foreign_root, "releases", "fail", "no root of trust", "trusted_root.json"),
        (wrong_url, "releases", "fail", "deeper", "releases.url"),
        (dead_server, "releases", "fail", "127.0.0.1", "releases.url"),
        (other_channel, "releases", "warn", "without a release for this channel", "canary"),
        (dead_store, "store", "fail", "does not answer", "firewall"),
        (full_disk, "disk", "fail", "no example is kept", "Free some space"),
        (small_disk, "disk", "warn", "does not fit", "free some space"),
        (no_folder, "camera", "fail", "No such file", "Create or mount"),
        (broken_image, "camera", "fail", "cannot be decoded", "renamed"),
        (black_image, "camera", "fail", "black", "lens cap"),
        (dead_plc, "outputs", "fail", "gate (modbus)", "address and port"),
        (new_box, "model", "warn", "no release is installed", "fetches the first one"),
    ],
    ids=lambda value: value.__name__ if callable(value) else None,
)
def test_a_broken_box_gets_the_right_advice(
    clinic: Clinic, breaks: Break, check: str, level: str, words: str, advice: str
) -> None:
    """One thing is broken; its check says so, and what to do."""
    breaks(clinic)
    told = clinic.look(check)
    assert any(one["level"] == level and words in one["found"] and advice in one["now"] for one in told), told


def test_wrong_keys_are_findings(clinic: Clinic, capsys: pytest.CaptureFixture[str]) -> None:
    """Each mistake of the configuration is a line of its own, and nothing else is tried."""
    clinic.values["broker"]["prot"] = 1
    clinic.values["mining"] = {"low": 3}
    code, findings = clinic.examine(capsys)
    assert code == 2
    assert {one["check"] for one in findings} == {"configuration"}
    assert len(findings) == 2
    assert "did you mean port?" in findings[0]["found"]


def test_it_runs_beside_an_agent(clinic: Clinic, capsys: pytest.CaptureFixture[str]) -> None:
    """The lock and the camera are left to the agent that runs."""
    clinic.values["camera"]["source"] = "v4l2:/dev/video99"
    (clinic.folder / "data").mkdir(exist_ok=True)
    with (clinic.folder / "data" / "agent.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _, findings = clinic.examine(capsys)
    found = {one["check"]: one for one in findings}
    assert "the running agent holds it" in found["camera"]["found"]
    assert "the agent runs" in next(one for one in findings if one["check"] == "configuration")["found"]


def test_a_camera_is_opened_and_judged(clinic: Clinic, tmp_path: Path) -> None:
    """A stream gives its size and the time to its first frame; one that is away says why."""
    video = tmp_path / "line.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"MJPG"), 10, (96, 64))
    rng = np.random.default_rng(1)
    for _ in range(10):
        writer.write(rng.integers(0, 255, (64, 96, 3), dtype=np.uint8))
    writer.release()
    clinic.values["camera"] = {"source": f"video:{video}", "name": "cam0"}
    assert any("96x64" in one["found"] for one in clinic.look("camera"))
    clinic.values["camera"] = {
        "source": f"rtsp://me:hunter2@127.0.0.1:{free_port()}/x",
        "open_s": 2.0,
        "stall_s": 1.0,
    }
    told = clinic.look("camera")
    assert told[0]["level"] == "fail"
    assert "no frame within" in told[0]["found"]
    assert "hunter2" not in json.dumps(told)


def test_a_wrong_address_of_an_output_is_found_without_setting_anything(clinic: Clinic) -> None:
    """The finding names point and address; not even --test-outputs pulses such a device."""
    from tests.edge_agent.outputs.plc import running_plc

    with running_plc("modbus") as plc:
        clinic.values["outputs"] = [
            {"name": "gate", "kind": "modbus", "host": "127.0.0.1", "port": plc.port, "coils": {"reject": 1},
             "registers": {"parts": 100}}
        ]  # fmt: skip
        told = [clinic.look("outputs", test_outputs=asked)[0] for asked in (False, True)]
    for finding in told:
        assert finding["level"] == "fail"
        assert "parts (register 100: illegal address)" in finding["found"]
        assert "Correct these addresses" in finding["now"]
    assert {name for name, *_ in plc.writes} <= {"ready"}


def test_outputs_are_switched_only_when_asked_to(clinic: Clinic, capsys: pytest.CaptureFixture[str]) -> None:
    """Connecting moves no gate; with --test-outputs every lane is pulsed once and set back."""
    from tests.edge_agent.outputs.plc import running_plc

    with running_plc("modbus") as plc:
        clinic.values["outputs"] = [
            {"name": "gate", "kind": "modbus", "host": "127.0.0.1", "port": plc.port, "coils": {"reject": 1}}
        ]
        assert [one["level"] for one in clinic.look("outputs")] == ["ok"]
        untouched = list(plc.writes)
        assert "pulsed reject" in clinic.look("outputs", test_outputs=True)[0]["found"]
    assert [name for name, *_ in untouched if name != "ready"] == []
    assert any(written == 1 for _, written, _ in plc.writes)


@pytest.mark.parametrize(
    ("engines", "level", "words"),
    [
        (Engines((("onnxruntime", "1.31.1"),), ("CPUExecutionProvider",)), "ok", "computes on the CPU"),
        (
            Engines(
                (("onnxruntime-gpu", "1.31.1"),),
                ("CUDAExecutionProvider", "CPUExecutionProvider"),
                "NVIDIA Jetson Orin Nano",
                is_jetson=True,
            ),
            "fail",
            "no kernels for Orin (sm_87)",
        ),
        (
            Engines((("onnxruntime", "1.23.2"),), ("CPUExecutionProvider",), "Jetson", is_jetson=True),
            "warn",
            "1.23.2",
        ),
        (
            Engines(
                (("onnxruntime-gpu", "1.23.0"),),
                ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"),
                "Jetson",
                is_jetson=True,
            ),
            "ok",
            "TensorRT",
        ),
        (Engines((("onnxruntime", "1"),), ("AzureExecutionProvider",)), "fail", "another wheel"),
        (
            Engines((("onnxruntime-gpu", "1"), ("onnxruntime", "1")), ("CPUExecutionProvider",)),
            "fail",
            "overwrites",
        ),
    ],
)
def test_the_wheel_is_judged_by_the_board(engines: Engines, level: str, words: str) -> None:
    """On a Jetson, PyPI's GPU wheel is the trap; what to install stands in the guide."""
    found = list(advice(engines))
    assert any(one.level == level and words in one.found + one.now for one in found), found


@pytest.mark.parametrize(("skew", "level"), [(None, "ok"), (0.4, "ok"), (-30.0, "warn"), (4000.0, "fail")])
def test_a_clock_is_judged_by_its_skew(skew: float | None, level: str) -> None:
    """A minute is noted, an hour breaks signatures."""
    assert judge_skew(skew, "now").level == level


def test_an_output_that_the_agent_holds_is_left_alone(clinic: Clinic) -> None:
    """Asking for a GPIO line would set it, and a second client of one name would throw out the agent's."""
    clinic.values["outputs"] = [
        {"name": "lamp", "kind": "gpio", "chip": "/dev/gpiochip99", "lines": {"reject": 3}},
        {"name": "log", "kind": "log"},
    ]
    lamp, log = clinic.look("outputs")
    assert (lamp["level"], log["level"]) == ("fail", "ok")
    assert "gpiodetect" in lamp["now"]
    lamp, _ = clinic.look("outputs", running=True)
    assert "the running agent holds it" in lamp["found"]
    client_id = "whetstone-mes"
    taken = threading.Event()
    agent = paho.Client(CallbackAPIVersion.VERSION2, client_id=client_id)
    log_in(agent, clinic.broker.as_client(DEVICE), "broker")
    agent.on_disconnect = lambda *_: taken.set()
    agent.connect("127.0.0.1", clinic.broker.port)
    agent.loop_start()
    files = {key: clinic.values["broker"][key] for key in ("ca_file", "cert_file", "key_file")}
    clinic.values["outputs"] = [
        {"name": "mes", "kind": "mqtt", "host": "127.0.0.1", "port": clinic.broker.port, "topic": "plant/x",
         "client_id": client_id, "tls": True, "timeout_ms": 800, **files}
    ]  # fmt: skip
    assert clinic.look("outputs", running=True)[0]["level"] == "ok"
    assert not taken.is_set()
    agent.disconnect()
    agent.loop_stop()


def test_memory_heat_and_pictures_are_judged() -> None:
    """What is low, hot or flat is worth a look."""
    assert judge_memory(None).level == "ok"
    assert judge_memory((10**8, 10**10)).level == "warn"
    assert judge_memory((10**10, 10**11)).level == "ok"
    assert judge_heat(Machine({"cpu": 91.0}), "board").level == "warn"
    assert judge_heat(Machine({"cpu": 40.0}, power_mode="MAXN"), "board").found.count("MAXN") == 1
    assert judge_heat(Machine(), "board").level == "ok"
    assert next(judge_image(np.full((4, 4, 3), 90, np.uint8), "x")).level == "warn"


def test_an_sd_card_is_told_from_soldered_memory(tmp_path: Path) -> None:
    """Both are mmcblk to the kernel; only the card wears out in months."""
    number = tmp_path.stat().st_dev
    devices, disk = tmp_path / "block", tmp_path / "mmcblk0"
    partition = disk / "mmcblk0p1"
    (disk / "device").mkdir(parents=True)
    partition.mkdir()
    devices.mkdir()
    (devices / f"{os.major(number)}:{os.minor(number)}").symlink_to(partition)
    (disk / "device" / "type").write_text("MMC\n")
    assert not is_sd_card(tmp_path, devices)
    (disk / "device" / "type").write_text("SD\n")
    assert is_sd_card(tmp_path, devices)
    assert not is_sd_card(tmp_path, tmp_path / "nowhere")


class Broken:
    """Be a check that fails by itself."""

    name = "broken"

    def check(self) -> Iterator[Finding]:
        raise RuntimeError("http://me:hunter2@host/")
        yield


def test_a_check_that_fails_spares_the_others() -> None:
    """A broken check is a finding, without secrets."""
    found = list(examine([Broken(), Broken()]))
    assert [one.level for one in found] == ["fail", "fail"]
    assert "hunter2" not in found[0].found
    assert exit_code(found) == 2
    assert exit_code([]) == 0
    assert "-> Please report this" in as_text(found)


def test_the_command_writes_a_table(clinic: Clinic) -> None:
    """Without --json a person reads aligned lines and a count."""
    broken: dict[str, Any] = {**clinic.values, "channel": "Not A Channel"}
    import tomli_w

    config = clinic.folder / "table.toml"
    config.write_text(tomli_w.dumps(broken))
    command = [sys.executable, "-m", "edge_agent", "doctor", "--config", str(config)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stdout.startswith("fail  configuration  ")
    assert "0 good, 0 to look at, 1 broken" in done.stdout


def test_no_finding_shows_a_password(clinic: Clinic, capsys: pytest.CaptureFixture[str]) -> None:
    """Addresses with credentials are quoted without them: people send a doctor's words around."""
    clinic.values["doctor"]["store_url"] = f"http://user:hunter2@127.0.0.1:{free_port()}"
    _, findings = clinic.examine(capsys)
    assert "does not answer" in str(findings)
    assert "hunter2" not in str(findings)
