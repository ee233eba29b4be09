"""Hold law 5: a run starts from the champion or a registered origin, whatever else lies in the bucket."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.champion import champion
from flows.context import Context
from flows.database.schema import CandidateRow, RunRow
from flows.errors import CannotStart
from flows.retrain import runs
from tests.flows.kit import TASK, sent_and_labelled
from tests.flows.retrain.simulated import BLIND, SimulatedTrainer, attempt
from tests.helpers import own_sleep


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Poll without a pause: the simulated trainer works at once."""
    own_sleep(monkeypatch, lambda _: None)


def test_after_a_refused_candidate_the_next_run_starts_from_the_champion(
    ready: Context, tmp_path: Path
) -> None:
    """A refused candidate's weights are kept to be looked at, and no run can be opened on them."""
    refused = attempt(ready, SimulatedTrainer(ready, tmp_path, model=BLIND))
    assert refused.state == "refused"
    with ready.database.reader() as session:
        assert session.get(CandidateRow, refused.run) is not None
    sent_and_labelled(ready, 24, first=24)
    before = champion(ready, TASK)
    assert before is not None
    after = attempt(ready, SimulatedTrainer(ready, tmp_path))
    with ready.database.reader() as session:
        run = session.get(RunRow, after.run)
    assert run is not None
    assert run.start_sha256 == before.weights_sha256


def test_weights_that_nobody_registered_start_nothing(ready: Context) -> None:
    """Weights that no champion had and no person entered are refused by their hash."""
    with pytest.raises(CannotStart, match="champion or a registered origin"):
        runs.start_with(ready, TASK, "0" * 64)
