"""Judge candidates: by hand-made evidence rule by rule, and by real files from end to end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from detection.detections import Detections
from detection.metrics.thresholds import ThresholdOptions
from fleet_contracts.base import decode, encode, utc_now
from fleet_contracts.errors import ClassListConflict
from fleet_contracts.ids import sha256_of
from fleet_contracts.judging import Candidate, GateReport, InputSpec, Latency, ParityReport
from fleet_contracts.samples import ClassRule, DecisionRules, Region
from fleet_contracts.training import SnapshotMember
from tests.trainer.conftest import job_for
from tests.trainer.scenes import NAMES, SIZE, TASK, class_list, member
from trainer.backend import run_child
from trainer.backend_job import BackendEvent, BackendResult
from trainer.dataset import DatasetOnDisk
from trainer.errors import DatasetRefused, GateMisused
from trainer.gate.bootstrap import Interval
from trainer.gate.evidence import ChampionEvidence, Evidence
from trainer.gate.judge import Champion, JudgeInputs, explain, judge
from trainer.gate.rules import judge_all, rules_for
from trainer.gate.settings import GateSettings
from trainer.validation import Evaluation, evaluate_model, measure, truth_of

MODEL = "a" * 64
RULES = DecisionRules(classes=tuple(ClassRule(name=name, reject_at=0.5, unsure_at=0.2) for name in NAMES))


def seen_by(one: SnapshotMember, *, finds: bool = True, confidence: float = 0.9) -> Detections:
    """Return what a model that finds everything, or nothing, reports on a member."""
    truth = truth_of(one)
    if not finds:
        return Detections.empty()
    return Detections(truth.xyxy, np.full(len(truth), confidence, np.float32), truth.class_id)


def evaluation(share_found: float, *, count: int = 20, model_id: str = MODEL, bad: bool = True) -> Evaluation:
    """Return an evaluation in which the first `share_found` of the images is solved and the rest missed."""
    members = tuple(member(seed, "val", **({} if bad else {"boxes": ()}))[0] for seed in range(count))
    found = tuple(seen_by(one, finds=row < share_found * count) for row, one in enumerate(members))
    truths = tuple(truth_of(one) for one in members)
    return measure(model_id, NAMES, class_list(), (members, found, truths), RULES)


def candidate(model_id: str = MODEL, **changes: object) -> Candidate:
    """Return a candidate that names a file."""
    values = {
        "task_id": TASK, "candidate_id": "run-" + "1" * 16, "run_id": "run-" + "1" * 16, "snapshot_id": "2" * 64,
        "model_id": model_id, "onnx_bytes": 10, "weights_sha256": "3" * 64, "weights_bytes": 10,
        "input_spec": InputSpec(width=SIZE, height=SIZE, head="dense"), "class_list": class_list(),
        "parity": ParityReport(images=4, compared=9, unmatched=0, max_box_error_px=0.01, max_score_error=0.0),
        "start_sha256": "4" * 64, "created_at": utc_now(), **changes,
    }  # fmt: skip
    return Candidate.model_validate(values)


def took(milliseconds: float) -> Latency:
    """Return a latency."""
    return Latency(
        device_class="test", provider="CPU", threads=1, p50_ms=milliseconds, p95_ms=milliseconds, frames=9
    )


def evidence(**changes: object) -> Evidence:
    """Return evidence of a good candidate against a mediocre champion."""
    good, before = evaluation(0.9), evaluation(0.6, model_id="b" * 64)
    values: dict[str, object] = {
        "candidate": candidate(), "file_class_names": NAMES, "class_list": class_list(), "onnx_bytes": 1000,
        "new_val": good, "val": good, "golden_images": 20, "latency": took(10.0), "settings": GateSettings(),
        "champion": ChampionEvidence(NAMES, before, before, Interval(0.0, -0.01, 0.01, 100, 20), took(10.0)),
        **changes,
    }  # fmt: skip
    return Evidence(**values)  # type: ignore[arg-type]  # a table of changes


def champion_with(**changes: object) -> ChampionEvidence:
    """Return a mediocre champion with something changed."""
    before = evaluation(0.6, model_id="b" * 64)
    values: dict[str, object] = {"class_names": NAMES, "new_val": before, "val": before, "latency": took(10.0),
                                 "golden_change": Interval(0.0, -0.01, 0.01, 100, 20), **changes}  # fmt: skip
    return ChampionEvidence(**values)  # type: ignore[arg-type]  # a table of changes


def failed(case: Evidence) -> set[str]:
    """Return the names of the rules that a case fails."""
    return {finding.rule for finding in judge_all(rules_for(case), case) if not finding.passed}


def test_a_better_candidate_passes_every_rule() -> None:
    """Nothing is held against a model that is better everywhere and forgets nothing."""
    assert failed(evidence()) == set()


def test_a_good_first_release_passes_on_floors_alone() -> None:
    """Without a champion the absolute floors judge, and nobody asks for forgetting."""
    case = evidence(champion=None)
    assert failed(case) == set()
    assert "forgetting" not in {rule.name for rule in rules_for(case)}


WORSE = evaluation(0.4)
CASES = {
    "enough-evidence": {"val": evaluation(1.0, count=3)},
    "class-list": {"file_class_names": ("bar", "square")},
    "file": {"val": evaluation(0.9, model_id="c" * 64)},
    "parity": {"candidate": candidate(parity=ParityReport(images=4, compared=9, unmatched=1, max_box_error_px=0.0,
                                                          max_score_error=0.0))},
    "overall": {"new_val": WORSE},
    "per-class": {"val": WORSE},
    "escapes": {"val": WORSE},
    "latency": {"latency": took(40.0)},
}  # fmt: skip


@pytest.mark.parametrize("rule", CASES)
def test_each_rule_refuses_what_it_is_for(rule: str) -> None:
    """A case that breaks one rule is refused by that rule."""
    assert rule in failed(evidence(**CASES[rule]))


@pytest.mark.parametrize(
    ("change", "passes"),
    [
        (Interval(-0.01, -0.04, 0.02, 100, 9), True),
        (Interval(-0.03, -0.04, -0.02, 100, 9), False),
        (Interval(-0.01, -0.09, 0.05, 100, 9), False),
        (Interval(0.05, 0.01, 0.09, 100, 9), True),
        (None, False),
    ],
)
def test_forgetting_is_judged_as_measured_and_at_the_intervals_end(
    change: Interval | None, passes: bool
) -> None:
    """A small loss passes only if the data are enough to rule a large one out; no golden set is no pass."""
    case = evidence(champion=champion_with(golden_change=change))
    assert ("forgetting" not in failed(case)) is passes


def test_a_golden_set_of_one_group_cannot_show_forgetting() -> None:
    """Drawn from one burst every draw is the same: its interval is a point and rules nothing out."""
    alone = Interval(0.0, 0.0, 0.0, 100, 1)
    case = evidence(champion=champion_with(golden_change=alone))
    assert failed(case) == {"forgetting"}
    lenient = GateSettings(require_golden=False)
    assert failed(evidence(champion=champion_with(golden_change=alone), settings=lenient)) == set()


def test_parity_over_nothing_proves_nothing() -> None:
    """A report without compared boxes is refused."""
    empty = ParityReport(images=0, compared=0, unmatched=0, max_box_error_px=0.0, max_score_error=0.0)
    assert failed(evidence(candidate=candidate(parity=empty))) == {"parity"}


def test_false_rejects_of_good_parts_are_refused() -> None:
    """A model that cries wolf on good parts is refused though it finds every defect."""
    members = tuple(member(seed, "val", boxes=())[0] for seed in range(20))
    cries = tuple(seen_by(member(seed)[0]) for seed in range(20))
    truths = tuple(truth_of(one) for one in members)
    wolf = measure(MODEL, NAMES, class_list(), (members, cries, truths), RULES)
    calm = evaluation(0.0, bad=False)
    case = evidence(val=wolf, champion=champion_with(val=calm))
    assert "false-rejects" in failed(case)


def test_a_class_the_champion_missed_does_not_block() -> None:
    """Where the champion itself had nothing, the floor is not held against a model that has no less."""
    case = evidence(val=evaluation(0.0), champion=champion_with(val=evaluation(0.0, model_id="b" * 64)))
    assert "per-class" not in failed(case)


def test_an_empty_gate_is_an_error() -> None:
    """A gate without rules would let everything through."""
    with pytest.raises(GateMisused, match="at least one rule"):
        judge_all([], evidence())


def test_every_finding_is_told_at_once() -> None:
    """A bad candidate hears every reason, as a table a person can read."""
    findings = judge_all(rules_for(evidence()), evidence(val=WORSE, latency=took(99.0)))
    table = explain(findings)
    assert table.count("FAIL") >= 3
    assert len(findings) == len(rules_for(evidence()))


def test_an_older_champion_is_measured_on_the_longer_list() -> None:
    """A champion of two classes escapes parts of the third and is not blamed where labels are older (law 9)."""
    longer = class_list((*NAMES, "stain"), 2)
    old, _ = member(1)
    stain = old.boxes[0].model_copy(update={"class_id": 2})
    new = old.model_copy(
        update={"sample_id": "f" * 64, "boxes": (stain,), "class_count": 3, "class_list_version": 2}
    )
    members = (old, new)
    found = (seen_by(old), Detections.empty())
    report = measure(MODEL, NAMES, longer, (members, found, tuple(truth_of(one) for one in members)), RULES)
    assert report.ap.ap50_per_class == {0: pytest.approx(1.0), 1: pytest.approx(1.0), 2: 0.0}
    assert report.recall.recall_per_class[2] == 0.0
    assert (report.parts.bad_parts, report.parts.escapes) == (2, 1)


def test_frames_of_one_part_are_decided_together() -> None:
    """A part named by its slice is bad when any frame shows a defect, and one look at it is enough."""
    frames = tuple(
        member(seed, "val", slices={"part": "p1", "board": "b"}, **({"boxes": ()} if seed else {}))[0]
        for seed in (0, 1)
    )
    found = (seen_by(frames[0]), Detections.empty())
    report = measure(
        MODEL, NAMES, class_list(), (frames, found, tuple(truth_of(one) for one in frames)), RULES
    )
    assert (report.parts.parts, report.parts.bad_parts, report.parts.escapes) == (1, 1, 0)
    assert list(report.slices) == ["board=b"]


@pytest.fixture(scope="module")
def learnt(dataset: DatasetOnDisk, tmp_path_factory: pytest.TempPathFactory) -> BackendResult:
    """Return a tiny network that has learnt its scenes."""
    return run_child(job_for(dataset, tmp_path_factory.mktemp("learnt"), epochs=60, learning_rate=5e-3))


def case_of(
    result: BackendResult, images: dict[str, bytes], members: list[SnapshotMember], **more: object
) -> JudgeInputs:
    """Return a case for a real file."""
    assert result.onnx is not None
    assert result.parity is not None
    made = candidate(sha256_of(result.onnx.read_bytes()), parity=result.parity)
    return JudgeInputs(made, result.onnx, tuple(members), images.__getitem__, **more)  # type: ignore[arg-type]


def test_the_gate_judges_real_files(
    learnt: BackendResult, trained: tuple[BackendResult, list[BackendEvent]], tmp_path: Path
) -> None:
    """A learnt model beats a beginner through `detection/`; the other way round is refused with reasons."""
    rows = [member(seed, split) for seed, split in enumerate(["val"] * 10 + ["golden"] * 6, start=100)]
    images = {one.sample_id: image for one, image in rows}
    members = [one for one, _ in rows]
    beginner, _ = trained
    assert learnt.onnx is not None
    assert beginner.onnx is not None
    settings = GateSettings(bootstrap_rounds=200)
    better = judge(case_of(learnt, images, members, champion=Champion(beginner.onnx, RULES), settings=settings,
                           pictures=tmp_path / "pictures"))  # fmt: skip
    assert better.promoted, explain(better.findings)
    assert better.measures["candidate.val_map50"] > 0.3
    assert better.pictures
    assert all((tmp_path / "pictures" / name).stat().st_size > 0 for name in better.pictures)
    assert decode(GateReport, encode(better), where="gate.json") == better
    worse = judge(
        case_of(beginner, images, members, champion=Champion(learnt.onnx, RULES), settings=settings)
    )
    assert not worse.promoted
    assert {"overall", "forgetting"} <= {one.rule for one in worse.findings if not one.passed}


def test_the_gate_judges_by_the_regions_that_ship(learnt: BackendResult) -> None:
    """With the whole frame left out no part is bad and none is rejected; the rules that ship say so."""
    rows = [member(seed, "val") for seed in range(100, 108)]
    images, members = {one.sample_id: image for one, image in rows}, [one for one, _ in rows]
    corners = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))
    nowhere = Region(name="nowhere", kind="exclude", polygon=corners)
    plain = judge(case_of(learnt, images, members))
    blind = judge(
        case_of(learnt, images, members, decision=ThresholdOptions(min_frames=2, regions=(nowhere,)))
    )
    assert plain.decision_rules.regions == ()
    assert (blind.decision_rules.regions, blind.decision_rules.min_frames) == ((nowhere,), 2)
    assert blind.measures["candidate.false_rejects_per_1000"] == 0.0
    assert blind.measures["candidate.escapes_per_1000"] == 0.0
    elsewhere = nowhere.model_copy(update={"camera": "another"})
    other = judge(case_of(learnt, images, members, decision=ThresholdOptions(regions=(elsewhere,))))
    for kind in ("escapes", "false_rejects", "unsure"):
        name = f"candidate.{kind}_per_1000"
        assert other.measures[name] == plain.measures[name]


def test_unverified_labels_are_never_judged_on(learnt: BackendResult) -> None:
    """A member nobody verified takes no part, so a gate with nothing else has too little evidence (law 4)."""
    rows = [member(seed, "val", verified=False) for seed in range(6)]
    report = judge(case_of(learnt, {one.sample_id: image for one, image in rows}, [one for one, _ in rows]))
    assert not report.promoted
    assert report.findings[0].rule == "enough-evidence"
    assert report.findings[0].got == "0"


def test_a_model_of_another_fleet_is_refused(learnt: BackendResult) -> None:
    """A file whose classes are no prefix of the list is not measured at all."""
    assert learnt.onnx is not None
    one, image = member(1)
    with pytest.raises(ClassListConflict, match="scratch"):
        evaluate_model(learnt.onnx, [one], lambda _: image, class_list(("scratch", "dent")))


def test_an_image_that_does_not_decode_is_named(learnt: BackendResult) -> None:
    """Broken bytes end the measurement with the sample's id."""
    assert learnt.onnx is not None
    one, _ = member(1)
    with pytest.raises(DatasetRefused, match=one.sample_id):
        evaluate_model(learnt.onnx, [one], lambda _: b"broken", class_list())
