"""Take over what a run delivered: check it against its own description, copy it to where it is kept.

Nothing a rented machine wrote is unpickled here; the weights are bytes, the ONNX file is read by
`detection/` alone.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from fleet_contracts import decode, encode, keys, utc_now
from fleet_contracts.judging import Candidate, ModelVariant
from fleet_contracts.training import TrainPlan
from flows.context import Context
from flows.database.schema import CandidateRow
from flows.errors import StoreMissing
from flows.retrain.errors import CandidateBroken
from trainer.formats.names import FILE_NAMES

ONNX, WEIGHTS = FILE_NAMES["fp32"], "weights.pt"


@dataclass(frozen=True, slots=True)
class Collected:
    """Hold a candidate and its model files on this machine: the float32 one, and those of other formats."""

    candidate: Candidate
    onnx: Path
    variants: tuple[tuple[ModelVariant, Path], ...] = ()

    def file_of(self, model_id: str) -> Path:
        """Return the file with this hash, which is the one a verdict names.

        Raises:
            CandidateBroken: the candidate has no such file.
        """
        files = {self.candidate.model_id: self.onnx, **{one.model_id: path for one, path in self.variants}}
        if model_id not in files:
            raise CandidateBroken(
                expected=f"one of the candidate's files {sorted(files)}",
                got=model_id,
                where=self.candidate.candidate_id,
                now="The run's result was replaced after it was judged; nothing is released.",
            )
        return files[model_id]


def collect(ctx: Context, plan: TrainPlan) -> Collected:
    """Verify a run's result and keep it as a candidate; doing it twice keeps one.

    Raises:
        CandidateBroken: the result speaks of another run, a file is not the one it names, or another model
            of this run was judged before.
        StoreMissing: the run has no result.
    """
    # (1) the result belongs to this very run
    key = keys.run(plan.task_id, plan.run_id, "result.json")
    candidate = decode(Candidate, ctx.store.get(key), where=key)
    _require_of(candidate, plan, key)
    _require_known_formats(candidate, plan, key)
    _require_same_as_judged(ctx, candidate, key)
    # (2) the files are what it says, checked on the bytes that are copied
    folder = ctx.folder / "work" / plan.run_id / "judged"
    folder.mkdir(parents=True, exist_ok=True)
    onnx = _fetch(ctx, candidate, ONNX, candidate.model_id, folder)
    variants = tuple(
        (one, _fetch(ctx, candidate, one.name, one.model_id, folder)) for one in candidate.variants
    )
    weights = _fetch(ctx, candidate, WEIGHTS, candidate.weights_sha256, folder)
    # (3) kept under the candidate's own prefix, the description last
    for name, path in ((ONNX, onnx), *((one.name, path) for one, path in variants), (WEIGHTS, weights)):
        ctx.store.put_file(keys.candidate(plan.task_id, candidate.candidate_id, name), path)
    weights.unlink()
    described = keys.candidate(plan.task_id, candidate.candidate_id, "candidate.json")
    ctx.store.put(described, encode(candidate))
    # (4) one row a run
    _record(ctx, plan, candidate)
    return Collected(candidate, onnx, variants)


def onnx_name(candidate: Candidate, model_id: str) -> str:
    """Return the name of the candidate's object that holds a model; another's hash is the float32 file's."""
    return next((one.name for one in candidate.variants if one.model_id == model_id), ONNX)


def candidate_row(ctx: Context, candidate_id: str) -> CandidateRow | None:
    """Return what became of a candidate."""
    with ctx.database.reader() as session:
        return session.get(CandidateRow, candidate_id)


def _require_of(candidate: Candidate, plan: TrainPlan, key: str) -> None:
    names = (candidate.task_id, candidate.candidate_id, candidate.run_id)
    got = (*names, candidate.snapshot_id, candidate.start_sha256)
    # A candidate bears its run's name, so that no trainer can write over another run's candidate.
    expected = (plan.task_id, plan.run_id, plan.run_id, plan.snapshot_id, plan.start.sha256)
    if got != expected or candidate.class_list != plan.class_list:
        raise CandidateBroken(
            expected=f"{expected} and class list {list(plan.class_list.names)}",
            got=f"{got} and class list {list(candidate.class_list.names)}",
            where=key,
        )


def _require_known_formats(candidate: Candidate, plan: TrainPlan, key: str) -> None:
    """Refuse formats that nobody asked for, names that are not theirs, and one format or file twice."""
    got = [(one.precision, one.name) for one in candidate.variants]
    asked = [(one, FILE_NAMES[one]) for one in plan.precisions if one != "fp32"]
    hashes = {candidate.model_id, *(one.model_id for one in candidate.variants)}
    if not set(got) <= set(asked) or len(set(got)) != len(got) or len(hashes) != len(got) + 1:
        raise CandidateBroken(
            expected=f"different files, each once, of {asked}",
            got=f"{got} with {len(hashes)} hashes",
            where=key,
        )


def _require_same_as_judged(ctx: Context, candidate: Candidate, key: str) -> None:
    """Refuse any other result after the verdict; the weights, too, since the next run begins with them."""
    row = candidate_row(ctx, candidate.candidate_id)
    there = {candidate.model_id, *(one.model_id for one in candidate.variants)}
    if row is not None and row.state != "collected" and row.model_id not in there:
        raise CandidateBroken(
            expected=f"model {row.model_id}, which was {row.state}",
            got=str(sorted(there)),
            where=key,
            now="A verdict holds for one model; the files that were judged are kept as they are.",
        )
    try:
        # The verdict may stand though a flow was killed before its row said so.
        ctx.store.get(keys.candidate(candidate.task_id, candidate.candidate_id, "gate.json"))
        described = keys.candidate(candidate.task_id, candidate.candidate_id, "candidate.json")
        kept = decode(Candidate, ctx.store.get(described), where=described)
    except StoreMissing:
        return
    if _hashes(kept) != _hashes(candidate):
        raise CandidateBroken(
            expected=f"the files that were judged: {_hashes(kept)}",
            got=str(_hashes(candidate)),
            where=key,
            now="The run's result was replaced after it was judged; what was judged is kept as it is.",
        )


def _hashes(candidate: Candidate) -> tuple[str, ...]:
    others = sorted(f"{one.precision} {one.model_id}" for one in candidate.variants)
    return (f"fp32 {candidate.model_id}", *others, f"weights {candidate.weights_sha256}")


def _fetch(ctx: Context, candidate: Candidate, name: str, sha256: str, folder: Path) -> Path:
    path = folder / name
    ctx.store.get_file(keys.run(candidate.task_id, candidate.run_id, name), path)
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise CandidateBroken(
            expected=f"sha256 {sha256}", got=found, where=keys.run(candidate.task_id, candidate.run_id, name)
        )
    return path


def _record(ctx: Context, plan: TrainPlan, candidate: Candidate) -> None:
    with ctx.database.session() as session:
        if session.get(CandidateRow, candidate.candidate_id) is not None:
            return
        session.add(
            CandidateRow(
                candidate_id=candidate.candidate_id,
                task_id=plan.task_id,
                run_id=plan.run_id,
                model_id=candidate.model_id,
                state="collected",
                channel=ctx.settings.task(plan.task_id).channel,
                release_version=None,
                gate={},
                collected_at=utc_now(),
                judged_at=None,
            )
        )
