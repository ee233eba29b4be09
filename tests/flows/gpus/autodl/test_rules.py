"""Check AutoDL's rules that need no server: answers, money, start lines; and the simulator's own wire."""

from __future__ import annotations

import json
import os
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
import urllib3

from fleet_contracts import utc_now
from flows.gpus.autodl.answers import read_answer
from flows.gpus.autodl.client import _is_last
from flows.gpus.autodl.command import POWER_OFF, command_of_container, command_of_instance, environment_in
from flows.gpus.autodl.money import milli_of, text_of
from flows.gpus.autodl.simulator import AutodlSimulator
from flows.gpus.autodl.stock import idle_in
from flows.gpus.errors import ProviderAway
from flows.gpus.settings import ForeignMoney
from flows.gpus.starting import Start
from tests.flows.gpus.autodl.rigs import TOKEN

CLAIM = "https://store.example/b/ticket.json?a=1&b='2' $HOME"


@pytest.mark.parametrize(
    ("status", "code", "said", "kind"),
    [
        (200, "Success", "", "good"),
        (200, "RecordNotFoundError", "未查询到相关实例", "missing"),
        (200, "TORealName", "未完成实名认证,认证后才可使用", "right"),
        (200, "BadRequest", "无当前资源访问权限", "right"),
        (200, "BadRequest", "请在关机后释放实例", "refused"),
        (200, "InternalError", "当前算力规格暂无库存, 请修改配置或稍等再试", "refused"),
        (200, "RequestParameterIsWrong", "请求参数错误", "refused"),
        (200, "AuthorizeFailed", "授权失败", "token"),
        (200, "BadRequest", "登录超时，请重新登录", "token"),
        (200, "BadRequest", "操作过于频繁，请稍后再试", "away"),
        (401, "Success", "", "token"),
        (403, "", "", "token"),
        (429, "Success", "", "away"),
        (502, "Success", "", "away"),
        (201, "Success", "", "refused"),
    ],
)
def test_answers_are_told_apart(status: int, code: str, said: str, kind: str) -> None:
    """Every code but Success is a failure, also with HTTP 200, and what it means is told by code and message."""
    content = json.dumps({"code": code, "msg": said, "data": None}).encode()
    assert read_answer(status, content).kind == kind


@pytest.mark.parametrize(
    "content", [b"", b"<html>", b'{"code":"Success","da', b"[]", b"null", b'{"msg":""}', b"3"]
)
def test_what_is_no_envelope_is_no_answer(content: bytes) -> None:
    """A proxy's page, half a document or another one proves nothing of what happened."""
    assert read_answer(200, content).kind == "away"


def test_money_is_whole_thousandths() -> None:
    """Dollars become thousandths of a yuan and nothing is lost between what is shown and what is sent."""
    money = ForeignMoney(per_dollar=7.1234)
    assert all(milli_of(milli / 1000 / 7.1234, money) == milli for milli in (1, 10, 1970, 2980, 99999))
    assert text_of(29290) == "29.290 yuan"


@pytest.mark.parametrize("data", [[3], [{"RTX 4090": 3}], [{"RTX 4090": {"idle_gpu_num": "many"}}], 7])
def test_stock_that_cannot_be_read(data: object) -> None:
    """A stock in another form is no stock, and not an empty one."""
    with pytest.raises(ProviderAway):
        idle_in(data)


@pytest.mark.parametrize(
    ("page", "index", "seen", "is_last"),
    [
        ({"max_page": 3}, 2, 200, False),
        ({"max_page": 3}, 3, 201, True),
        ({"max_page": 1, "result_total": 500}, 1, 100, True),
        ({"result_total": 120}, 1, 50, False),
        ({"result_total": 120}, 3, 120, True),
        ({}, 1, 7, True),
        ({}, 1, 100, False),
        ({}, 2, 107, True),
    ],
)
def test_list_is_read_to_its_end(page: dict[str, int], index: int, seen: int, is_last: bool) -> None:
    """A page smaller than what was asked for is not taken for the last one."""
    assert _is_last(page, index, seen) is is_last


def in_shell(line: str, folder: Path, *, exit_code: int = 0) -> list[str]:
    """Run a start line in a real shell with a stand-in for python and the power-off; return what they wrote."""
    told = folder / "told"
    (folder / "python").write_text(
        f'#!/bin/sh\necho "python $* claim=$WHETSTONE_CLAIM" >> {told}\nexit {exit_code}\n'
    )
    (folder / "off").write_text(f"#!/bin/sh\necho off >> {told}\n")
    for name in ("python", "off"):
        (folder / name).chmod(0o755)
    environment = {"PATH": f"{folder}:{os.environ['PATH']}", "HOME": "/nobody"}
    with subprocess.Popen(
        ["sh", "-c", line.replace(POWER_OFF, str(folder / "off"))], env=environment, start_new_session=True
    ) as shell:
        shell.wait(20)
        os.killpg(shell.pid, 15) if "sleep" in line else None
    return told.read_text().splitlines()


@pytest.mark.parametrize("exit_code", [0, 1, 137])
def test_instance_line_in_a_real_shell(tmp_path: Path, exit_code: int) -> None:
    """The trainer gets its claim whole, and the instance powers off however the trainer ended."""
    start = Start("image", {"WHETSTONE_CLAIM": CLAIM, "WHETSTONE_LEASE": "lease-1"})
    line = command_of_instance(start, utc_now() + timedelta(hours=1), utc_now())
    assert in_shell(line, tmp_path, exit_code=exit_code) == [f"python -m trainer rented claim={CLAIM}", "off"]
    assert environment_in(line) == start.environment


def test_instance_line_where_there_is_no_python(tmp_path: Path) -> None:
    """An image without our trainer does not cost until somebody notices."""
    start = Start("image", {"WHETSTONE_CLAIM": CLAIM}, command=("no-such-program", "-m", "trainer"))
    line = command_of_instance(start, utc_now() + timedelta(hours=1), utc_now())
    assert in_shell(line, tmp_path) == ["off"]


def test_container_line_in_a_real_shell(tmp_path: Path) -> None:
    """The container's command is the trainer with its claim, under a limit."""
    start = Start("image", {"WHETSTONE_CLAIM": CLAIM})
    line = command_of_container(start, utc_now() + timedelta(hours=1), utc_now())
    assert in_shell(line, tmp_path) == [f"python -m trainer rented claim={CLAIM}"]
    assert " timeout --kill-after=60 3900 " in line.replace("3899", "3900")


def test_simulator_speaks_as_autodl_does(simulator: AutodlSimulator) -> None:
    """HTTP 200 throughout; GET takes its arguments from the query alone; a Bearer is no token."""

    def ask(method: str, path: str, token: str = TOKEN, **body: object) -> dict[str, object]:
        reply = urllib3.request(
            method, simulator.url + path, headers={"Authorization": token}, body=json.dumps(body).encode()
        )
        assert reply.status == 200
        return dict(reply.json())

    root = "/api/v1/dev/instance/pro"
    created = {
        "req_gpu_amount": 1,
        "expand_system_disk_by_gb": 0,
        "gpu_spec_uuid": "v-48g",
        "image_uuid": "i",
    }
    uuid = ask("POST", f"{root}/create", **created, cuda_v_from=118)["data"]
    assert str(uuid).startswith("pro-")
    assert ask("GET", f"{root}/status?instance_uuid={uuid}")["data"] in ("creating", "starting", "running")
    assert ask("GET", f"{root}/status", instance_uuid=uuid)["code"] == "RequestParameterIsWrong"
    assert ask("GET", f"{root}/status?instance_uuid=pro-none")["code"] == "RecordNotFoundError"
    assert ask("POST", f"{root}/release", instance_uuid=uuid)["code"] == "BadRequest", "it runs"
    assert (
        ask("POST", f"{root}/create", **{**created, "gpu_spec_uuid": "a100"}, cuda_v_from=118)["data"] is None
    )
    assert ask("POST", f"{root}/list", f"Bearer {TOKEN}", page_index=1, page_size=1)["code"] != "Success"
    rows = ask("POST", f"{root}/list", page_index=1, page_size=1)["data"]
    assert isinstance(rows, dict)
    assert (rows["max_page"], rows["result_total"], len(rows["list"])) == (1, 1, 1)
