"""Judge the very files that may ship (law 6) and write the verdict down with every reason (law 10).

(1) Run the champion once, and every file of the candidate, over the same verified members.
(2) Choose each file's decision rules on those members and measure parts by them.
(3) Ask the bootstrap how sure the change on the golden set is.
(4) Hear every rule on every file.
(5) Ship the first format in the order of preference whose file passed all of them.
"""

from __future__ import annotations

from fleet_contracts.base import utc_now
from fleet_contracts.judging import GateFinding, GateReport
from trainer.gate.choice import Choice, Heard, choose
from trainer.gate.explain import explain
from trainer.gate.gather import case_of, files_of, look, look_at_champion, members_of, time_files
from trainer.gate.inputs import Champion, JudgeInputs
from trainer.gate.measures import measures_of
from trainer.gate.pictures import draw_changes
from trainer.gate.rules import judge_all, rules_for

__all__ = ["Champion", "JudgeInputs", "explain", "judge"]


def judge(inputs: JudgeInputs) -> GateReport:
    """Return the verdict on a candidate.

    Raises:
        ClassListConflict: a file's classes are no prefix of the candidate's list.
        DatasetRefused: an image does not decode.
        GateMisused: no rule applied.
        RulesError: the decision settings do not fit the class list.
    """
    members = members_of(inputs)
    # (1) and (2)
    before = look_at_champion(inputs, members)
    seen = [look(inputs, file, members) for file in files_of(inputs)]
    took = time_files(inputs, seen)
    heard = []
    for one in seen:
        if one.both is None:
            heard.append(Heard(one.file, None, (_unusable(one.problem),), {}))
            continue
        # (3) and (4)
        case = case_of(inputs, one, before, took)
        findings = judge_all(rules_for(case.evidence), case.evidence)
        heard.append(Heard(one.file, case, findings, measures_of(case)))
    # (5)
    choice = choose(heard, inputs.settings.ship)
    return _report(inputs, choice)


def _report(inputs: JudgeInputs, choice: Choice) -> GateReport:
    chosen = choice.heard
    # A file that does not run has no rules of its own; those of the float32 file are what there is to read.
    case = chosen.case or choice.fallback
    evidence = case.evidence
    pictures: tuple[str, ...] = ()
    if inputs.pictures is not None and evidence.champion is not None:
        pictures = draw_changes(evidence.champion.val, evidence.val, inputs.image_of, inputs.pictures)
    return GateReport(
        task_id=inputs.candidate.task_id,
        candidate_id=inputs.candidate.candidate_id,
        candidate_model=chosen.file.candidate.model_id,
        champion_model=evidence.champion.val.model_id if evidence.champion else None,
        snapshot_id=inputs.candidate.snapshot_id,
        findings=choice.findings,
        promoted=choice.promoted,
        decision_rules=evidence.val.rules,
        measures=chosen.measures,
        pictures=pictures,
        variants=choice.verdicts,
        judged_at=utc_now(),
    )


def _unusable(problem: str) -> GateFinding:
    return GateFinding(
        rule="file", passed=False, expected="a model file that boxes can run on every image", got=problem
    )
