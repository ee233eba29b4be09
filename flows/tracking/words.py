"""Say numbers of runs in words: pure; what nobody knows is a dash."""

from __future__ import annotations

from flows.tracking.story import Facts

NOTHING = "-"
_MINUTE, _HOUR = 60.0, 3600.0
_GIB = 2.0**30


def seconds(value: float | None) -> str:
    """Return a span of time, as coarse as people say it."""
    if value is None:
        return NOTHING
    if value < _MINUTE:
        return f"{value:.1f} s"
    if value < _HOUR:
        return f"{int(value // _MINUTE)} min {int(value % _MINUTE)} s"
    return f"{int(value // _HOUR)} h {int(value % _HOUR // _MINUTE)} min"


def dollars(value: float | None) -> str:
    """Return an amount of money."""
    return NOTHING if value is None else f"${value:.2f}"


def gib(value: int | None) -> str:
    """Return an amount of memory."""
    return NOTHING if value is None else f"{value / _GIB:.2f} GiB"


def share(value: float | None) -> str:
    """Return a share in per cent."""
    return NOTHING if value is None else f"{100.0 * value:.0f} %"


def number(value: float | None) -> str:
    """Return a measure with four digits that count."""
    return NOTHING if value is None else f"{value:.4g}"


def count(how_many: int, what: str) -> str:
    """Return a number of things."""
    return f"{how_many} {what}" + ("" if how_many == 1 else "s")


def epochs(facts: Facts) -> str:
    """Return how many epochs are done of how many."""
    return f"{facts.epochs}/{NOTHING if facts.epochs_planned is None else facts.epochs_planned}"


def vram_planned(facts: Facts) -> str:
    """Return the memory that was predicted, and whether any GPU ever confirmed it."""
    if facts.vram_planned is None:
        return NOTHING
    return gib(facts.vram_planned) + ("" if facts.vram_confirmed else " (not confirmed)")


def verdict(facts: Facts) -> str:
    """Return what the gate said, with the release it led to or the number of rules broken."""
    if not facts.verdict:
        return NOTHING
    if facts.verdict == "refused":
        return f"refused by {count(len(facts.broken_rules), 'rule')}"
    shipped = f" as {facts.ships}" if facts.ships else ""
    return facts.verdict + shipped + (f", release {facts.release_version}" if facts.release_version else "")


def summary(facts: Facts) -> dict[str, str]:
    """Return everything about a run's outcome in words, in the order people read it."""
    return {
        "state": facts.state,
        "reason": facts.reason or NOTHING,
        "task": facts.task_id,
        "snapshot": facts.snapshot_id[:12] or NOTHING,
        "started": f"{facts.started_at:%Y-%m-%d %H:%M:%S} UTC" if facts.started_at else NOTHING,
        "attempts": NOTHING if facts.attempts is None else str(facts.attempts),
        "device": facts.device or NOTHING,
        "epochs": epochs(facts),
        "time of epochs": seconds(facts.seconds),
        "time from start to end": seconds(facts.elapsed),
        "time predicted": seconds(facts.seconds_planned),
        "images/s": number(facts.images_per_second),
        "cost": dollars(facts.cost),
        "cost predicted": dollars(facts.cost_planned),
        "saved by spot": dollars(facts.saved or None),
        "cost of the model": dollars(facts.cost_of_model),
        "mAP50 gained": NOTHING if facts.gain is None else f"{facts.gain:+.1f} points",
        "cost of a point": dollars(facts.cost_per_point),
        "VRAM predicted": vram_planned(facts),
        "VRAM seen": gib(facts.vram_seen),
        "data wait": share(facts.data_wait),
        "utilisation": share(facts.utilisation),
        "data cache hits": share(facts.hit_rate),
        "rungs": str(len(facts.rungs)),
        "resumes": str(facts.resumes),
        "gate": verdict(facts),
    }
