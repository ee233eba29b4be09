"""Hold every object store to the same contract: memory, `rclone serve s3`, MinIO's real server.

`rclone-strict` takes the bucket's name in front of its host and nowhere else, as Alibaba Cloud OSS does.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import urllib3

from flows.errors import StoreAway, StoreMissing, StoreRefused
from flows.settings import StoreSettings
from flows.store import MemoryStore, ObjectStore
from flows.store.credentials import StoreCredentials
from flows.store.minio_store import MinioStore
from tests.flows.store.servers import CREDENTIALS, minio_store, rclone_store, strict_store
from tests.helpers import free_port

KINDS = ("memory", "rclone", "rclone-strict", "minio")


@pytest.fixture(scope="module", params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    folder = tmp_path_factory.mktemp(request.param) / "data"
    folder.mkdir()
    servers = {"rclone": rclone_store, "rclone-strict": strict_store, "minio": minio_store}
    start = servers.get(request.param)
    with nullcontext(MemoryStore()) if start is None else start(folder) as opened:
        yield opened


def test_what_is_put_is_got(store: ObjectStore) -> None:
    """Bytes come back as they were put, the empty object included."""
    for key, data in (("a/one.bin", b"\x00one"), ("a/empty", b""), ("a/long", os.urandom(300_000))):
        store.put(key, data)
        assert store.get(key) == data


def test_a_put_replaces(store: ObjectStore) -> None:
    """A second put under the same key wins."""
    store.put("replaced", b"old")
    store.put("replaced", b"newer")
    assert store.get("replaced") == b"newer"
    info = store.stat("replaced")
    assert info is not None
    assert info.size == 5


def test_get_can_be_limited(store: ObjectStore) -> None:
    """A limit bounds how much of a stranger's object is read."""
    store.put("limited", b"0123456789")
    assert store.get("limited", limit=4) == b"0123"


def test_files_go_in_and_out(store: ObjectStore, tmp_path: Path) -> None:
    """A file, also one of several parts' size, comes back byte by byte and leaves no half file behind."""
    content = os.urandom(6 * 1024 * 1024)
    (tmp_path / "in").write_bytes(content)
    store.put_file("files/big", tmp_path / "in")
    store.get_file("files/big", tmp_path / "deep" / "out")
    assert (tmp_path / "deep" / "out").read_bytes() == content
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out"]


def test_what_is_missing_says_so(store: ObjectStore, tmp_path: Path) -> None:
    """Reading or copying what is not there raises `StoreMissing`; stat says None; delete is content."""
    with pytest.raises(StoreMissing):
        store.get("nowhere/at-all")
    with pytest.raises(StoreMissing):
        store.get_file("nowhere/at-all", tmp_path / "out")
    with pytest.raises(StoreMissing):
        store.copy("nowhere/at-all", "nowhere/else")
    assert store.stat("nowhere/at-all") is None
    store.delete("nowhere/at-all")
    assert not (tmp_path / "out").exists()


def test_list_is_by_prefix_and_in_order(store: ObjectStore) -> None:
    """Listing gives every key below a prefix, in order, with its size; an empty prefix folder gives nothing."""
    names = ["list/b/2.json", "list/a.jpg", "list/b/1.json", "list-other/x"]
    for name in names:
        store.put(name, name.encode())
    found = list(store.list("list/"))
    assert [info.key for info in found] == ["list/a.jpg", "list/b/1.json", "list/b/2.json"]
    assert [info.size for info in found] == [len(info.key) for info in found]
    age = datetime.now(timezone.utc) - found[0].modified
    assert abs(age) < timedelta(minutes=5)
    assert list(store.list("list/nothing/")) == []


def test_list_gives_more_than_one_page(store: ObjectStore) -> None:
    """A listing longer than a page of the protocol (1,000 keys) is complete."""
    for number in range(1010):
        store.put(f"many/{number:05d}", b"")
    assert len(list(store.list("many/"))) == 1010


def test_copy_and_delete(store: ObjectStore) -> None:
    """A copy stands by itself; what is deleted is gone."""
    store.put("copy/source", b"content")
    store.copy("copy/source", "copy/target")
    store.delete("copy/source")
    assert store.get("copy/target") == b"content"
    assert store.stat("copy/source") is None


def test_presigned_urls_allow_one_verb_on_one_key(store: ObjectStore) -> None:
    """A box uploads and downloads by URL alone, and can do nothing else with it."""
    if isinstance(store, MemoryStore):
        assert "verb=PUT" in store.presign_put("k", timedelta(minutes=1))
        assert "verb=GET" in store.presign_get("k", timedelta(minutes=1))
        return
    put = store.presign_put("signed/one", timedelta(minutes=5))
    assert urllib3.request("PUT", put, body=b"by url", retries=False).status == 200
    assert store.get("signed/one") == b"by url"
    got = urllib3.request("GET", store.presign_get("signed/one", timedelta(minutes=5)), retries=False)
    assert got.data == b"by url"
    part = urllib3.request(
        "GET",
        store.presign_get("signed/one", timedelta(minutes=5)),
        headers={"Range": "bytes=3-"},
        retries=False,
    )
    # rclone answers 200 where S3 answers 206, so a reader must go by Content-Range.
    assert part.status in (200, 206)
    assert part.headers["Content-Range"] == "bytes 3-5/6"
    assert part.data == b"url"
    assert urllib3.request("GET", put, retries=False).status == 403
    other = put.replace("signed/one", "signed/two")
    assert urllib3.request("PUT", other, body=b"x", retries=False).status == 403
    assert store.stat("signed/two") is None


def test_a_wrong_key_is_refused(store: ObjectStore) -> None:
    """Wrong credentials raise `StoreRefused`, which nobody retries."""
    if isinstance(store, MemoryStore):
        return
    wrong = MinioStore(_settings_of(store), StoreCredentials(CREDENTIALS.access_key, "not-the-secret"))
    with pytest.raises(StoreRefused):
        wrong.put("refused", b"x")
    with pytest.raises(StoreRefused):
        wrong.get("refused")


def test_a_missing_bucket_is_refused(store: ObjectStore) -> None:
    """Without its bucket the store cannot work; that is no missing object."""
    if isinstance(store, MemoryStore):
        return
    settings = _settings_of(store).model_copy(update={"bucket": "no-such-bucket"})
    with pytest.raises(StoreRefused):
        MinioStore(settings, CREDENTIALS).put("x", b"x")


def _settings_of(store: ObjectStore) -> StoreSettings:
    assert isinstance(store, MinioStore)
    style = "virtual" if ".test:" in store.endpoint else "auto"
    return StoreSettings(endpoint=store.endpoint, bucket="whetstone-test", address_style=style)


def test_nobody_answering_is_away() -> None:
    """A store that does not answer raises `StoreAway`, which is tried again."""
    away = MinioStore(StoreSettings(endpoint=f"127.0.0.1:{free_port()}"), CREDENTIALS)
    with pytest.raises(StoreAway):
        away.get("x")
    memory = MemoryStore()
    memory.away = True
    with pytest.raises(StoreAway):
        memory.put("x", b"")
    assert memory.calls["put"] == 1


def test_urls_are_signed_for_the_public_address() -> None:
    """Boxes may reach the store by another address than the cloud; signing needs no connection."""
    settings = StoreSettings(endpoint="127.0.0.1:9", public_endpoint="store.factory.example:9000")
    url = MinioStore(settings, CREDENTIALS).presign_put("a/b", timedelta(minutes=15))
    assert url.startswith("http://store.factory.example:9000/whetstone/a/b?")
    assert CREDENTIALS.secret_key not in url
