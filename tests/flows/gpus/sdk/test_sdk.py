"""See what adapters over a seller's SDK share: keys, refusals, time limits, no retries, no key in any text."""

from __future__ import annotations

import importlib.util
import json
import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from flows.database import Database
from flows.errors import SettingsError
from flows.gpus.errors import GpuError, ProviderAway, TokenRefused
from flows.gpus.leases import LeaseBook, rent
from flows.gpus.modelarts import calls as modelarts_calls
from flows.gpus.modelarts.simulator import ModelArtsSimulator
from flows.gpus.pai_dlc import calls as pai_calls
from flows.gpus.pai_dlc.simulator import PaiDlcSimulator
from flows.gpus.sdk.calls import MOST_LETTERS, Refusal, Seller
from flows.gpus.sdk.keys import KeyPair, read_pair
from flows.gpus.sdk.simulator import Reply, Request
from tests.flows.gpus.contract import terms, write_ticket
from tests.flows.gpus.modelarts.rig import ModelArtsRig
from tests.flows.gpus.pai_dlc.rig import PaiDlcRig
from tests.flows.gpus.sdk.rig import KEY, Clock, JobsRig

SESSION = "5essionToken0fATemporaryKey"


@pytest.fixture(params=["pai-dlc", "modelarts"])
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[JobsRig]:
    """Return each seller's rig."""
    clock = Clock()
    kinds = {"pai-dlc": (PaiDlcSimulator, PaiDlcRig), "modelarts": (ModelArtsSimulator, ModelArtsRig)}
    simulator, rig = kinds[request.param]
    with simulator(KEY, clock) as seller:
        yield rig(tmp_path, seller, clock)


@pytest.fixture
def book(rig: JobsRig, tmp_path: Path) -> Iterator[LeaseBook]:
    """Return a lease book by the seller's clock."""
    database = Database.open(f"sqlite:///{tmp_path / 'leases.db'}")
    yield LeaseBook(database, rig.now)
    database.close()


@pytest.fixture
def ticket(tmp_path: Path) -> Path:
    """Return a ticket."""
    return write_ticket(tmp_path / "ticket.json")


def creates(rig: JobsRig) -> int:
    """Return how many requests would have made a job."""
    return sum(rig.simulator.creates(one) for one in rig.simulator.seen)


def test_a_wrong_secret_is_refused_and_nothing_of_it_is_told(
    rig: JobsRig, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """A signature made with another secret is not taken; the seller's answer, which repeats it, is not passed on."""
    caplog.set_level(logging.DEBUG)
    wrong = (KEY[0], "another5ecret")
    rig.keep_key(wrong, security_token=SESSION)
    with pytest.raises(TokenRefused) as caught:
        rig.provider.list_ours()
    error = caught.value
    assert error.where.startswith("file:key.json")
    assert "new access key" in error.diagnostics()
    assert error.__context__ is None
    told = f"{error!r} {error} {error.diagnostics()} {caplog.text} {capfd.readouterr()}"
    for secret in (*wrong, SESSION):
        assert secret not in told


def test_a_renewed_key_is_taken_at_once(rig: JobsRig) -> None:
    """A new key in its place is used with the next call; one that is no document is named."""
    rig.keep_key(("AKIDold", "old"))
    with pytest.raises(TokenRefused):
        rig.provider.list_ours()
    rig.keep_key(KEY)
    assert rig.provider.list_ours() == ()
    (rig.folder / "key.json").write_text(f"{KEY[0]}:{KEY[1]}")
    with pytest.raises(TokenRefused) as caught:
        rig.provider.list_ours()
    assert KEY[1] not in str(caught.value)
    assert rig.key_names[0] in caught.value.expected


def test_a_temporary_key_is_signed_with_and_its_end_told(rig: JobsRig) -> None:
    """A temporary pair works; its end is told; one that ends too soon for a launch is refused before it."""
    ends = rig.now() + timedelta(hours=3)
    rig.keep_key(KEY, security_token=SESSION, expiration=ends.isoformat())
    assert rig.provider.standing().expires_at == ends
    assert KEY[0] not in rig.provider.standing().who
    rig.keep_key(KEY, security_token=SESSION, expiration=(rig.now() + timedelta(minutes=3)).isoformat())
    before = len(rig.simulator.seen)
    with pytest.raises(TokenRefused):
        rig.provider.standing()
    assert len(rig.simulator.seen) == before


@pytest.mark.parametrize("fault", ["silence", "unavailable", "rate-limit", "hang"])
def test_a_launch_is_asked_for_once(
    rig: JobsRig, book: LeaseBook, ticket: Path, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever becomes of a launch, the SDK does not ask again, and a call that hangs ends in time."""
    wanted = terms(rig)
    for module in (pai_calls, modelarts_calls):
        monkeypatch.setattr(module, "READ_SECONDS", 0.5)
    provider = rig.make()
    rig.simulator.begin(fault)
    began = time.monotonic()
    with pytest.raises(ProviderAway):
        rent(book, provider, wanted, ticket)
    assert rig.simulator.fired(fault) == 1
    assert time.monotonic() - began < 20.0
    assert creates(rig) <= 1
    rig.simulator.calm()


def test_debug_mode_of_an_sdk_shows_no_key(
    rig: JobsRig, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """With the SDKs' debugging switched on from outside, nothing of a key is written anywhere."""
    monkeypatch.setenv("DEBUG", "sdk")
    caplog.set_level(logging.DEBUG)
    rig.keep_key(KEY, security_token=SESSION)
    rig.provider.list_ours()
    rig.simulator.begin("silence")
    with pytest.raises(ProviderAway):
        rig.provider.list_ours()
    assert rig.simulator.fired("silence") == 1
    written = f"{capfd.readouterr()} {caplog.text}"
    for secret in (*KEY, SESSION):
        assert secret not in written


@pytest.mark.parametrize("number", ["many", [3], {"a": 1}])
def test_answer_of_another_shape_is_no_answer(
    rig: JobsRig, monkeypatch: pytest.MonkeyPatch, number: object
) -> None:
    """JSON with other things in its fields than the seller's breaks nobody: the seller is away."""
    garbled = []

    def garble(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: garble(one) for name, one in value.items()}
        if isinstance(value, list):
            return [garble(one) for one in value]
        return number if isinstance(value, int | float) and not isinstance(value, bool) else value

    answer = rig.simulator.answer

    def another(request: Request) -> Reply:
        told = answer(request)
        garbled.append(request.path)
        return replace(told, document=garble(told.document))

    monkeypatch.setattr(rig.simulator, "answer", another)
    for call in (rig.provider.offers, rig.provider.list_ours):
        with pytest.raises(ProviderAway):
            call()
    assert len(garbled) == 2


def test_a_missing_package_is_named(rig: JobsRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the SDK the provider is not made, and the extra to install is named."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(SettingsError) as caught:
        rig.make()
    extra = {"aliyun": "pai", "huawei": "modelarts"}[rig.provider.name]
    assert f"whetstone-edge[cloud,{extra}]" in caught.value.diagnostics()


def test_nothing_of_the_seller_goes_to_the_machine(rig: JobsRig, book: LeaseBook, ticket: Path) -> None:
    """The document that makes a job holds no part of the key, whatever field it were in."""
    rig.keep_key(KEY, security_token=SESSION)
    lease = rent(book, rig.provider, terms(rig), ticket)
    document = json.dumps(rig.simulator.jobs[lease.machine].asked)
    for secret in (*KEY, SESSION):
        assert secret not in document


def test_a_lease_that_is_over_gets_the_shortest_time(rig: JobsRig, book: LeaseBook, ticket: Path) -> None:
    """A launch that comes late is given the least the seller knows, not forever."""
    wanted = terms(rig, timedelta(seconds=1))
    rig.advance(timedelta(seconds=2))
    lease = rent(book, rig.provider, wanted, ticket)
    (job,) = rig.simulator.now_all()
    assert job.job_id == lease.machine
    assert job.until - job.began <= timedelta(hours=1)


def test_a_job_that_takes_its_time_to_stop_is_said_to_run(
    rig: JobsRig, book: LeaseBook, ticket: Path
) -> None:
    """An order to stop is not believed to be its effect: until the job has ended it runs, is listed, and costs."""
    rig.simulator.stops_in = timedelta(minutes=1)
    lease = rent(book, rig.provider, terms(rig), ticket)
    for _ in range(2):
        rig.provider.terminate(lease.machine)
        assert rig.provider.status(lease.machine).state == "running"
        assert [one.machine for one in rig.provider.list_ours()] == [lease.machine]
    rig.advance(timedelta(minutes=1))
    assert rig.provider.status(lease.machine).state == "ended"
    assert rig.provider.list_ours() == ()


def test_messages_of_a_seller_are_short_and_without_the_key() -> None:
    """A refusal is passed on as far as it helps, with the key's parts taken out."""
    pair = KeyPair("AKID42", "s3cret")
    seller = Seller("the seller", "env:KEY", "renew it", (ValueError,),
                    lambda _: Refusal(400, "No", f"AKID42 said s3cret{'x' * 1000}"), lambda _: "refused")  # fmt: skip
    with pytest.raises(GpuError) as caught:
        seller.ask("Call", pair, lambda: int("no number"))
    assert caught.value.got.startswith("No: ... said ...x")
    assert len(caught.value.got) < MOST_LETTERS + 10


@pytest.mark.parametrize(
    "text",
    ["", "[]", "null", '{"id": "AKID"}', '{"id": "AKID", "key": 7}', '{"id": "A KID", "key": "x"}',
     '{"id": "AKID", "key": "x", "expiration": "soon"}', '{"id": "AKID\\n", "key": "x"}'],
)  # fmt: skip
def test_what_is_no_pair_is_refused(text: str) -> None:
    """Anything but a document with two plain words is refused, without being repeated."""
    with pytest.raises(TokenRefused) as caught:
        read_pair(lambda: text, "env:KEY", ("id", "key"))
    assert caught.value.got == "something else"
    assert caught.value.__context__ is None
