"""Be the Prefect flow `reap`: one round of the reaper over every provider, shown to people.

    prefect deployment run reap/reap

It runs on a schedule beside the reaper's own process, which works every ten seconds and without Prefect. It
is no second reaper in the sense of `endings`: a schedule that stops proves nothing.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from prefect import flow, get_run_logger

from flows.errors import FlowsError

if TYPE_CHECKING:
    from flows.gpus.reaper import Round


@flow(name="reap", flow_run_name="reap", persist_result=False, validate_parameters=True)
def reap(folder: str | None = None) -> dict[str, int]:
    """End every machine that no live lease owns, and say where nothing can be ended.

    Args:
        folder: the installation's folder; by default the one the services run in.
    """
    from flows.context import database_url
    from flows.database import Database
    from flows.gpus.__main__ import watch_of
    from flows.gpus.rounds import Rounds
    from flows.retrain.flow import installation, show
    from flows.settings import load_settings

    where = Path(installation(folder)).resolve()
    settings = load_settings(where)
    database = Database.open(database_url(where, settings))
    try:
        rounds = Rounds(watch_of(where, settings, database), beats=False).once()
    finally:
        database.close()
    ended = sum(len(one.ended) for one in rounds)
    unwatched = [one for one in rounds if one.locked_out]
    if ended or unwatched:
        show("reaped", page_of(rounds), f"{ended} ended, {len(unwatched)} providers out of reach")
    log = get_run_logger()
    for one in rounds:
        log.log(logging.ERROR if one.locked_out else logging.INFO, "%s", line_of(one))
    if unwatched:
        raise OutOfReach(
            expected="providers whose machines can be ended",
            got="; ".join(one.trouble for one in unwatched),
            where=", ".join(one.provider for one in unwatched),
        )  # fmt: skip
    return {"ended": ended, "providers": len(rounds)}


class OutOfReach(FlowsError):
    """Tell that only a person can help; it fails the flow run, so that Prefect shows it and can notify."""

    remedy = "Renew the token or set the provider up again; machines of it cannot be ended until then."


def line_of(one: Round) -> str:
    """Return one line about a round."""
    state = "locked out" if one.locked_out else "answered" if one.answered else "away"
    ended = ", ".join(f"{what.machine or what.lease_id} ({what.reason})" for what in one.ended)
    return "; ".join(
        filter(None, (f"{one.provider}: {state}", f"ended {ended}" if ended else "", one.trouble))
    )


def page_of(rounds: tuple[Round, ...]) -> str:
    """Return what rounds came to, as Markdown."""
    return "# Reaped\n\n" + "\n".join(f"* {line_of(one)}" for one in rounds) + "\n"
