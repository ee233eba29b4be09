"""Tell Prefect that something happened, through one port; an event is a hint and may be lost."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol


class EventSink(Protocol):
    """Take events of tasks."""

    def emit(self, event: str, task_id: str, payload: dict[str, Any]) -> None:
        """Send one event about a task; it returns at once and promises nothing."""
        ...


class PrefectEvents:
    """Send events to the Prefect server that `PREFECT_API_URL` names."""

    def emit(self, event: str, task_id: str, payload: dict[str, Any]) -> None:
        """Hand one event to prefect's own background worker; one of a tier has it at the end of its name."""
        # Imported here: prefect takes a second to load and reads its settings from the environment then.
        from prefect.events import emit_event

        tier = payload.get("tier")
        name = f"{event}.{tier}" if tier else event
        emit_event(name, resource=resource_of(task_id), payload=payload)


@dataclass(slots=True)
class MemoryEvents:
    """Keep events, for tests and dry runs: `sent` holds (event, task, payload)."""

    sent: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)

    def emit(self, event: str, task_id: str, payload: dict[str, Any]) -> None:
        """Keep one event."""
        self.sent.append((event, task_id, payload))


def resource_of(task_id: str) -> dict[str, str]:
    """Return what automations match on: the task as a Prefect resource."""
    return {"prefect.resource.id": f"whetstone.task.{task_id}", "whetstone.task": task_id}
