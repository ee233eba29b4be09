"""Check where tokens come from, when one is refused, and what becomes of machines when one is revoked."""

from __future__ import annotations

import base64
import json
import logging
import os
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from flows.database import Database
from flows.gpus.autodl.simulator import AutodlSimulator
from flows.gpus.errors import ProviderAway, TokenRefused
from flows.gpus.leases import LeaseBook, give_back, rent
from flows.gpus.reaper import reap
from flows.gpus.tokens import (
    LAUNCH_NEEDS,
    MOST_BYTES,
    KeptToken,
    ends_at,
    hidden,
    require_header,
    require_lasting,
)
from tests.flows.gpus.autodl.rigs import TOKEN, ElasticRig, ProRig
from tests.flows.gpus.contract import terms, write_ticket

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=timezone.utc)
SECRET = "t0ken-that-nobody-may-see"


def jwt(claims: object) -> str:
    """Return a token in the form of a JWT."""
    parts = [json.dumps(part).encode() for part in ({"alg": "ES256", "typ": "JWT"}, claims)]
    return ".".join([*(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts), "c2lnbmVk"])


def kept_in(path: Path, content: bytes | str, mode: int = 0o600) -> KeptToken:
    """Return the token of a file."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(mode)
    return KeptToken(f"file:{path.name}", path.parent)


# --- where they come from ---------------------------------------------------------------------------------


def test_renewed_token_is_taken_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each use reads the token anew, from a file beside the settings or from the environment."""
    token = kept_in(tmp_path / "token", f" {SECRET}\n")
    assert token() == SECRET
    kept_in(tmp_path / "token", "another")
    assert token() == "another"
    monkeypatch.setenv("SELLER_TOKEN", SECRET)
    from_environment = KeptToken("env:SELLER_TOKEN")
    assert from_environment() == SECRET
    monkeypatch.setenv("SELLER_TOKEN", "another")
    assert from_environment() == "another"


def test_file_elsewhere_and_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An absolute path is taken as it is, and `~` is the user's home."""
    kept_in(tmp_path / "token", SECRET)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert KeptToken(f"file:{tmp_path / 'token'}", Path("/nowhere"))() == SECRET
    assert KeptToken("file:~/token", Path("/nowhere"))() == SECRET


@pytest.mark.parametrize("place", ["file:none", "file:empty", "env:NO_SUCH_TOKEN_HERE"])
def test_nothing_there_is_said_with_its_place(tmp_path: Path, place: str) -> None:
    """A missing token is named by where it was looked for, and what to do."""
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(TokenRefused) as caught:
        KeptToken(place, tmp_path)()
    assert caught.value.where == place
    assert "Put the provider's token there" in caught.value.diagnostics()


def test_what_is_no_text_is_refused_without_showing_it(tmp_path: Path) -> None:
    """A file of other bytes, a folder, or more than a token are refused; nothing of them is quoted."""
    token = kept_in(tmp_path / "token", SECRET.encode() + b"\xff\xfe")
    with pytest.raises(TokenRefused) as caught:
        token()
    assert SECRET not in _all_of(caught.value)
    (tmp_path / "folder").mkdir()
    with pytest.raises(TokenRefused):
        KeptToken("file:folder", tmp_path)()
    endless = kept_in(tmp_path / "endless", "x" * (MOST_BYTES + 9))
    assert len(endless()) == MOST_BYTES


def test_others_may_read_it_is_complained_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file that others may read is used, since mounted secrets are such, and complained of one time."""
    caplog.set_level(logging.WARNING)
    token = kept_in(tmp_path / "open", SECRET, 0o644)
    assert [token() for _ in range(3)] == [SECRET] * 3
    kept_in(tmp_path / "closed", SECRET, 0o600)
    assert KeptToken("file:closed", tmp_path)() == SECRET
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1
    assert "token_readable_by_others" in told[0]
    assert str(tmp_path / "open") in told[0]
    assert SECRET not in caplog.text


class _Block:
    """Stand for Prefect's Secret block where its server fails; test_automations.py asks a real server."""

    content: object = SECRET

    @classmethod
    def load(cls, name: str, *, _sync: bool) -> _Block:
        assert _sync, "asked from wherever, it has to answer and not to return a coroutine"
        if isinstance(cls.content, Exception):
            raise cls.content
        assert name == "seller"
        return cls()

    def get(self) -> object:
        return self.content


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (SECRET, None),
        (ValueError("Unable to find block document named seller"), TokenRefused),
        (ConnectionError("refused"), ProviderAway),
        (RuntimeError("Failed to reach API"), ProviderAway),
    ],
)
def test_block_of_prefect(
    monkeypatch: pytest.MonkeyPatch, content: object, expected: type[Exception] | None
) -> None:
    """A Secret block is read anew each time; one that is not there is no token, a silent server is away."""
    from prefect.blocks import system

    monkeypatch.setattr(system, "Secret", _Block)
    monkeypatch.setattr(_Block, "content", content)
    token = KeptToken("block:seller")
    if expected is None:
        assert token() == SECRET
        return
    with pytest.raises(expected) as caught:
        token()
    assert "block:seller" in str(caught.value)


# --- never shown ------------------------------------------------------------------------------------------


def test_token_is_not_shown(tmp_path: Path) -> None:
    """Neither the keeper's text nor an error about a token holds the token."""
    token = kept_in(tmp_path / "token", f"Bearer {SECRET}")
    with pytest.raises(TokenRefused) as caught:
        require_header(token(), token.place)
    assert SECRET not in f"{token!r} {token} {_all_of(caught.value)}"
    assert "without 'Bearer'" in caught.value.diagnostics()


@pytest.mark.parametrize("bad", ["a b", "a\nb", "a\r\nX-Other: 1", "tokén", "a\x00", "a\tb", "'a'", '"a"'])
def test_what_no_header_takes_is_refused(bad: str) -> None:
    """What would end the header, or change the request, never gets there."""
    with pytest.raises(TokenRefused):
        require_header(bad, "file:token")


def test_text_is_cleared_of_secrets() -> None:
    """Secrets are taken out of texts that others wrote; an empty one takes nothing out."""
    assert hidden(f"token {SECRET} of {SECRET} is wrong", SECRET, "") == "token ... of ... is wrong"


# --- when they end ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "token",
    [
        "", "plain", "a.b", "a.b.c", "a.b.c.d", jwt({"uid": 7}), jwt([]), jwt(3), jwt({"exp": "soon"}),
        jwt({"exp": None}), jwt({"exp": 1e300}), jwt({"exp": float("nan")}), "é.é.é", "..", "a.e30.c",
    ],
)  # fmt: skip
def test_token_that_does_not_say_when_it_ends(token: str) -> None:
    """Most tokens say nothing of their end, and then nothing is refused."""
    assert ends_at(token) is None
    assert require_lasting(token, "file:token", NOW) is None


@pytest.mark.parametrize(
    ("left", "lasts"),
    [
        (timedelta(days=30), True),
        (LAUNCH_NEEDS, True),
        (LAUNCH_NEEDS - timedelta(seconds=1), False),
        (timedelta(0), False),
        (timedelta(days=-3), False),
    ],
)
def test_token_that_ends_before_a_launch_is_through(left: timedelta, lasts: bool) -> None:
    """One that says it ends within the time a launch takes is refused, with its end and not with itself."""
    token = jwt({"exp": int((NOW + left).timestamp())})
    assert ends_at(token) == NOW + left
    if lasts:
        assert require_lasting(token, "file:token", NOW) == NOW + left
        return
    with pytest.raises(TokenRefused, match=(NOW + left).strftime("%Y-%m-%d")) as caught:
        require_lasting(token, "file:token", NOW)
    assert token not in _all_of(caught.value)
    assert "Renew it" in caught.value.diagnostics()


# --- revoked in the middle of a run -----------------------------------------------------------------------


@pytest.fixture(params=[ProRig, ElasticRig])
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ProRig | ElasticRig]:
    """Return an adapter with a token before a simulated account."""
    with AutodlSimulator(TOKEN) as simulator:
        yield request.param(tmp_path, simulator)


@pytest.fixture
def book(rig: ProRig | ElasticRig, tmp_path: Path) -> Iterator[LeaseBook]:
    """Return a lease book that goes by the seller's clock."""
    database = Database.open(f"sqlite:///{tmp_path / 'leases.db'}")
    yield LeaseBook(database, rig.now)
    database.close()


def test_revoked_token_ends_no_machine_and_machine_ends_itself(
    rig: ProRig | ElasticRig, book: LeaseBook, tmp_path: Path
) -> None:
    """A leaked token that was revoked leaves a working machine at work, until its own deadline at the latest."""
    lease = rent(book, rig.provider, terms(rig, timedelta(hours=2)), write_ticket(tmp_path / "ticket.json"))
    rig.simulator.token = "the seller made a new one"
    for ask in (rig.provider.status, rig.provider.terminate):
        with pytest.raises(TokenRefused):
            ask(lease.machine)
    assert reap(book, [rig.provider]) == ()
    assert [one.costs for one in rig.truth()] == [True]
    assert [one.lease_id for one in book.live()] == [lease.lease_id]
    rig.advance(timedelta(hours=2, seconds=5))
    assert [one.costs for one in rig.truth()] == [False]


def test_renewed_token_lets_the_reaper_end_it(
    rig: ProRig | ElasticRig, book: LeaseBook, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Past its lease a machine is ended as soon as the token is renewed; until then each round says why not."""
    lease = rent(book, rig.provider, terms(rig, timedelta(hours=1)), write_ticket(tmp_path / "ticket.json"))
    rig.simulator.token = "renewed-token"
    rig.advance(timedelta(hours=1, seconds=5))
    assert reap(book, [rig.provider]) == ()
    assert "file:token" in caplog.text
    assert [one.lease_id for one in book.live()] == [lease.lease_id]
    (tmp_path / "token").write_text("renewed-token")
    assert [one.machine for one in reap(book, [rig.provider])] == [lease.machine]
    assert rig.truth() == ()
    assert book.live() == ()


def test_flow_goes_on_with_the_renewed_token(
    rig: ProRig | ElasticRig, book: LeaseBook, tmp_path: Path
) -> None:
    """No process has to be started again: the next call takes the new token."""
    lease = rent(book, rig.provider, terms(rig), write_ticket(tmp_path / "ticket.json"))
    rig.simulator.token = "renewed-token"
    with pytest.raises(TokenRefused):
        give_back(book, rig.provider, lease, "done")
    (tmp_path / "token").write_text("renewed-token")
    assert rig.provider.status(lease.machine).state == "running"
    give_back(book, rig.provider, lease, "done")
    assert rig.truth() == ()


def test_token_about_to_end_rents_nothing(rig: ProRig | ElasticRig, book: LeaseBook, tmp_path: Path) -> None:
    """A token that would not outlast the launch is refused before anything is created."""
    rig.simulator.token = jwt({"exp": int((rig.now() + timedelta(minutes=5)).timestamp())})
    (tmp_path / "token").write_text(rig.simulator.token)
    with pytest.raises(TokenRefused, match="ends at"):
        rent(book, rig.provider, terms(rig), write_ticket(tmp_path / "ticket.json"))
    assert rig.truth() == ()
    rig.simulator.token = jwt({"exp": int((rig.now() + timedelta(days=5)).timestamp())})
    (tmp_path / "token").write_text(rig.simulator.token)
    expires = rig.provider.standing().expires_at
    assert expires is not None
    assert expires - rig.now() > timedelta(days=4)


def _all_of(error: TokenRefused) -> str:
    return f"{error!r} {error} {error.diagnostics()} {error.__cause__!r} {os.linesep}"
