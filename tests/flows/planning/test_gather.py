"""Gather plans' inputs from a real installation: offers, lineage, finished runs, and the network of the origin."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from fleet_contracts import decode, encode, keys, sha256_of, utc_now
from fleet_contracts.training import EpochMetrics, RunEvent, RunRecord, TrainPlan
from flows.champion import champion
from flows.context import Context
from flows.database.schema import RunRow
from flows.errors import CannotStart, SettingsError
from flows.gpus import this_machine
from flows.gpus.errors import ProviderAway
from flows.gpus.local import LocalProvider
from flows.gpus.memory import MemoryProvider
from flows.gpus.providers import MADE_BY
from flows.gpus.settings import DstackSection
from flows.planning import networks
from flows.planning.gather import offers_of
from flows.planning.imagined import imagined_offers
from flows.planning.lineage import lineage_of
from flows.planning.pages import outcome_page, plan_page
from flows.planning.past_runs import finished_runs
from flows.planning.preview import preview
from flows.retrain import runs, steps
from flows.settings import LimitSettings, RecipeSettings, write_settings
from tests.flows.kit import TASK, sent_and_labelled, with_task
from tests.flows.retrain.conftest import ready, store
from tests.flows.retrain.simulated import OFFER, SimulatedTrainer, attempt
from tests.helpers import own_sleep
from tests.trainer.planning.kit import PROFILE
from trainer.errors import TrainerError
from trainer.planning import NoOfferFits, Recipe, recipe_of
from trainer.vram import ModelProfile

__all__ = ["ready", "store"]
T4 = OFFER.model_copy(
    update={"offer_id": "t4", "gpu": "T4", "gpu_count": 1, "gpu_memory_mib": 15_360, "on_demand_price": 0.35}
)


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Poll without a pause: the simulated trainer works at once."""
    own_sleep(monkeypatch, lambda _: None)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Trace nothing for real; note the bytes of every file that would have been unpickled."""
    seen: list[bytes] = []

    def trace(model: str | Path, classes: Sequence[str], **_: object) -> ModelProfile:
        seen.append(Path(model).read_bytes())
        return PROFILE.model_copy(update={"classes": len(classes)})

    monkeypatch.setattr(networks, "profile_of", trace)
    return seen


def written_plan(ctx: Context, run_id: str) -> TrainPlan:
    """Return a run's plan as it lies in the bucket."""
    key = keys.run(TASK, run_id, "plan.json")
    return decode(TrainPlan, ctx.store.get(key), where=key)


def recorded(ctx: Context, run_id: str, images_per_second: float, **changes: object) -> RunRecord:
    """Put a run's record into the bucket as its trainer would."""
    plan = written_plan(ctx, run_id)
    epochs = tuple(
        EpochMetrics(
            epoch=number + 1, seconds=4.0, images_per_second=images_per_second, learning_rate=1e-3, losses={}
        )
        for number in range(sum(stage.epochs for stage in plan.stages))
    )
    record = RunRecord.model_validate({
        "task_id": TASK, "run_id": run_id, "snapshot_id": plan.snapshot_id, "state": "finished", "seed": 0,
        "versions": {}, "device": "cpu", "started_at": utc_now(), "ended_at": utc_now(), "epochs": epochs, **changes,
    })  # fmt: skip
    ctx.store.put(keys.run(TASK, run_id, "run.json"), encode(record))
    return record


def test_the_plan_in_the_bucket_carries_what_was_considered(
    ready: Context, tmp_path: Path, asked: list[bytes]
) -> None:
    """A run's plan names the ways that lost and what is expected; its page and its outcome's page render."""
    trainer = SimulatedTrainer(ready, tmp_path)
    trainer._offers = (OFFER.model_copy(update={"cpu_count": 2}), T4)
    outcome = attempt(ready, trainer)
    assert outcome.state == "finished"
    plan = written_plan(ready, outcome.run)
    assert {row.gpu for row in plan.considered} == {"none", "T4"}
    assert [row.chosen for row in plan.considered].count(True) == 1
    assert all(row.why for row in plan.considered)
    assert plan.predicted is not None
    assert plan.tier == "fine-tune"
    page = plan_page(plan)
    assert "T4" in page
    assert "not confirmed" in page or plan.vram is None
    record = recorded(ready, outcome.run, 9.0)
    assert steps.record_of_run(ready, plan) == record
    assert "| images/s |" in outcome_page(plan, record)


def test_only_the_registered_origin_is_ever_opened(
    ready: Context, tmp_path: Path, asked: list[bytes]
) -> None:
    """The champion's weights came from a machine nobody trusts: the origin it descends from is traced instead."""
    trainer = SimulatedTrainer(ready, tmp_path)
    first = attempt(ready, trainer)
    now = champion(ready, TASK)
    assert now is not None
    assert now.run_id == first.run
    trainer._offers = (T4,)
    sent_and_labelled(ready, 12, first=100)
    second = steps.begin(ready, TASK).run
    assert second is not None
    assert second.start_sha256 == now.weights_sha256
    plan = steps.prepare(ready, second, trainer)
    assert plan.vram is not None
    assert asked == [b"origin weights"]
    lineage = lineage_of(ready, TASK, now.weights_sha256)
    assert lineage.origin is not None
    assert lineage.origin.weights_sha256 == sha256_of(b"origin weights")


def test_an_origin_whose_bytes_changed_is_not_opened(ready: Context, asked: list[bytes]) -> None:
    """What lies under the origin's key has another hash: a card is refused with both, a processor is planned."""
    now = champion(ready, TASK)
    assert now is not None
    ready.store.put(now.weights_key, b"something else to unpickle")
    run = steps.begin(ready, TASK).run
    assert run is not None
    with pytest.raises(NoOfferFits, match="SHA-256"):
        steps.prepare(ready, run, MemoryProvider(T4))
    assert asked == []
    assert steps.prepare(ready, run, MemoryProvider(T4, OFFER)).offer == OFFER


def test_a_network_that_cannot_be_traced_is_told(ready: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where tracing fails, a card is refused with the reason and a processor goes on without an estimate."""

    def broken(*_: object, **__: object) -> ModelProfile:
        raise TrainerError(expected="a detection model", got="a poem", where="origin")

    monkeypatch.setattr(networks, "profile_of", broken)
    run = steps.begin(ready, TASK).run
    assert run is not None
    with pytest.raises(NoOfferFits, match="a poem"):
        steps.prepare(ready, run, MemoryProvider(T4))
    plan = steps.prepare(ready, run, MemoryProvider(T4, OFFER))
    assert plan.vram is None
    assert any("a poem" in row.why for row in plan.considered)


def test_nothing_is_traced_where_no_offer_has_a_card(
    ready: Context, tmp_path: Path, asked: list[bytes]
) -> None:
    """On this machine without a card a run starts without the seconds of a trace."""
    assert attempt(ready, SimulatedTrainer(ready, tmp_path)).state == "finished"
    assert asked == []


def test_a_smaller_network_that_a_run_went_down_to_is_what_its_heirs_are(
    ready: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a run that memory forced to a smaller model, its name is traced, not the origin."""
    outcome = attempt(ready, SimulatedTrainer(ready, tmp_path))
    rung = RunEvent(
        task_id=TASK, run_id=outcome.run, number=2, at=utc_now(), kind="rung",
        data={"rung": "smaller model", "changed": {"start": ["start.pt", "yolo11n.yaml"]}},
    )  # fmt: skip
    recorded(ready, outcome.run, 9.0, rungs=(rung,))
    now = champion(ready, TASK)
    assert now is not None
    lineage = lineage_of(ready, TASK, now.weights_sha256)
    assert lineage.network == "yolo11n.yaml"
    assert finished_runs(ready, TASK) == ()
    names: list[object] = []
    monkeypatch.setattr(networks, "profile_of", lambda model, *_, **__: names.append(model) or PROFILE)
    sent_and_labelled(ready, 12, first=100)
    run = steps.begin(ready, TASK).run
    assert run is not None
    assert steps.prepare(ready, run, MemoryProvider(OFFER, T4)).task_id == TASK
    assert names == ["yolo11n.yaml"]


def test_a_finished_run_is_learned_from(ready: Context, tmp_path: Path) -> None:
    """What the first run measured on this machine is what the second expects."""
    trainer = SimulatedTrainer(ready, tmp_path)
    outcome = attempt(ready, trainer)
    recorded(ready, outcome.run, 12.5)
    (known,) = finished_runs(ready, TASK)
    assert known.key == lineage_of(ready, TASK, _run(ready, outcome.run).start_sha256).key
    sent_and_labelled(ready, 12, first=100)
    run = steps.begin(ready, TASK).run
    assert run is not None
    told = steps.prepare(ready, run, trainer).predicted
    assert told is not None
    assert (told.basis, told.images_per_second) == ("measured", pytest.approx(12.5))


def test_a_record_nobody_can_read_costs_its_lesson_only(ready: Context, tmp_path: Path) -> None:
    """A torn record or plan of an old run does not stop the next one."""
    trainer = SimulatedTrainer(ready, tmp_path)
    outcome = attempt(ready, trainer)
    recorded(ready, outcome.run, 12.5)
    ready.store.put(keys.run(TASK, outcome.run, "plan.json"), b"{")
    assert finished_runs(ready, TASK) == ()
    ready.store.put(keys.run(TASK, outcome.run, "run.json"), b"{")
    assert finished_runs(ready, TASK) == ()


def test_a_provider_that_is_away_is_left_out_while_another_answers() -> None:
    """Offers come from whoever answers; if nobody does, that is the error."""
    away, here = MemoryProvider(T4, name="away"), MemoryProvider(OFFER, name="here")
    away.is_away = True
    assert offers_of((away, here)) == (OFFER,)
    with pytest.raises(ProviderAway):
        offers_of((away,))
    with pytest.raises(CannotStart, match="a machine on offer"):
        offers_of((MemoryProvider(name="poor"),))


def test_what_a_task_may_spend_is_kept(ready: Context, asked: list[bytes]) -> None:
    """Hours and dollars of the settings bound the plan; the cap on an hour goes into the lease."""
    ctx = with_task(ready, limits=LimitSettings(hours=2.0, dollars=1.0, dollars_per_hour=0.4))
    run = steps.begin(ctx, TASK).run
    assert run is not None
    dear = T4.model_copy(update={"offer_id": "dear", "on_demand_price": 0.5})
    plan = steps.prepare(ctx, run, MemoryProvider(T4, dear))
    assert plan.offer == T4
    assert plan.price_cap == 0.4
    assert plan.deadline is not None
    assert (plan.deadline - utc_now()).total_seconds() < 2 * 3600
    assert any("over the cap" in row.why for row in plan.considered)


def test_old_runs_keep_their_names() -> None:
    """Keys that a recipe gained name a run only where they are set, so what ran before is found again."""
    before = {
        "name": "fine-tune", "epochs": 8, "batch": 16, "learning_rate": 0.001, "image_size": 320,
        "freeze_layers": 0, "augmentation": "light", "replay_limit": 400, "seed": 0, "threads": 0, "cache": "ram",
    }  # fmt: skip
    assert RecipeSettings().naming() == before
    assert set(RecipeSettings(validate_every=2).naming()) - set(before) == {"validate_every"}
    assert RecipeSettings(memory={"smaller_images": (256,)}).naming()["memory"] == {"smaller_images": [256]}


def test_a_run_of_an_older_version_is_reopened(ready: Context, tmp_path: Path) -> None:
    """A run recorded with the first version's keys alone is the one that the same data and recipe open now."""
    run = steps.begin(ready, TASK).run
    assert run is not None
    assert set(run.recipe) == set(RecipeSettings().naming())
    assert attempt(ready, SimulatedTrainer(ready, tmp_path)).run == run.run_id


def test_defaults_of_settings_and_planner_agree() -> None:
    """What a run's recipe does not say means the same to the planner as to the settings."""
    assert recipe_of(RecipeSettings().model_dump(mode="json")) == recipe_of(RecipeSettings().naming())
    kept = {"name", "epochs", "batch", "image_size"}
    whole, own = recipe_of(RecipeSettings().model_dump(mode="json")), Recipe()
    differing = {name for name in Recipe.__dataclass_fields__ if getattr(whole, name) != getattr(own, name)}
    assert differing <= kept


def test_a_preview_writes_nothing(ready: Context, asked: list[bytes]) -> None:
    """What would be planned is shown with the name the run would have; bucket and database stay as they are."""
    objects = sorted(item.key for item in ready.store.list(""))
    told = preview(ready, TASK, (MemoryProvider(OFFER, T4),))
    assert told.plan is not None
    assert not told.written
    assert sorted(item.key for item in ready.store.list("")) == objects
    assert runs.active_run(ready, TASK) is None
    assert asked == [b"origin weights"]
    run = steps.begin(ready, TASK).run
    assert run is not None
    assert run.run_id == told.plan.run_id
    plan = steps.prepare(ready, run, MemoryProvider(OFFER))
    again = preview(ready, TASK, (MemoryProvider(T4),))
    assert (again.written, again.plan) == (True, plan)


def test_a_preview_on_imagined_offers_says_why_none_would_do(ready: Context, asked: list[bytes]) -> None:
    """A person sees what cards that are not there would do, and why one is too small."""
    now = utc_now()
    plan = preview(ready, TASK, (), imagined_offers(["T4=0.35", "A100=1.80"], now)).plan
    assert plan is not None
    assert plan.offer is not None
    assert plan.offer.gpu == "T4"
    refused = preview(ready, TASK, (), imagined_offers(["Abacus:0.3=0.01"], now)).refused
    assert isinstance(refused, NoOfferFits)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("T4=0.35", ("T4", 1, 15_360, 0.35, None)),
        ("2xA100:80=3.60", ("A100", 2, 81_920, 3.6, None)),
        ("RTX 4090=0.4/0.2", ("RTX 4090", 1, 24_564, 0.4, 0.2)),
        ("Abacus:24", ("Abacus", 1, 24_576, None, None)),
        ("T4=0.35/0.00", ("T4", 1, 15_360, 0.35, None)),
    ],
)
def test_imagined_offers_are_read(text: str, expected: tuple[object, ...]) -> None:
    """Count, card, memory, price and spot price; what is not said is known or unknown, never zero."""
    (one,) = imagined_offers([text], utc_now())
    assert (one.gpu, one.gpu_count, one.gpu_memory_mib, one.on_demand_price, one.spot_price) == expected


@pytest.mark.parametrize("text", ["", "=3", "T4=cheap", "Abacus=0.10", "999xT4"])
def test_an_offer_that_cannot_be_read_is_refused(text: str) -> None:
    """The error shows how one is written."""
    with pytest.raises(SettingsError, match="--offer"):
        imagined_offers([text], utc_now())


def test_this_machine_offers_its_cards_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a driver that answers, cards are offered beside the processor; mixed kinds count as the first kind."""
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text(
        "#!/bin/sh\necho 'NVIDIA L4, 23034'\necho 'NVIDIA L4, 23034'\necho 'Tesla T4, 15360'\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    cards, processor = LocalProvider(tmp_path).offers()
    assert (cards.gpu, cards.gpu_count, cards.gpu_memory_mib) == ("NVIDIA L4", 2, 23_034)
    assert (processor.gpu, processor.gpu_memory_mib) == ("cpu", 0)
    assert processor.cpu_count == this_machine.cores() > 0
    assert processor.memory_mib > 0
    assert processor.disk_mib > 0
    for broken in ("exit 1", "echo nonsense", "echo 'T4, many'"):
        program.write_text(f"#!/bin/sh\n{broken}\n")
        (only,) = LocalProvider(tmp_path).offers()
        assert only.gpu == "cpu"


def test_a_plan_of_a_provider_that_is_gone_is_told(ready: Context) -> None:
    """A plan for a seller this installation no longer has stops with its name."""
    run = steps.begin(ready, TASK).run
    assert run is not None
    plan = steps.prepare(ready, run, MemoryProvider(OFFER))
    with pytest.raises(CannotStart, match="memory"):
        steps.providers_of(ready, plan)


def test_a_seller_that_cannot_be_set_up_keeps_nobody_from_the_others(
    ready: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs are planned on the rest; a plan for that one, or an installation of that one alone, says why."""
    run = steps.begin(ready, TASK).run
    assert run is not None
    plan = steps.prepare(ready, run, MemoryProvider(OFFER, name="clouds"))
    monkeypatch.setitem(MADE_BY, "dstack", "flows.gpus.no_seller:Seller")
    section = DstackSection(kind="dstack", url="http://127.0.0.1:9", token="env:A")
    changed = ready.settings.model_copy(update={"installation": "plant7", "providers": {"clouds": section}})
    write_settings(ready.folder, changed)
    assert [one.name for one in steps.lenders_of(ready.reread())] == ["this-machine"]
    assert plan.offer is not None
    with pytest.raises(CannotStart, match=r"clouds: it could not be set up: .*no_seller"):
        steps.providers_of(
            ready.reread(), plan.model_copy(update={"offer": plan.offer.model_copy(update={"provider": "clouds"})})
        )
    write_settings(ready.folder, changed.model_copy(update={"train_here": False}))
    with pytest.raises(CannotStart, match=r"clouds: it could not be set up: .*gpus check"):
        steps.lenders_of(ready.reread())


def _run(ctx: Context, run_id: str) -> RunRow:
    with ctx.database.reader() as session:
        found = session.get(RunRow, run_id)
    assert found is not None
    return found


def test_cards_that_the_image_cannot_use_are_left_out_elsewhere() -> None:
    """A rented V100 would turn us away after it was paid for; one of our own may have another torch."""
    old, young = (
        OFFER.model_copy(update={"gpu": gpu, "gpu_count": 1, "gpu_memory_mib": 16384}) for gpu in ("V100", "T4")
    )
    seller = MemoryProvider(old, young)
    assert offers_of([seller]) == (old, young)
    seller.elsewhere = True
    assert offers_of([seller]) == (young,)
