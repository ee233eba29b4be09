"""Say where the bucket's name stands, what machines elsewhere can reach, and what their data cost."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
import urllib3

from flows.errors import StoreAway, StoreError, StoreRefused
from flows.settings import StoreSettings
from flows.store.egress import GIB, crosses_regions, egress_cost, egress_of, store_region
from flows.store.minio_store import MinioStore, _by_code
from flows.store.reach import addresses_of, host_of, why_unreachable
from tests.flows.store.servers import CREDENTIALS, strict_store

MINUTE = timedelta(minutes=1)


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MinioStore]:
    """Return a store whose server takes the bucket in front of its host alone."""
    folder = tmp_path_factory.mktemp("strict") / "data"
    folder.mkdir()
    with strict_store(folder) as opened:
        yield opened


def test_a_server_that_refuses_the_path_is_served_by_the_host(strict: MinioStore) -> None:
    """With the bucket in the path nothing works there; in front of the host, URLs do too."""
    in_path = StoreSettings(endpoint=strict.endpoint, bucket="whetstone-test", address_style="path")
    with pytest.raises(StoreError):
        MinioStore(in_path, CREDENTIALS).put("a/b", b"x")
    strict.put("a/b", b"x")
    url = strict.presign_get("a/b", MINUTE)
    assert url.startswith(f"http://whetstone-test.{strict.endpoint}/a/b?")
    assert urllib3.request("GET", url, retries=False).data == b"x"
    put = strict.presign_put("a/c", MINUTE)
    assert urllib3.request("PUT", put, body=b"y", retries=False).status == 200
    assert strict.get("a/c") == b"y"


@pytest.mark.parametrize(
    ("settings", "begins"),
    [
        ({"endpoint": "oss-cn-hangzhou.aliyuncs.com"}, "https://parts.oss-cn-hangzhou.aliyuncs.com/k?"),
        ({"endpoint": "store.plant.example"}, "https://store.plant.example/parts/k?"),
        ({"endpoint": "store.plant.example", "address_style": "virtual"}, "https://parts.store.plant.example/k?"),
        ({"endpoint": "oss-cn-hangzhou.aliyuncs.com", "address_style": "path"},
         "https://oss-cn-hangzhou.aliyuncs.com/parts/k?"),
        ({"endpoint": "10.0.0.5:9000", "secure": False, "public_endpoint": "store.plant.example",
          "public_secure": True}, "https://store.plant.example/parts/k?"),
    ],
)  # fmt: skip
def test_urls_are_signed_in_the_style_of_their_host(settings: dict[str, object], begins: str) -> None:
    """OSS is known by its name; any other host as the settings say; the public address has its own TLS."""
    values = {"bucket": "parts", "secure": True, **settings}
    url = MinioStore(StoreSettings.model_validate(values), CREDENTIALS).presign_get("k", MINUTE)
    assert url.startswith(begins)


def told(endpoint: str, **more: object) -> str:
    """Return why a store there cannot be reached; every name has a public address unless it says private."""
    settings = StoreSettings.model_validate({"secure": True, **more, "public_endpoint": endpoint})
    names = {
        "inside.plant.example": ("10.1.2.3",),
        "nowhere.example": (),
        "both.example": ("10.1.2.3", "8.8.8.8"),
    }
    return why_unreachable(settings, lambda name: names.get(name, ("8.8.8.8",)))


@pytest.mark.parametrize(
    ("endpoint", "says"),
    [
        ("127.0.0.1:9000", "the machine itself"),
        ("[::1]:9000", "the machine itself"),
        ("0.0.0.0:9000", "the machine itself"),
        ("localhost:9000", "the machine itself"),
        ("store.localhost", "the machine itself"),
        ("192.168.1.7:9000", "private address"),
        ("10.0.0.1", "private address"),
        ("100.64.0.9", "private address"),
        ("[fd00::1]:9000", "private address"),
        ("169.254.3.4", "one cable"),
        ("plant-server.local:9000", "this network alone"),
        ("minio:9000", "this network alone"),
        ("store.lan", "this network alone"),
        ("inside.plant.example", "inside.plant.example (10.1.2.3) is a private address"),
        ("nowhere.example", "no address"),
    ],
)
def test_what_machines_elsewhere_cannot_reach(endpoint: str, says: str) -> None:
    """Loopback, private and local addresses and names are refused with the reason."""
    assert says in told(endpoint)


def test_what_machines_elsewhere_can_reach() -> None:
    """A public name or address with TLS; without TLS only in a network of one's own, loopback never."""
    assert told("store.plant.example") == told("both.example") == told("8.8.8.8:9000") == ""
    assert "speaks http" in told("store.plant.example", secure=False)
    assert told("store.plant.example", secure=False, public_secure=True) == ""
    assert "public_secure" in told("store.plant.example", public_secure=False)
    assert told("192.168.1.7:9000", secure=False, private_network=True) == ""
    assert told("minio:9000", private_network=True) == ""
    assert "the machine itself" in told("127.0.0.1:9000", private_network=True)
    assert "store.endpoint" in why_unreachable(StoreSettings())


def test_names_are_asked_for() -> None:
    """The system's own name service answers; a name it does not know has no address."""
    assert "127.0.0.1" in addresses_of("localhost")
    assert addresses_of("no-such-name.invalid") == ()
    assert addresses_of("store..example") == addresses_of(f"{'a' * 64}.example") == ()
    assert host_of("[::1]:9000") == "::1"


@pytest.mark.parametrize(
    "code", ["SlowDown", "SlowDownWrite", "SlowDownRead", "TooManyRequests", "429", "503"]
)
def test_store_that_asks_for_patience_is_away(code: str) -> None:
    """A store that has too much to do is asked again, whatever its maker calls that; a no stays a no."""
    assert isinstance(_by_code(code, "here"), StoreAway)
    assert isinstance(_by_code("AccessDenied", "here"), StoreRefused)


def test_what_leaves_the_store_is_counted() -> None:
    """Dollars by the GiB; a store of one's own has no region, and half of a pair tells nothing."""
    oss = StoreSettings(endpoint="oss-cn-hangzhou.aliyuncs.com", region="cn-hangzhou")
    assert egress_cost(2 * GIB, 0.1) == pytest.approx(0.2)
    assert (store_region(oss), store_region(StoreSettings())) == ("cn-hangzhou", "")
    assert crosses_regions("", "cn-hangzhou") is None
    assert crosses_regions("us-east-1", "us-east-1b") is False
    assert crosses_regions("us-central1", "us-central1-a") is False
    aws = StoreSettings(endpoint="s3.us-east-1.amazonaws.com", region="us-east-1")
    ways = ("aws/us-east-1", "us-east-1", "lambda/us-east-1", "aws/us-west-2")
    assert [egress_of(aws, one, GIB, 0.0).crosses for one in ways] == [False, False, True, True]
    near, far = egress_of(oss, "cn-hangzhou", GIB, 0.0), egress_of(oss, "us-west-1", GIB, 0.12)
    assert (near.crosses, far.crosses, far.cost) == (False, True, 0.12)
    assert far.words == "1.00 GiB cn-hangzhou -> us-west-1, out of its region: $0.12"
    assert egress_of(StoreSettings(), "", GIB, 0.1).words == "1.00 GiB own store -> region unknown: $0.10"
