"""Choose which number format ships: pure, by the order of preference and what was found of each file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fleet_contracts.judging import GateFinding, VariantVerdict
from fleet_contracts.training import Precision
from trainer.errors import GateMisused
from trainer.gate.gather import Case, CaseFile


@dataclass(frozen=True, slots=True)
class Heard:
    """Hold what was found of one file; `case` is None for one that does not run."""

    file: CaseFile
    case: Case | None
    findings: tuple[GateFinding, ...]
    measures: dict[str, float]

    @property
    def passed(self) -> bool:
        """Tell whether every rule passed."""
        return bool(self.findings) and all(finding.passed for finding in self.findings)


@dataclass(frozen=True, slots=True)
class Choice:
    """Hold the file that ships, or the one whose findings say why nothing does."""

    heard: Heard
    findings: tuple[GateFinding, ...]
    promoted: bool
    verdicts: tuple[VariantVerdict, ...]
    fallback: Case
    """The float32 file's evidence."""


def choose(heard: Sequence[Heard], ship: Sequence[Precision]) -> Choice:
    """Return the first preferred file that passed every rule, else the first preferred one, refused.

    Raises:
        GateMisused: there is no float32 file that runs.
    """
    by_format = {one.file.precision: one for one in heard}
    plain = by_format.get("fp32")
    if plain is None or plain.case is None:
        raise GateMisused(expected="a float32 file that runs", got=str(sorted(by_format)), where="gate")
    delivered = [by_format[precision] for precision in ship if precision in by_format]
    winner = next((one for one in delivered if one.passed), None)
    chosen = winner or (delivered[0] if delivered else plain)
    findings = chosen.findings
    if not delivered:
        findings = (*findings, _nothing_delivered(ship, by_format))
    verdicts = tuple(
        VariantVerdict(
            precision=one.file.precision,
            model_id=one.file.candidate.model_id,
            promoted=one is winner,
            findings=one.findings,
            measures=one.measures,
            why=_why(one, winner, by_format, ship),
        )
        for one in heard
    )
    return Choice(chosen, findings, winner is not None, verdicts, plain.case)


def _nothing_delivered(ship: Sequence[Precision], there: Mapping[Precision, Heard]) -> GateFinding:
    return GateFinding(
        rule="number-format",
        passed=False,
        expected=f"a file in one of {list(ship)}",
        got=f"files in {sorted(there)}",
        detail="ask for it in the recipe's precisions, or ship another format",
    )


def _why(
    one: Heard, winner: Heard | None, there: Mapping[Precision, Heard], ship: Sequence[Precision]
) -> str:
    broken = ", ".join(finding.rule for finding in one.findings if not finding.passed)
    if broken:
        return f"failed {broken}"
    if one is not winner:
        if winner is None:
            return "passed every rule; not among the formats that this task ships"
        return f"passed every rule; {winner.file.precision} is preferred"
    before = ship[: ship.index(one.file.precision)]
    passed_over = [_passed_over(precision, there) for precision in before]
    return "; ".join(["ships: passed every rule", *passed_over])


def _passed_over(precision: Precision, there: Mapping[Precision, Heard]) -> str:
    if precision not in there:
        return f"{precision} was not delivered"
    broken = ", ".join(finding.rule for finding in there[precision].findings if not finding.passed)
    return f"{precision} failed {broken}"
