"""Judge a machine by what was seen of it and what the plan counts on; pure.

A finding is grave where the run would fail here, or where money would be spent on less than was promised.
What only makes a run slower, or what nobody could tell, is told and goes on.
"""

from __future__ import annotations

from collections.abc import Iterator

from trainer.fitness.facts import CardSeen, DriverSeen, Finding, LineSeen, MachineSeen, Need, TorchBuild
from trainer.fitness.torch_build import least_capability, least_driver
from trainer.planning.cards import card_of

TOLERATED_SHARE = 0.93
"""Share of the promised memory a known card must have: error correction takes a sixteenth where it is on, and
drivers some besides. What training takes has to be free in any case."""
TOLERATED_UNKNOWN = 0.92
"""Likewise for a card nobody entered: sellers round gigabytes and count them in tens."""
TOLERATED_RAM = 0.8
TOLERATED_SPEED = 0.9
"""Share of the promised card's tensor rate that another one must reach to serve in its place."""
FREE_SHARE = 0.5
"""Share of a card that must be free where nobody knows what training takes."""
MOST_CLOCK_SECONDS = 300.0
"""A ticket is renewed five minutes before its end; a clock that is slow by more never renews it in time."""
NEAR_CLOCK_SECONDS = 30.0
_MIB = 2**20


def judge(seen: MachineSeen, need: Need) -> tuple[Finding, ...]:
    """Return everything that is not as the plan counts on, grave findings first."""
    found = [*_of_cards(seen, need), *_of_host(seen, need), *_of_line(seen.line, need)]
    return tuple(sorted(found, key=lambda one: not one.grave))


def _of_cards(seen: MachineSeen, need: Need) -> Iterator[Finding]:
    if not need.cards:
        return
    if seen.driver is None or seen.driver.error:
        why = seen.driver.error if seen.driver is not None else "nobody asked it"
        yield Finding("driver", f"no NVIDIA driver answers, for {need.cards} x {need.gpu}: {why}")
        return
    yield from _of_versions(seen.driver, seen.torch)
    yield from _of_count(seen.driver, need)
    for card in seen.driver.cards[: need.cards]:
        yield from _of_card(card, seen.torch, need)


def _of_versions(driver: DriverSeen, torch: TorchBuild) -> Iterator[Finding]:
    if torch.cuda is None:
        named = f"torch {torch.version} is built for the processor alone" if torch.version else "no torch"
        yield Finding("torch", f"{named}; this image cannot use a card")
        return
    if driver.cuda is None:
        yield Finding("driver", f"driver {driver.version} does not say which CUDA it serves", grave=False)
        return
    serves, wants = (f"{one[0]}.{one[1]}" for one in (driver.cuda, torch.cuda))
    told = f"driver {driver.version} serves CUDA up to {serves}; torch {torch.version} is built for {wants}"
    if driver.cuda[0] < torch.cuda[0]:
        least = least_driver(torch.cuda)
        yield Finding("driver", told + (f", which needs driver {least} or newer" if least else ""))
    elif driver.cuda < torch.cuda:
        # Minor versions are compatible, but code that would have to be compiled on the card is not.
        yield Finding("driver", f"{told}; it works within a major version", grave=False)


def _of_count(driver: DriverSeen, need: Need) -> Iterator[Finding]:
    if len(driver.cards) < need.cards:
        yield Finding("card", f"{need.cards} x {need.gpu} promised, {len(driver.cards)} cards here")
    elif driver.cuda_error:
        yield Finding("card", f"the card is listed, but CUDA does not start on it: {driver.cuda_error}")
    elif driver.usable is not None and driver.usable < need.cards:
        yield Finding("card", f"{need.cards} x {need.gpu} promised, CUDA can use {driver.usable}")


def _of_card(card: CardSeen, torch: TorchBuild, need: Need) -> Iterator[Finding]:
    promised, real = card_of(need.gpu), card_of(card.name)
    if promised is None or real is None:
        if need.gpu.lower() != card.name.lower():
            why = f"{need.gpu} promised, {card.name} here; how they compare is not known"
            yield Finding("kind", why, grave=False)
    elif promised is not real:
        slower = real.tensor < TOLERATED_SPEED * promised.tensor
        yield Finding("kind", f"{need.gpu} promised, {card.name} here", grave=slower)
    least = least_capability(torch.cuda) if torch.cuda is not None else None
    if least is not None and card.capability is not None and card.capability < least:
        has, wants = (".".join(map(str, one)) for one in (card.capability, least))
        yield Finding("kind", f"{card.name} has compute capability {has}; this torch wants {wants} or newer")
    yield from _of_memory(card, need, TOLERATED_UNKNOWN if promised is None else TOLERATED_SHARE)


def _of_memory(card: CardSeen, need: Need, share: float) -> Iterator[Finding]:
    total, free = card.total_bytes // _MIB, card.free_bytes // _MIB
    wanted = need.peak_bytes // _MIB or int(FREE_SHARE * need.promised_mib)
    if total < share * need.promised_mib:
        yield Finding("memory", f"{need.gpu} with {need.promised_mib} MiB promised, {card.name} has {total}")
    elif free < wanted:
        yield Finding("memory", f"{free} of {total} MiB free on {card.name}, {wanted} wanted: it is in use")


def _of_host(seen: MachineSeen, need: Need) -> Iterator[Finding]:
    if seen.disk_free_bytes < need.disk_bytes:
        free, wanted = seen.disk_free_bytes // _MIB, need.disk_bytes // _MIB
        yield Finding("disk", f"{free} MiB of disk free, {wanted} wanted for data, checkpoints and results")
    if seen.memory_bytes // _MIB < TOLERATED_RAM * need.memory_mib:
        has = seen.memory_bytes // _MIB
        yield Finding("host memory", f"{need.memory_mib} MiB promised, {has} may be used", grave=False)


def _of_line(line: LineSeen | None, need: Need) -> Iterator[Finding]:
    if line is None:
        return
    if line.error:
        yield Finding("line", f"the bucket could not be read: {line.error}", grave=False)
    if line.clock_ahead is not None and abs(line.clock_ahead) > NEAR_CLOCK_SECONDS:
        way = "ahead of" if line.clock_ahead > 0 else "behind"
        off = abs(line.clock_ahead)
        yield Finding("clock", f"the clock is {off:.0f} s {way} the store's", grave=off > MOST_CLOCK_SECONDS)
    rate = line.bytes_per_second
    if rate is not None and need.data_bytes > rate * need.data_seconds:
        takes = f"{need.data_bytes / rate / 60.0:.0f} min" if rate > 0 else "for ever"
        yield Finding(
            "line",
            f"{rate / 2**20:.2f} MiB/s from the bucket: {need.data_bytes // _MIB} MiB take {takes},"
            f" {need.data_seconds / 60.0:.0f} min are granted",
        )
