"""Kill ingest in memory: a store and a database that die at the n-th operation, and say that they did."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from sqlalchemy.orm import Session

from flows.context import Context
from flows.database import Database


class Crash(BaseException):
    """Stand for SIGKILL: nothing in the product catches it."""


class Fuse:
    """Count operations and blow at one of them, before or after it took effect."""

    def __init__(self, at: int, *, after: bool) -> None:
        self.blown = False
        self.operations: list[str] = []
        self._at = at
        self._after = after

    def guard(self, name: str, work: Callable[[], Any]) -> Any:
        """Do one operation, unless the fuse blows."""
        self.operations.append(name)
        here = len(self.operations) == self._at
        if here and not self._after:
            self._blow()
        result = work()
        if here and self._after:
            self._blow()
        return result

    def _blow(self) -> None:
        self.blown = True
        raise Crash


class CrashingStore:
    """Pass every verb of a store through a fuse."""

    def __init__(self, inner: object, fuse: Fuse) -> None:
        self._inner = inner
        self._fuse = fuse

    def __getattr__(self, name: str) -> Callable[..., Any]:
        verb = getattr(self._inner, name)
        if name == "list":
            return lambda *args: iter(self._fuse.guard(name, lambda: list(verb(*args))))
        return lambda *args, **options: self._fuse.guard(f"{name} {args[0]}", lambda: verb(*args, **options))


class CrashingDatabase:
    """Pass every commit of a database through a fuse."""

    def __init__(self, inner: Database, fuse: Fuse) -> None:
        self._inner = inner
        self._fuse = fuse
        self.reader = inner.reader

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Open a transaction whose commit may never come, or be the last thing that happens."""
        with Session(self._inner.engine, expire_on_commit=False) as session:
            yield session
            self._fuse.guard("commit", session.commit)


def doomed(ctx: Context, fuse: Fuse) -> Context:
    """Return the installation as a process sees it that dies when the fuse blows."""
    return replace(ctx, store=CrashingStore(ctx.store, fuse), database=CrashingDatabase(ctx.database, fuse))
