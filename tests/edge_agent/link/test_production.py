"""Test the link against Mosquitto with TLS, client certificates and the project's own settings and ACL."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from edge_agent.config import BrokerConfig
from edge_agent.errors import ConfigError
from edge_agent.events import Events
from edge_agent.link import LinkHandlers, LinkOptions, Will
from edge_agent.link.certificate import read_certificate, tls_words
from edge_agent.link.endings import Endings
from edge_agent.link.mqtt import MqttLink
from fleet_contracts.base import utc_now
from tests.edge_agent.link.certificates import Authority
from tests.edge_agent.link.production_broker import ProductionBroker
from tests.edge_agent.link.wire import Wire
from tests.edge_agent.real_broker import RealBroker, running_broker
from tests.helpers import missing, wait_until

PREFIX = "whetstone/v1/boards"


class Client:
    """Be a box or the cloud on the real broker, with everything it heard."""

    def __init__(self, broker: BrokerConfig, options: LinkOptions) -> None:
        self.events = Events()
        self.heard: list[tuple[str, bytes]] = []
        self.connected_at: list[float] = []
        self.link = MqttLink(broker, options, self.events)
        self.link.start(
            LinkHandlers(
                lambda topic, payload: self.heard.append((topic, payload)),
                lambda: self.connected_at.append(time.monotonic()),
            )
        )

    def problem(self, name: str) -> str:
        return self.events.problems().get(name, "")

    def wait_for_problem(self, name: str, words: str) -> None:
        wait_until(
            lambda: words in self.problem(name), 10, f"{name} to say {words!r}: {self.events.problems()}"
        )


NewClient = Callable[..., Client]


@pytest.fixture
def new_client() -> Iterator[NewClient]:
    made: list[Client] = []

    def make(
        broker: BrokerConfig, device: str = "box-1", *, filters: str = "", client_id: str = ""
    ) -> Client:
        will = Will(f"{PREFIX}/up/{device}/status", b"gone")
        asked = filters or f"{PREFIX}/down/{device}/+"
        made.append(Client(broker, LinkOptions(client_id or f"whetstone-boards-{device}", (asked,), will)))
        return made[-1]

    yield make
    for client in made:
        client.link.stop()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[ProductionBroker]:
    made = ProductionBroker(tmp_path, Authority(tmp_path / "certs"))
    made.start()
    yield made
    made.stop()


def cloud_of(broker: ProductionBroker, new_client: NewClient) -> Client:
    cloud = new_client(
        broker.as_client("whetstone-cloud"), "cloud", filters="whetstone/v1/#", client_id="cloud"
    )
    wait_until(cloud.link.is_connected, 10, "the cloud")
    return cloud


def test_a_box_speaks_and_hears_for_itself_alone(broker: ProductionBroker, new_client: NewClient) -> None:
    """By the project's ACL: what it says as another is dropped, and another's grants are not for its ears."""
    cloud = cloud_of(broker, new_client)
    box = new_client(broker.as_client("box-1"))
    spy = new_client(broker.as_client("box-2"), "box-2", filters=f"{PREFIX}/#")
    wait_until(lambda: box.link.is_connected() and spy.link.is_connected(), 10, "both boxes")
    assert spy.link.publish(f"{PREFIX}/up/box-1/report", b"forged")
    assert spy.link.publish(f"{PREFIX}/down/box-1/receipt", b"forged")
    assert spy.link.publish(f"{PREFIX}/up/box-2/report", b"honest")
    assert cloud.link.publish(f"{PREFIX}/down/box-1/grant", b"secret urls")
    assert cloud.link.publish(f"{PREFIX}/down/box-2/order", b"yours")
    assert box.link.publish(f"{PREFIX}/up/box-1/report", b"mine")
    wait_until(lambda: (f"{PREFIX}/up/box-1/report", b"mine") in cloud.heard, 10, "the box's report")
    wait_until(lambda: (f"{PREFIX}/up/box-2/report", b"honest") in cloud.heard, 10, "the other's report")
    wait_until(lambda: bool(box.heard and spy.heard), 10, "the grant and the order")
    assert b"forged" not in [payload for _, payload in (*cloud.heard, *box.heard)]
    assert box.heard == [(f"{PREFIX}/down/box-1/grant", b"secret urls")]
    assert spy.heard == [(f"{PREFIX}/down/box-2/order", b"yours")]


def test_a_will_is_sent_over_tls_when_a_box_is_lost(broker: ProductionBroker, new_client: NewClient) -> None:
    """The wire is cut; the broker tells that the box is offline."""
    cloud = cloud_of(broker, new_client)
    wire = Wire(broker.port)
    box = new_client(broker.as_client("box-1", port=wire.port))
    wait_until(box.link.is_connected, 10, "the box")
    wire.cut()
    wait_until(lambda: (f"{PREFIX}/up/box-1/status", b"gone") in cloud.heard, 10, "the will")
    wait_until(lambda: not box.link.is_connected(), 10, "the loss to be noticed")
    wire.restore()
    wait_until(lambda: len(box.connected_at) == 2, 10, "the box to come back")
    wire.close()


def test_nobody_comes_in_without_a_certificate(broker: ProductionBroker, new_client: NewClient) -> None:
    """The problem says where to look."""
    box = new_client(broker.as_client("box-1", cert_file=None, key_file=None))
    box.wait_for_problem("broker.away", "broker.cert_file")
    assert not box.link.is_connected()


def test_a_broker_of_another_authority_is_not_trusted(
    broker: ProductionBroker, new_client: NewClient, tmp_path: Path
) -> None:
    """A box never sends its certificate's secrets to whoever listens."""
    other = Authority(tmp_path / "other", "somebody else")
    box = new_client(broker.as_client("box-1", ca_file=other.ca_file))
    box.wait_for_problem("broker.away", "broker.ca_file")


@pytest.mark.parametrize(
    ("hosts", "days", "words"),
    [
        (("broker.example",), (-1, 100), "another name"),
        (("127.0.0.1",), (2, 100), "set the clock"),
        (("127.0.0.1",), (-100, -2), "has ended"),
    ],
)
def test_a_brokers_certificate_that_does_not_fit_is_refused_in_plain_words(
    broker: ProductionBroker,
    new_client: NewClient,
    hosts: tuple[str, ...],
    days: tuple[int, int],
    words: str,
) -> None:
    """Another name, not yet valid (or the box's clock is behind), ended; with the right one the box connects."""
    now = utc_now()
    broker.stop()
    broker.issue_server(hosts, begins=now + timedelta(days=days[0]), ends=now + timedelta(days=days[1]))
    broker.start()
    box = new_client(broker.as_client("box-1"))
    box.wait_for_problem("broker.away", words)
    broker.stop()
    broker.issue_server(("127.0.0.1",))
    broker.start()
    wait_until(box.link.is_connected, 10, "the box with a broker it can trust")
    assert box.problem("broker.away") == ""


def test_the_life_of_the_boxs_own_certificate_is_told(
    broker: ProductionBroker, new_client: NewClient, tmp_path: Path
) -> None:
    """Days left for those who ask; a problem when they are few, when it has ended, when it has not begun."""
    now = utc_now()
    authority = broker.authority
    good, _ = authority.issue("box-1", "good")
    assert read_certificate(good).problem(now) == ""
    assert read_certificate(good).common_name == "box-1"
    box = new_client(broker.as_client("box-1"))
    days = box.link.certificate_days_left()
    assert days is not None
    assert 99 < days <= 100
    soon, soon_key = authority.issue("box-2", "soon", ends=now + timedelta(days=5.5))
    late = new_client(broker.as_client("box-2", cert_file=soon, key_file=soon_key), "box-2")
    late.wait_for_problem("link.certificate", "ends in 5 days")
    wait_until(late.link.is_connected, 10, "a certificate that ends soon to be good still")
    ended, _ = authority.issue("box-3", "ended", ends=now - timedelta(hours=1))
    early, _ = authority.issue("box-4", "early", begins=now + timedelta(hours=1))
    assert "install a new one" in read_certificate(ended).problem(now)
    assert "set the clock" in read_certificate(early).problem(now)
    with pytest.raises(ConfigError, match="PEM"):
        read_certificate(tmp_path / "none.pem")


def test_an_ended_box_certificate_is_refused_and_said(
    broker: ProductionBroker, new_client: NewClient
) -> None:
    """The broker's side of TLS says nothing useful; the box reads its own certificate."""
    ended, key = broker.authority.issue("box-1", "ended", ends=utc_now() - timedelta(hours=1))
    box = new_client(broker.as_client("box-1", cert_file=ended, key_file=key))
    box.wait_for_problem("link.certificate", "ended at")
    box.wait_for_problem("broker.away", "broker.cert_file")


def test_a_renewed_certificate_is_taken_without_a_restart(
    broker: ProductionBroker, new_client: NewClient
) -> None:
    """A box with an ended certificate connects as soon as a new one lies at its place."""
    place, key = broker.authority.issue("box-1", "renewed", ends=utc_now() - timedelta(hours=1))
    box = new_client(broker.as_client("box-1", cert_file=place, key_file=key))
    box.wait_for_problem("link.certificate", "install a new one")
    broker.authority.issue("box-1", "renewed")
    wait_until(box.link.is_connected, 10, "the box with its new certificate")
    assert box.events.problems() == {}


def test_what_is_no_tls_error_gets_no_words() -> None:
    """A refused connection is told as what it is."""
    assert tls_words(ConnectionRefusedError()) == ""
    assert "broker.cert_file" in tls_words(ssl.SSLError(1, "alert"))


# Kicks.


def test_a_box_kicked_once_comes_back_after_a_wait(tmp_path: Path, new_client: NewClient) -> None:
    """One kick is no accident to make noise about; the way back is jittered as ever."""
    with running_broker(tmp_path) as broker:
        box = new_client(broker.config())
        wait_until(box.link.is_connected, 10, "the box")
        other = new_client(broker.config())
        wait_until(lambda: not box.link.is_connected(), 10, "the kick")
        other.link.stop()
        kicked = time.monotonic()
        wait_until(lambda: len(box.connected_at) >= 2, 10, "the box to come back")
        assert box.connected_at[1] - kicked < 5
        assert box.problem("link.taken-over") == ""


def test_two_boxes_with_one_id_make_no_war(tmp_path: Path, new_client: NewClient) -> None:
    """After three quick kicks a box says what it sees and waits long; when the other is gone it serves on."""
    with running_broker(tmp_path) as broker:
        one, two = new_client(broker.config()), new_client(broker.config())
        wait_until(
            lambda: bool(one.problem("link.taken-over") or two.problem("link.taken-over")),
            20,
            "the war to be seen",
        )
        sufferer, other = (one, two) if one.problem("link.taken-over") else (two, one)
        assert "device_id" in sufferer.problem("link.taken-over")
        connections = len(sufferer.connected_at)
        assert connections <= 4
        # The long wait is at least 1.25 s here; an ordinary one is over by now.
        ordinary = time.monotonic() + 0.9
        wait_until(lambda: time.monotonic() > ordinary, 5, "an ordinary wait")
        assert len(sufferer.connected_at) == connections
        other.link.stop()
        wait_until(sufferer.link.is_connected, 10, "the one that is left")


def test_only_quick_ends_by_the_broker_count_as_kicks() -> None:
    """Networks that fail, brokers that are away and long lives are something else."""
    endings = Endings()
    assert endings.note(1.0, closed_by_broker=True) == "quick"
    assert endings.note(None, closed_by_broker=False) == "never-stood"
    assert endings.note(1.0, closed_by_broker=True) == "quick"
    assert not endings.is_taken_over()
    assert endings.note(2.0, closed_by_broker=True) == "quick"
    assert endings.is_taken_over()
    assert endings.note(60.0, closed_by_broker=True) == "stable"
    assert not endings.is_taken_over()
    for _ in range(5):
        endings.note(1.0, closed_by_broker=False)
    assert not endings.is_taken_over()


# Networks.


def test_a_connection_that_is_dead_without_a_word_is_noticed_within_keepalive(
    tmp_path: Path, new_client: NewClient
) -> None:
    """A router swallows every byte; the box finds out by itself, and finds its way back."""
    with running_broker(tmp_path) as broker:
        wire = Wire(broker.port)
        config = broker.config().model_copy(update={"port": wire.port, "keepalive_s": 6})
        box = new_client(config)
        wait_until(box.link.is_connected, 10, "the box")
        wire.swallows = True
        began = time.monotonic()
        wait_until(lambda: not box.link.is_connected(), 10, "the dead connection to be noticed")
        assert time.monotonic() - began < 6 + 1.5
        assert wire.swallowed > 0
        # What connects now gets no answer either, and no thread hangs on it for good.
        wire.restore()
        wait_until(box.link.is_connected, 15, "the box to come back")
        wire.close()


@pytest.fixture
def far_host() -> Iterator[str]:
    """Give a network name space with an address of its own, reached over a pair of virtual wires."""
    name = f"far{os.getpid()}"
    steps = [
        f"netns add {name}",
        f"link add {name}a type veth peer name {name}b",
        f"link set {name}b netns {name}",
        f"addr add 10.231.7.1/30 dev {name}a",
        f"link set {name}a up",
        f"-n {name} addr add 10.231.7.2/30 dev {name}b",
        f"-n {name} link set {name}b up",
        f"-n {name} link set lo up",
    ]
    ip = shutil.which("ip", path="/usr/sbin:/sbin:/usr/bin")
    if ip is None or os.geteuid() != 0:
        missing("a network name space", "run as root with iproute2")
    try:
        for step in steps:
            done = subprocess.run([str(ip), *step.split()], capture_output=True, check=False)
            if done.returncode:
                missing("a network name space", done.stderr.decode().strip())
        yield name
    finally:
        subprocess.run([str(ip), "netns", "del", name], capture_output=True, check=False)
        subprocess.run([str(ip), "link", "del", f"{name}a"], capture_output=True, check=False)


def test_a_network_that_is_cut_and_restored(far_host: str, tmp_path: Path, new_client: NewClient) -> None:
    """The wire between two hosts goes down: the loss is told within keepalive; up again: the box is back."""
    broker = RealBroker(tmp_path, "10.231.7.2", ("ip", "netns", "exec", far_host))
    broker.start()
    try:
        box = new_client(broker.config().model_copy(update={"keepalive_s": 5}))
        wait_until(box.link.is_connected, 10, "the box")
        subprocess.run(["ip", "link", "set", f"{far_host}a", "down"], check=True)
        wait_until(lambda: not box.link.is_connected(), 10, "the cut to be noticed")
        assert box.problem("broker.away")
        assert not box.link.publish(f"{PREFIX}/up/box-1/report", b"lost")
        subprocess.run(["ip", "link", "set", f"{far_host}a", "up"], check=True)
        wait_until(lambda: len(box.connected_at) == 2, 30, "the box to come back")
        assert box.problem("broker.away") == ""
    finally:
        broker.stop()
