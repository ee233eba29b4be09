"""Tell what is wrong with settings so that a person can mend it, and never a secret."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from flows.errors import SettingsError
from flows.settings import load_settings

WRONG = """
installation = "plant7"
[store]
endpont = "127.0.0.1:9000"
[providers.here]
kind = "ssh"
hostz = []
[providers.seller]
kind = "autodl-pro"
token = "sk-a-real-secret"
image_uuid = "x"
specs = []
cuda = 5
[providers.seller.money]
per_dolar = 7.1
[providers.typo]
kind = "autodll"
[providers.clouds]
kind = "dstack"
token = "env:A"
url = "127.0.0.1:3"
[providers.sky]
kind = "skypilot"
url = "ann:a-real-secret@sky.example"
"""


def test_every_problem_says_where_what_and_which_key_is_near(tmp_path: Path) -> None:
    """All of them at once; what stands where a secret is named shows neither in the message nor in a traceback."""
    (tmp_path / "whetstone.toml").write_text(WRONG)
    with pytest.raises(SettingsError) as raised:
        load_settings(tmp_path)
    told = str(raised.value)
    for part in (
        "store.endpont: no such key; is 'endpoint' meant?",
        "providers.here.ssh.hosts: Field required",
        "providers.here.ssh.hostz: no such key; is 'host",
        "providers.seller.autodl-pro.token: expected where the token is kept: file:PATH, env:VARIABLE or block:",
        "providers.clouds.dstack.url: expected an address with its scheme: https://server:8080, got '127.0.0.1:3'",
        "providers.sky.skypilot.url: expected an address",
        "providers.seller.autodl-pro.cuda: Input should be greater than or equal to 100, got '5'",
        "providers.seller.autodl-pro.money.per_dolar: no such key; is 'per_dollar' meant?",
        "providers.typo: Input tag 'autodll'",
    ):
        assert part in told
    assert "a-real-secret" not in told
    assert "a-real-secret" not in "".join(traceback.format_exception(raised.value))
