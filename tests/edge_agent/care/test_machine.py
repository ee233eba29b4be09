"""Test what is read of the machine, its clock and its sensors, and which problems come of it."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from email.utils import format_datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
import urllib3

from edge_agent.care.clock import skew_against
from edge_agent.care.jetson import machine_of
from edge_agent.care.machine import available_memory, model_name, read_temperatures
from edge_agent.care.store_address import StoreAddress
from edge_agent.care.watch import MachineWatch
from edge_agent.events import Events
from fleet_contracts.base import utc_now
from tests.edge_agent.builders import config_of
from tests.edge_agent.link.certificates import Authority
from tests.helpers import free_port


@contextmanager
def server_whose_clock_is(ahead_s: float) -> Iterator[str]:
    """Serve nothing, with a Date of our own."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response_only(404)
            self.send_header("Date", format_datetime(utc_now() + timedelta(seconds=ahead_s), usegmt=True))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()


@pytest.mark.parametrize("ahead_s", [-3600.0, 0.0, 500.0])
def test_the_skew_is_that_of_the_box(ahead_s: float) -> None:
    """A server that is ahead means a box that is behind; any answer's date will do."""
    with server_whose_clock_is(ahead_s) as url:
        skew = skew_against(url)
    assert skew == pytest.approx(-ahead_s, abs=1.5)
    with pytest.raises(urllib3.exceptions.HTTPError):
        skew_against(f"http://127.0.0.1:{free_port()}/", timeout_s=1.0)


def test_a_wrong_clock_stands_as_a_problem_until_it_is_set(tmp_path: Path) -> None:
    """Signatures and uploads fail by it, so a person hears of it first."""
    events = Events()
    with server_whose_clock_is(4000) as url:
        watch = MachineWatch(config_of(tmp_path, releases={"url": url}), events)
        watch.look(ask_server=True)
        assert "behind" in events.problems()["clock.skew"]
    with server_whose_clock_is(0) as url:
        watch = MachineWatch(config_of(tmp_path, releases={"url": url}), events)
        watch.look(ask_server=True)
    assert events.problems() == {}
    assert abs(watch.readings().clock_skew_s or 0.0) < 2


def test_the_certificates_days_are_read_and_a_server_that_is_away_hurts_nothing(tmp_path: Path) -> None:
    """What cannot be known is None, what can is told."""
    certificate, key = Authority(tmp_path / "ca").issue("box-1", ends=utc_now() + timedelta(days=12))
    section = {"tls": True, "cert_file": str(certificate), "key_file": str(key)}
    watch = MachineWatch(config_of(tmp_path, broker=section), Events())
    (tmp_path / "data").mkdir()
    watch.look(ask_server=True)
    assert watch.readings().certificate_days == pytest.approx(12, abs=0.1)
    assert watch.readings().clock_skew_s is None
    assert (watch.readings().disk_free_bytes or 0) > 0


def test_thermal_zones_are_read_and_sleeping_ones_passed_over(tmp_path: Path) -> None:
    """A sensor of a part that sleeps answers with nonsense."""
    for name, kind, value in (
        ("0", "cpu-thermal", "51500"),
        ("1", "gpu-thermal", "-256000"),
        ("2", "x", "?"),
    ):
        zone = tmp_path / f"thermal_zone{name}"
        zone.mkdir()
        (zone / "type").write_text(kind + "\n")
        (zone / "temp").write_text(value + "\n")
    assert read_temperatures(tmp_path) == {"cpu-thermal": 51.5}
    assert read_temperatures(tmp_path / "nowhere") == {}


def test_jetson_stats_are_read_as_its_boards_give_them() -> None:
    """Sensors that are off and rails without a total are no error."""
    jtop = SimpleNamespace(
        temperature={"cpu": {"temp": 48.5, "online": True}, "cv0": {"temp": -256, "online": False}},
        power={"rail": {"VDD_GPU_SOC": {"power": 2400}}, "tot": {"power": 6100}},
        nvpmodel="15W",
    )
    machine = machine_of(jtop)
    assert machine.temperatures == {"cpu": 48.5}
    assert machine.watts == {"VDD_GPU_SOC": 2.4, "total": 6.1}
    assert (machine.power_mode, machine.hottest) == ("15W", 48.5)
    bare = machine_of(SimpleNamespace(temperature={}, power={}, nvpmodel=None))
    assert (bare.hottest, bare.power_mode) == (None, "")


def test_memory_and_board_are_read_where_the_kernel_tells(tmp_path: Path) -> None:
    """A file that is absent or odd is no error."""
    (tmp_path / "meminfo").write_text("MemTotal: 8000 kB\nMemAvailable: 2000 kB\n")
    assert available_memory(tmp_path / "meminfo") == (2000 * 1024, 8000 * 1024)
    assert available_memory(tmp_path / "nowhere") is None
    (tmp_path / "model").write_bytes(b"NVIDIA Jetson Orin Nano\0")
    assert model_name(tmp_path / "model") == "NVIDIA Jetson Orin Nano"
    assert model_name(tmp_path / "nowhere") == ""


def test_only_the_stores_address_is_remembered(tmp_path: Path) -> None:
    """Neither key nor signature of an upload reaches the disk."""
    store = StoreAddress(tmp_path)
    assert store.read() == ""
    store.remember("https://me:pw@store.local:9000/bucket/incoming/x?X-Amz-Signature=abc")
    assert StoreAddress(tmp_path).read() == "https://store.local:9000/"
    written = (tmp_path / "store-address").stat().st_mtime_ns
    store.remember("https://store.local:9000/bucket/incoming/y?X-Amz-Signature=def")
    assert (tmp_path / "store-address").stat().st_mtime_ns == written
    StoreAddress(tmp_path / "nowhere").remember("https://other/")
