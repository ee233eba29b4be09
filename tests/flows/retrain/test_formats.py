"""Take a candidate of several number formats through the flow: what the gate chose is what is signed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from detection.model_file import read_model
from fleet_contracts import decode, encode, keys, sha256_of, utc_now
from fleet_contracts.judging import Candidate, GateReport, ModelVariant, ParityReport
from fleet_contracts.training import TrainPlan
from flows.champion import champion
from flows.context import Context
from flows.database.schema import CandidateRow
from flows.retrain import candidates, promotion, steps
from flows.retrain.errors import CandidateBroken
from flows.retrain.judging import image_reader
from flows.settings import TaskSettings, load_settings
from flows.snapshots.load import load_snapshot
from tests.detection.onnx_models import TinyModel, save
from tests.flows.kit import CLASSES, TASK, with_task
from tests.flows.retrain.simulated import BLIND, GOOD, LENIENT, SimulatedTrainer, attempt
from tests.helpers import own_sleep
from trainer.formats.names import FILE_NAMES

ALL = ("fp32", "fp16", "int8")
INT8 = replace(GOOD, features=5)
HALF = replace(GOOD, features=6)


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Poll without a pause: the simulated trainer works at once."""
    own_sleep(monkeypatch, lambda _: None)


@dataclass
class Delivery:
    """Hold what a trainer that makes several formats puts beside its float file."""

    models: dict[str, TinyModel]
    folder: Path

    def variants(self) -> tuple[ModelVariant, ...]:
        """Describe every file."""
        parity = ParityReport(images=1, compared=1, unmatched=0, max_box_error_px=0.0, max_score_error=0.0,
                              mean_box_error_px=0.0, mean_score_error=0.0)  # fmt: skip
        described = []
        for precision, model in self.models.items():
            content = self.content(precision, model)
            described.append(ModelVariant(
                precision=precision, name=FILE_NAMES[precision], model_id=sha256_of(content),
                onnx_bytes=len(content), parity=parity,
            ))  # fmt: skip
        return tuple(described)

    def content(self, precision: str, model: TinyModel) -> bytes:
        """Return a file's bytes."""
        return save(model, self.folder / f"{precision}.onnx").read_bytes()


class FormatTrainer(SimulatedTrainer):
    """Be a trainer that delivers the formats the plan asks for."""

    def __init__(self, ctx: Context, folder: Path, models: dict[str, TinyModel], **more: object) -> None:
        super().__init__(ctx, folder, **more)  # type: ignore[arg-type]
        self.delivery = Delivery(models, folder)
        self.change = lambda candidate: candidate.model_copy(update={"variants": self.delivery.variants()})

    def _deliver(self, plan: TrainPlan) -> None:
        assert plan.precisions == ALL
        for precision, model in self.delivery.models.items():
            key = keys.run(plan.task_id, plan.run_id, FILE_NAMES[precision])
            self._put(key, self.delivery.content(precision, model))
        super()._deliver(plan)


@pytest.fixture
def wide(ready: Context) -> Context:
    """Return an installation whose recipe makes every format and whose gate prefers int8."""
    task = ready.settings.task(TASK)
    return with_task(
        ready,
        recipe=task.recipe.model_copy(update={"precisions": ALL}),
        gate=LENIENT.model_copy(update={"ship": ("int8", "fp16", "fp32")}),
    )


def gate_of(ctx: Context, run_id: str) -> GateReport:
    """Return the verdict that lies in the bucket."""
    key = keys.candidate(TASK, run_id, "gate.json")
    return decode(GateReport, ctx.store.get(key), where=key)


def test_the_chosen_format_is_kept_signed_and_champion(wide: Context, tmp_path: Path) -> None:
    """Int8 passes: its bytes are the release's, the champion's and the next run's opponent."""
    trainer = FormatTrainer(wide, tmp_path, {"fp16": HALF, "int8": INT8})
    outcome = attempt(wide, trainer)
    assert outcome.state == "finished"
    int8 = trainer.delivery.content("int8", INT8)
    (release,) = [one for one in promotion.repository(wide).releases(TASK, "stable") if one.version == 2]
    assert (release.model_id, release.precision) == (sha256_of(int8), "int8")
    assert gate_of(wide, outcome.run).candidate_model == release.model_id
    now = champion(wide, TASK)
    assert now is not None
    assert (now.model_id, now.onnx_key) == (release.model_id, keys.candidate(TASK, outcome.run, "model-int8.onnx"))
    assert wide.store.get(now.onnx_key) == int8
    for precision, model in (("fp16", HALF), ("int8", INT8)):
        kept = wide.store.get(keys.candidate(TASK, outcome.run, FILE_NAMES[precision]))
        assert kept == trainer.delivery.content(precision, model)
    with wide.database.reader() as session:
        row = session.get(CandidateRow, outcome.run)
    assert row is not None
    assert row.model_id == release.model_id


def test_other_weights_after_the_verdict_are_refused(wide: Context, tmp_path: Path) -> None:
    """A flow killed between verdict and row finds the same model beside other weights: the next run's start."""
    trainer = FormatTrainer(wide, tmp_path, {"int8": INT8})
    run = steps.begin(wide, TASK).run
    assert run is not None
    plan = steps.prepare(wide, run, trainer)
    steps.train(wide, plan, lambda _: None, trainer)
    steps.judge(wide, plan)
    with wide.database.session() as session:
        session.get_one(CandidateRow, run.run_id).state = "collected"
    kept = wide.store.get(keys.candidate(TASK, run.run_id, "weights.pt"))
    wide.store.put(keys.run(TASK, run.run_id, "weights.pt"), b"other weights")
    key = keys.run(TASK, run.run_id, "result.json")
    result = decode(Candidate, wide.store.get(key), where=key)
    lied = {"weights_sha256": sha256_of(b"other weights"), "weights_bytes": 13}
    wide.store.put(key, encode(result.model_copy(update=lied)))
    with pytest.raises(CandidateBroken, match="replaced after it was judged"):
        steps.judge(wide, plan)
    assert wide.store.get(keys.candidate(TASK, run.run_id, "weights.pt")) == kept


def test_a_format_that_fails_leaves_the_next_one(wide: Context, tmp_path: Path) -> None:
    """A blind int8 is refused with its rules; float16 ships under its own name, and the record says why."""
    trainer = FormatTrainer(wide, tmp_path, {"fp16": HALF, "int8": replace(BLIND, features=5)})
    outcome = attempt(wide, trainer)
    assert outcome.state == "finished"
    (release,) = [one for one in promotion.repository(wide).releases(TASK, "stable") if one.version == 2]
    assert release.precision == "fp16"
    verdicts = {one.precision: one for one in gate_of(wide, outcome.run).variants}
    assert not verdicts["int8"].promoted
    assert "overall" in verdicts["int8"].why
    assert "int8 failed" in verdicts["fp16"].why
    now = champion(wide, TASK)
    assert now is not None
    assert now.onnx_key.endswith("model-fp16.onnx")


def test_when_every_format_fails_the_record_says_so_of_each(wide: Context, tmp_path: Path) -> None:
    """Nothing ships, and the run's reason names the rules each format broke."""
    blind = {"fp16": replace(BLIND, features=6), "int8": replace(BLIND, features=5)}
    outcome = attempt(wide, FormatTrainer(wide, tmp_path, blind, model=BLIND))
    assert outcome.state == "refused"
    with wide.database.reader() as session:
        row = session.get(CandidateRow, outcome.run)
    assert row is not None
    reason = promotion.failed_rules(gate_of(wide, outcome.run))
    assert all(precision in reason for precision in ("fp32", "fp16"))
    assert "overall" in reason


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"model_id": "0" * 64}, "sha256"),
        ({"name": "model.onnx"}, "model.onnx"),
        ({"name": "../weights.pt"}, "weights"),
        ({"precision": "fp16", "name": "model-int8.onnx"}, "fp16"),
    ],
)
def test_a_variant_that_lies_is_not_used(wide: Context, tmp_path: Path, change: dict, told: str) -> None:
    """Another hash, another object's name, or a format under another's name makes no candidate."""
    trainer = FormatTrainer(wide, tmp_path, {"int8": INT8})
    lie = tuple(one.model_copy(update=change) for one in trainer.delivery.variants())
    trainer.change = lambda candidate: candidate.model_copy(update={"variants": lie})
    with pytest.raises(CandidateBroken, match=told):
        attempt(wide, trainer)


def test_a_format_nobody_asked_for_is_not_taken(ready: Context, tmp_path: Path) -> None:
    """The plan names the formats; a machine cannot add one, nor send the same file under two names."""
    trainer = SimulatedTrainer(ready, tmp_path)
    delivery = Delivery({"int8": INT8}, tmp_path)
    trainer.change = lambda candidate: candidate.model_copy(update={"variants": delivery.variants()})
    with pytest.raises(CandidateBroken, match="int8"):
        attempt(ready, trainer)


def test_a_file_that_was_swapped_after_the_verdict_is_not_signed(wide: Context, tmp_path: Path) -> None:
    """What is published is hashed against the verdict: another file, even of the same candidate, is refused."""
    trainer = FormatTrainer(wide, tmp_path, {"fp16": HALF, "int8": INT8})
    run = steps.begin(wide, TASK).run
    assert run is not None
    plan = steps.prepare(wide, run, trainer)
    steps.train(wide, plan, lambda _: None, trainer)
    collected, gate = steps.judge(wide, plan)
    snapshot = load_snapshot(wide, plan.task_id, plan.snapshot_id)
    wrong = promotion.Winner(collected.candidate, gate, collected.onnx, snapshot.members)
    images = image_reader(wide, TASK, tmp_path / "images")
    with pytest.raises(CandidateBroken, match="the file that was judged"):
        promotion.publish(wide, wrong, images)
    with pytest.raises(CandidateBroken, match="one of the candidate's files"):
        collected.file_of("0" * 64)
    # A result replaced by one with another int8 file leaves the verdict without its file.
    other = FormatTrainer(wide, tmp_path, {"int8": replace(INT8, offset=0.9)})
    key = keys.run(TASK, plan.run_id, "result.json")
    variants = other.delivery.variants()
    wide.store.put(keys.run(TASK, plan.run_id, "model-int8.onnx"), other.delivery.content("int8", replace(INT8, offset=0.9)))
    wide.store.put(key, encode(collected.candidate.model_copy(update={"variants": variants})))
    with pytest.raises(CandidateBroken):
        steps.judge(wide, plan)


def test_a_ticket_lets_every_format_be_sent(wide: Context, tmp_path: Path) -> None:
    """The fixed set of names a trainer may write holds the formats' files, and nothing unpickles what lies there."""
    assert set(FILE_NAMES.values()) <= set(keys.RUN_OUTPUTS)
    assert candidates.ONNX == "model.onnx"


def test_an_origin_ships_the_one_file_it_has(wide: Context, tmp_path: Path) -> None:
    """A candidate described before there were formats has none, and its float file is what its hash names."""
    onnx = save(GOOD, tmp_path / "model.onnx")
    parity = ParityReport(images=1, compared=1, unmatched=0, max_box_error_px=0.0, max_score_error=0.0)
    run = "run-" + "5" * 16
    old = Candidate(
        task_id=TASK, candidate_id=run, run_id=run, snapshot_id="2" * 64, model_id=sha256_of(onnx.read_bytes()),
        onnx_bytes=1, weights_sha256="3" * 64, weights_bytes=1, input_spec=read_model(onnx).spec,
        class_list={"task_id": TASK, "version": 1, "names": CLASSES}, parity=parity, start_sha256="4" * 64,
        created_at=utc_now(),
    )  # fmt: skip
    assert candidates.onnx_name(old, old.model_id) == "model.onnx"
    assert candidates.Collected(old, onnx).file_of(old.model_id) == onnx


def test_shipping_what_is_not_exported_is_refused_when_settings_are_read(tmp_path: Path) -> None:
    """A gate that prefers int8 with a recipe that never makes it is a mistake, told with both settings."""
    (tmp_path / "whetstone.toml").write_text(
        '[tasks.plates.gate]\nship = ["int8", "fp32"]\n[tasks.plates.decision]\nmax_miss_rate = 0.0\nconfidence = 2.0\n'
    )
    with pytest.raises(Exception, match="max_miss_rate") as refusal:
        load_settings(tmp_path)
    assert "confidence" in str(refusal.value)
    with pytest.raises(ValueError, match="recipe.precisions"):
        TaskSettings.model_validate({"gate": {"ship": ["int8"]}})
    good = TaskSettings.model_validate(
        {"gate": {"ship": ["int8"]}, "recipe": {"precisions": ["int8"]}, "decision": {"max_miss_rate": 0.02}}
    )
    assert good.decision.options().max_miss_rate == 0.02
