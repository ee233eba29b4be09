"""Test the link on its in-memory twin and on a real Mosquitto alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_agent.config import BrokerConfig
from edge_agent.errors import ConfigError
from edge_agent.events import Events
from edge_agent.link import Link, LinkHandlers, LinkOptions, MemoryBroker, MemoryLink, Will
from edge_agent.link.base import topic_matches
from edge_agent.link.mqtt import MqttLink
from tests.edge_agent.real_broker import running_broker
from tests.helpers import wait_until

PREFIX = "whetstone/v1/boards"


class Side:
    """Be one end of the wire, with everything it heard."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.heard: list[tuple[str, bytes]] = []
        self.connections = 0

    def start(self) -> Side:
        self.link.start(
            LinkHandlers(lambda topic, payload: self.heard.append((topic, payload)), self._connected)
        )
        wait_until(self.link.is_connected, 10, "the link to stand")
        return self

    def _connected(self) -> None:
        self.connections += 1


class World:
    """Make links, take the broker away and bring it back."""

    make: Callable[[LinkOptions], Link]
    go_away: Callable[[], None]
    come_back: Callable[[], None]
    cut: Callable[[Link], None]


@pytest.fixture(params=["memory", "mosquitto"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    made: list[Link] = []
    world = World()
    if request.param == "memory":
        twin = MemoryBroker()
        world.make = lambda options: MemoryLink(twin, options)
        world.go_away, world.come_back = twin.go_away, twin.come_back
        world.cut = lambda link: twin.drop(link)  # type: ignore[arg-type]
        yield world
        return
    with running_broker(tmp_path) as real:

        def make(options: LinkOptions) -> Link:
            link = MqttLink(real.config(), options, Events())
            made.append(link)
            return link

        def cut(link: Link) -> None:
            assert isinstance(link, MqttLink)
            link._stop.set()
            sock = link._client.socket()
            assert sock is not None
            sock.close()

        world.make, world.go_away, world.come_back, world.cut = make, real.stop, real.start, cut
        yield world
        for link in made:
            link.stop()


def box_options(will: bool = True) -> LinkOptions:
    return LinkOptions(
        "box-1", (f"{PREFIX}/down/box-1/+",), Will(f"{PREFIX}/up/box-1/status", b"gone") if will else None
    )


def cloud_options(name: str = "cloud") -> LinkOptions:
    return LinkOptions(name, ("whetstone/v1/+/up/+/+",))


def test_messages_go_both_ways_to_those_who_asked(world: World) -> None:
    """A box hears what is meant for it and nothing else."""
    box, cloud = Side(world.make(box_options())).start(), Side(world.make(cloud_options())).start()
    assert box.link.publish(f"{PREFIX}/up/box-1/report", b"hello")
    assert cloud.link.publish(f"{PREFIX}/down/box-2/order", b"not yours")
    assert cloud.link.publish(f"{PREFIX}/down/box-1/order", b"yours")
    wait_until(lambda: bool(box.heard and cloud.heard), 5, "both messages")
    assert cloud.heard == [(f"{PREFIX}/up/box-1/report", b"hello")]
    assert box.heard == [(f"{PREFIX}/down/box-1/order", b"yours")]


def test_a_retained_message_waits_for_who_comes_later(world: World) -> None:
    """A desired release reaches a box that was away when it was given."""
    cloud = Side(world.make(cloud_options())).start()
    cloud.link.publish(f"{PREFIX}/down/box-1/order", b"release 7", retain=True)
    box = Side(world.make(box_options())).start()
    wait_until(lambda: box.heard == [(f"{PREFIX}/down/box-1/order", b"release 7")], 5, "the retained order")


def test_a_lost_box_is_announced_by_its_will_and_one_that_leaves_is_not(world: World) -> None:
    """Leaving in good order sends no will; a cut connection does, retained."""
    cloud = Side(world.make(cloud_options())).start()
    leaving = Side(world.make(box_options())).start()
    leaving.link.stop()
    lost = Side(world.make(box_options())).start()
    assert cloud.heard == []
    world.cut(lost.link)
    wait_until(lambda: cloud.heard == [(f"{PREFIX}/up/box-1/status", b"gone")], 5, "the will")


def test_a_broker_that_was_away_is_found_again(world: World) -> None:
    """Publishing meanwhile is refused at once; the link comes back by itself and says so."""
    box = Side(world.make(box_options())).start()
    world.go_away()
    wait_until(lambda: not box.link.is_connected(), 5, "the loss to be noticed")
    began = time.monotonic()
    assert not box.link.publish(f"{PREFIX}/up/box-1/report", b"lost")
    assert time.monotonic() - began < 0.5
    world.come_back()
    wait_until(lambda: box.link.is_connected() and box.connections == 2, 10, "the link to stand again")
    cloud = Side(world.make(cloud_options())).start()
    box.link.publish(f"{PREFIX}/up/box-1/report", b"back")
    wait_until(lambda: (f"{PREFIX}/up/box-1/report", b"back") in cloud.heard, 5, "a message after the return")


def test_an_error_in_a_handler_does_not_cut_the_link(tmp_path: Path) -> None:
    """One bad message is counted; the next is heard."""
    heard: list[bytes] = []

    def handle(topic: str, payload: bytes) -> None:
        heard.append(payload)
        if payload == b"bad":
            raise RuntimeError("no")

    with running_broker(tmp_path) as real:
        events = Events()
        link = MqttLink(real.config(), LinkOptions("both", ("a/b",)), events)
        link.start(LinkHandlers(handle))
        wait_until(link.is_connected, 10, "the link")
        link.publish("a/b", b"bad")
        link.publish("a/b", b"good")
        wait_until(lambda: heard == [b"bad", b"good"], 5, "both messages")
        assert events.count("link.handler-failed") == 1
        link.stop()


def test_a_broker_that_refuses_is_told(tmp_path: Path) -> None:
    """A missing password file is a configuration error before anything starts."""
    broker = BrokerConfig(host="127.0.0.1", username="box-1", password_file=tmp_path / "none")
    with pytest.raises(ConfigError, match="password file"):
        MqttLink(broker, box_options(), Events())


@pytest.mark.parametrize(
    ("pattern", "topic", "matches"),
    [
        ("a/+/c", "a/b/c", True),
        ("a/+/c", "a/b/d", False),
        ("a/#", "a/b/c", True),
        ("a/b", "a/b/c", False),
        ("a/+", "a", False),
        ("+/b", "a/b", True),
    ],
)
def test_filters_match_as_mqtt_says(pattern: str, topic: str, matches: bool) -> None:
    """The twin routes like a broker."""
    assert topic_matches(pattern, topic) == matches
