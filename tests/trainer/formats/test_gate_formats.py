"""Judge float32, float16 and int8 of one network as the files they are, and see which one ships and why."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from detection.detections import Detections
from detection.metrics.misses import MissReport
from detection.metrics.thresholds import ThresholdOptions
from edge_agent.ota.self_test import InProcessSelfTest
from fleet_contracts.base import decode, encode, utc_now
from fleet_contracts.ids import sha256_of
from fleet_contracts.judging import GateReport, Latency, ParityReport
from fleet_contracts.releases import Lineage
from fleet_contracts.samples import DecisionRules
from flows.releases.build import ReleasePlan, build_release
from flows.retrain.progress import gate_table
from flows.retrain.promotion import failed_rules
from tests.trainer.formats.conftest import Formats, broken_int8
from tests.trainer.formats.real import CLASS_LIST, candidate_of, val_members
from trainer.gate.judge import Champion, JudgeInputs, judge
from trainer.gate.settings import GateSettings
from trainer.validation import evaluate_model

SETTINGS = GateSettings(
    ship=("int8", "fp16", "fp32"), bootstrap_rounds=100, latency_slack_ms=1000.0, min_val_gain=-0.05,
    max_golden_loss=0.10, max_golden_loss_worst=0.25, max_more_escapes_per_1000=90, max_more_false_rejects_per_1000=90,
)  # fmt: skip
"""The champion is the candidate's own float32 file, which no rounding of it can beat."""


@pytest.fixture(scope="module")
def members() -> tuple:
    """Return validation and golden members, and their pictures."""
    val, images = val_members(24)
    golden, more = val_members(8, split="golden")
    return (*val, *golden), images | more


@pytest.fixture(scope="module")
def champion_rules(formats: Formats, members: tuple) -> DecisionRules:
    """Return decision rules the float file serves with as champion."""
    return evaluate_model(formats.onnx, members[0], members[1].__getitem__, CLASS_LIST).rules


def case(formats: Formats, members: tuple, rules: DecisionRules, **changes: object) -> JudgeInputs:
    """Return a case of three formats against the same network as champion."""
    variants = (formats.variant("fp16"), formats.variant("int8"))
    values = {
        "candidate": candidate_of(formats.result, tuple(one for one, _ in variants)), "onnx": formats.onnx,
        "members": members[0], "image_of": members[1].__getitem__, "champion": Champion(formats.onnx, rules),
        "settings": SETTINGS, "variants": variants, **changes,
    }  # fmt: skip
    return JudgeInputs(**values)  # type: ignore[arg-type]  # a table of changes


@pytest.fixture(scope="module")
def judged(formats: Formats, members: tuple, champion_rules: DecisionRules) -> GateReport:
    """Return the verdict where all three formats are good, and images are read once a model."""
    return judge(case(formats, members, champion_rules))


def test_the_first_preferred_format_that_passes_ships(formats: Formats, judged: GateReport) -> None:
    """Int8 is preferred and passes: the report names its very bytes, its own thresholds and its own measures."""
    assert judged.promoted, gate_table(judged)
    int8 = formats.made["int8"].file
    assert judged.candidate_model == sha256_of(int8.read_bytes())
    verdicts = {one.precision: one for one in judged.variants}
    assert set(verdicts) == {"fp32", "fp16", "int8"}
    assert [one.precision for one in judged.variants if one.promoted] == ["int8"]
    assert judged.findings == verdicts["int8"].findings
    assert verdicts["int8"].why == "ships: passed every rule"
    assert "int8 is preferred" in verdicts["fp16"].why
    assert judged.measures == verdicts["int8"].measures
    assert judged.measures["candidate.onnx_mib"] == pytest.approx(int8.stat().st_size / 2**20, abs=1e-3)
    assert verdicts["fp32"].measures["candidate.val_map50"] != judged.measures["candidate.val_map50"]
    assert len({one.measures["champion.val_map50"] for one in judged.variants}) == 1
    assert decode(GateReport, encode(judged), where="gate.json") == judged


def test_the_report_shows_the_formats_side_by_side(judged: GateReport) -> None:
    """A person sees format, size, latency, accuracy, parity and the reason in one table."""
    table = gate_table(judged)
    rows = [line for line in table.splitlines() if line.startswith(("| fp", "| **int8"))]
    assert len(rows) == 3
    assert any(line.startswith("| **int8**") and "ships" in line for line in rows)
    assert "## Number formats" in table
    assert all(f"| {rule} |" in table for rule in ("per-slice", "calibration", "miss-rate", "device-latency"))


def test_the_judged_file_is_the_shipped_file_and_a_box_agrees(
    formats: Formats, judged: GateReport, members: tuple, tmp_path: Path
) -> None:
    """The release carries the judged bytes and says their format; the box's own self-test finds what it was told."""
    plan = ReleasePlan(
        version=2, channel="stable", class_list=CLASS_LIST, decision_rules=judged.decision_rules,
        lineage=Lineage(kind="run"), created_at=utc_now(), precision="int8",
    )  # fmt: skip
    release, files = build_release(plan, formats.made["int8"].file, members[0], members[1].__getitem__)
    assert (release.model_id, release.precision) == (judged.candidate_model, "int8")
    assert release.model.sha256 == judged.candidate_model
    folder = tmp_path / "release"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.read_bytes())
    (folder / "release.json").write_bytes(encode(release))
    verdict = InProcessSelfTest().run(folder)
    assert (verdict.passed, verdict.probes) == (True, 4)
    # The box would have noticed another format in its place.
    shutil.copy(formats.onnx, folder / "model.onnx")
    with pytest.raises(Exception, match="the release says"):
        InProcessSelfTest().run(folder)


def test_a_broken_format_is_refused_and_the_next_one_ships(
    formats: Formats, members: tuple, champion_rules: DecisionRules, tmp_path: Path
) -> None:
    """Int8 with wrong scales fails by what it sees, whatever its trainer said of its parity; float16 ships."""
    broken = formats.variant("int8", broken_int8(formats, tmp_path / "model-int8.onnx"))
    report = judge(case(formats, members, champion_rules, variants=(formats.variant("fp16"), broken)))
    assert report.promoted
    assert report.candidate_model == sha256_of(formats.made["fp16"].file.read_bytes())
    verdicts = {one.precision: one for one in report.variants}
    failed = {one.rule for one in verdicts["int8"].findings if not one.passed}
    assert {"overall", "forgetting"} <= failed
    assert "int8 failed" in verdicts["fp16"].why
    assert "overall" in verdicts["int8"].why


def test_a_file_that_does_not_run_is_told_not_raised(
    formats: Formats, members: tuple, champion_rules: DecisionRules, tmp_path: Path
) -> None:
    """Bytes that are no model make that format fail with the reason; the float file is judged all the same."""
    torn = tmp_path / "model-int8.onnx"
    torn.write_bytes(formats.made["int8"].file.read_bytes()[:1000])
    settings = SETTINGS.model_copy(update={"ship": ("int8", "fp32")})
    variants = (formats.variant("int8", torn),)
    report = judge(case(formats, members, champion_rules, variants=variants, settings=settings))
    int8 = next(one for one in report.variants if one.precision == "int8")
    assert int8.findings[0].rule == "file"
    assert "ONNX" in int8.findings[0].got
    assert report.promoted
    assert report.candidate_model == sha256_of(formats.onnx.read_bytes())


def test_another_file_than_the_described_one_is_refused(
    formats: Formats, members: tuple, champion_rules: DecisionRules
) -> None:
    """A description with one hash and a file with another never ship: the rule on the file itself fails."""
    described, _ = formats.variant("int8")
    settings = SETTINGS.model_copy(update={"ship": ("int8",)})
    swapped = ((described, formats.made["fp16"].file),)
    report = judge(case(formats, members, champion_rules, variants=swapped, settings=settings))
    assert not report.promoted
    assert {"file"} <= {one.rule for one in report.findings if not one.passed}
    assert "fp32: passed every rule; not among" in failed_rules(report)


def test_only_formats_that_are_wanted_ship(
    formats: Formats, members: tuple, champion_rules: DecisionRules
) -> None:
    """By default float32 ships though others pass; where only int8 is wanted and none came, nothing does."""
    default = judge(case(formats, members, champion_rules, settings=SETTINGS.model_copy(update={"ship": ("fp32",)})))
    assert default.candidate_model == sha256_of(formats.onnx.read_bytes())
    assert default.promoted
    wanted = SETTINGS.model_copy(update={"ship": ("int8",)})
    without = judge(case(formats, members, champion_rules, settings=wanted, variants=()))
    assert not without.promoted
    assert without.findings[-1].rule == "number-format"
    assert "int8" in without.findings[-1].expected


def test_a_stated_miss_rate_moves_the_thresholds_that_ship(
    formats: Formats, members: tuple, champion_rules: DecisionRules
) -> None:
    """With too few bad parts for the rate, the safest thresholds ship and the report says what would be needed."""
    decision = ThresholdOptions(max_miss_rate=0.01)
    inputs = case(formats, members, champion_rules, decision=decision, variants=(),
                  settings=SETTINGS.model_copy(update={"ship": ("fp32",)}))  # fmt: skip
    report = judge(inputs)
    finding = next(one for one in report.findings if one.rule == "miss-rate")
    assert "would be needed" in finding.got
    assert all(one.unsure_at <= 0.05 for one in report.decision_rules.classes)
    assert 0.0 < report.measures["candidate.miss_rate_bound"] <= 1.0
    strict = inputs.settings.model_copy(update={"require_miss_rate": True})
    refused = judge(case(formats, members, champion_rules, decision=decision, variants=(), settings=strict))
    assert "miss-rate" in {one.rule for one in refused.findings if not one.passed}


@pytest.mark.parametrize("wrong", [{"ship": ()}, {"ship": ("fp32", "fp32")}, {"ship": ("bf16",)},
                                   {"max_overconfidence": 1.5}, {"device_latency_ms": {"jetson": 0.0}}])  # fmt: skip
def test_impossible_gate_settings_are_refused(wrong: dict[str, object]) -> None:
    """No format, one twice, an unknown one, or bounds that mean nothing are told when settings are read."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        GateSettings.model_validate(wrong)


# What follows needs no model: rules by hand-made evidence.


def parity(**changes: object) -> ParityReport:
    """Return a report of a file that rounds, as int8 does."""
    values = {"images": 8, "compared": 200, "unmatched": 0, "max_box_error_px": 9.0, "max_score_error": 0.2,
              "mean_box_error_px": 0.6, "mean_score_error": 0.01, **changes}  # fmt: skip
    return ParityReport.model_validate(values)


@pytest.mark.parametrize(
    ("precision", "report", "passes"),
    [
        ("int8", parity(), True),
        ("fp16", parity(), False),  # float may not be far off anywhere
        ("fp32", parity(), False),
        ("fp16", parity(max_box_error_px=0.5, max_score_error=0.005), True),
        ("int8", parity(mean_box_error_px=20.0), False),
        ("int8", parity(mean_score_error=0.3), False),
        ("int8", parity(mean_box_error_px=None), False),  # an old report cannot show it
        ("int8", parity(unmatched=15), True),
        ("int8", parity(unmatched=60), False),
        ("fp16", parity(max_box_error_px=0.5, max_score_error=0.005, unmatched=1), False),
        ("int8", parity(compared=0), False),
    ],
)
def test_parity_is_judged_by_what_the_format_can(precision: str, report: ParityReport, passes: bool) -> None:
    """Float formats are held to their largest error, int8 to its mean, and nothing compared never passes."""
    from tests.trainer.test_gate import candidate, evidence, failed

    assert ("parity" not in failed(evidence(candidate=candidate(parity=report), precision=precision))) is passes


def test_latency_is_bounded_on_each_device_class_that_was_measured() -> None:
    """A bound on a measured device refuses, one on an unmeasured device is named and refuses nothing."""
    from tests.trainer.test_gate import candidate, evidence, failed
    from trainer.gate.file_rules import LatencyOnDevice

    took = Latency(device_class="jetson", provider="x", threads=1, p50_ms=12.0, p95_ms=13.0, frames=9)
    for bounds, passes in (({"jetson": 15.0}, True), ({"jetson": 10.0}, False), ({"arm": 1.0}, True)):
        settings = GateSettings(device_latency_ms=bounds)
        proof = evidence(candidate=candidate(latency=(took,)), settings=settings)
        assert ("device-latency" not in failed(proof)) is passes
    finding = LatencyOnDevice().check(proof)
    assert finding.detail == "not measured: arm"


def test_a_slice_that_is_given_up_is_refused_and_named() -> None:
    """Better on the whole, blind on one board: refused by that board's name, since no chance explains it."""
    from tests.trainer.test_gate import (
        NAMES,
        RULES,
        champion_with,
        class_list,
        evidence,
        failed,
        member,
        seen_by,
    )
    from trainer.gate.fine_rules import PerSlice
    from trainer.validation import measure, truth_of

    rows = tuple(
        member(seed, "val", slices={"board": "a" if seed < 12 else "b"}, camera="top" if seed % 2 else "side")[0]
        for seed in range(48)
    )
    truths = tuple(truth_of(one) for one in rows)

    def looks(finds: object) -> object:
        found = tuple(seen_by(one, finds=finds(row)) for row, one in enumerate(rows))  # type: ignore[operator]
        return measure("a" * 64, NAMES, class_list(), (rows, found, truths), RULES)

    before = champion_with(val=looks(lambda row: row % 2 == 0 or row < 12), new_val=looks(lambda row: row % 2 == 0))
    blind = evidence(val=looks(lambda row: row >= 12), new_val=looks(lambda row: row >= 12), champion=before)
    assert failed(blind) == {"per-slice"}
    finding = PerSlice().check(blind)
    assert "board=a loses 1.000" in finding.got
    good = evidence(val=looks(lambda row: True), new_val=looks(lambda row: True), champion=before)
    assert "per-slice" not in failed(good)
    assert "slices, worst" in PerSlice().check(good).got
    patient = GateSettings(min_slice_truths=1000)
    assert PerSlice().check(evidence(val=blind.val, champion=before, settings=patient)).got == "no slice to judge"


def test_sizes_are_shares_of_the_frame_and_ignore_each_other() -> None:
    """A small object found and a large one missed: the small slice is perfect, the large one empty-handed."""
    from detection.metrics.average_precision import average_precision
    from detection.metrics.matching import GroundTruth
    from tests.trainer.test_gate import NAMES, RULES, class_list, member
    from trainer.gate.slices import slices_of
    from trainer.validation import measure

    one = member(1)[0].model_copy(update={"width": 640, "height": 480})
    small, large = [100.0, 100.0, 120.0, 120.0], [200.0, 100.0, 400.0, 300.0]
    truth = GroundTruth(np.array([small, large]), np.array([0, 0]), 2)
    found = Detections(np.array([small], np.float32), np.array([0.9], np.float32), np.array([0]))
    cut = slices_of(measure("a" * 64, NAMES, class_list(), ((one,), (found,), (truth,)), RULES), 2)
    figures = {name: average_precision(s.predictions, s.truths, 2).map50 for name, s in cut.items() if s.truth_count}
    assert figures == {"size=small": pytest.approx(1.0), "size=large": 0.0}
    assert cut["size=medium"].truth_count == 0


@pytest.mark.parametrize(("confidence", "right", "passes"), [(0.95, 1.0, True), (0.95, 0.5, False), (0.6, 1.0, True)])
def test_boasting_is_refused_only_when_it_is_certain(confidence: float, right: float, passes: bool) -> None:
    """A model that is right half as often as it says is refused; one that doubts too much lets nothing escape."""
    from tests.trainer.test_gate import NAMES, RULES, class_list, evidence, failed, member, seen_by
    from trainer.validation import measure, truth_of

    rows = tuple(member(seed, "val")[0] for seed in range(40))
    truths = tuple(truth_of(one) for one in rows)
    shifted = [seen_by(member(seed + 500)[0], confidence=confidence) for seed in range(40)]
    found = tuple(
        seen_by(one, confidence=confidence) if row < right * 40 else shifted[row] for row, one in enumerate(rows)
    )
    looked = measure("a" * 64, NAMES, class_list(), (rows, found, truths), RULES)
    assert ("calibration" not in failed(evidence(val=looked, champion=None))) is passes
    shy = GateSettings(max_underconfidence=0.2)
    assert ("calibration" in failed(evidence(val=looked, settings=shy, champion=None))) is (
        not passes or confidence < 0.7
    )


@pytest.mark.parametrize(
    ("report", "strict", "passes"),
    [
        (None, True, True),
        (MissReport(0.05, 0.95, 100, 1, 0.047, True, 93), False, True),
        (MissReport(0.05, 0.95, 10, 0, 0.26, False, 59), False, True),
        (MissReport(0.05, 0.95, 10, 0, 0.26, False, 59), True, False),
        (MissReport(0.05, 0.95, 100, 20, 0.28, False, 600), False, False),
    ],
)
def test_a_miss_rate_is_refused_when_the_data_contradict_it(
    report: MissReport | None, strict: bool, passes: bool
) -> None:
    """Too little data is said and passes unless a person asked otherwise; a rate the data contradict never passes."""
    from tests.trainer.test_gate import evidence, failed

    assert ("miss-rate" not in failed(evidence(misses=report, settings=GateSettings(require_miss_rate=strict)))) is passes
