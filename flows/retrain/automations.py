"""Describe the automations that start runs and clear away dead ones. Pure: values for Prefect's API.

`labels-ready`: the event `whetstone.labels.ready`, with a tier at its end where it names one, runs that
tier's deployment for the task that the event names. The deployment holds one slot and cancels what comes
while it is taken; the sweep in ingest emits again, so nothing is lost by that.

`lost-runs`: a flow run that was given to a worker or beat once is expected to beat or end within 60 s, else
it is marked Crashed, which frees its slot. Prefect itself only does this in its cloud. A finished run cannot
be marked: its end is among the expected events, and the server refuses to crash what is in a terminal state
(`force` stays off).

`crashed-runs`: a run of the deployment that crashed, by that or because its worker saw it die, is started
again after a short rest; the new one finds what the old one left and goes on.
"""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from prefect.automations import AutomationCore, ChangeFlowRunState, EventTrigger, Posture, RunDeployment
from prefect.client.schemas.objects import StateType

from flows.retrain.tiers import event_of

READY_EVENT = "whetstone.labels.ready"
TASK_LABEL = "whetstone.task"
HEARTBEAT = "prefect.flow-run.heartbeat"
LOST_AFTER = timedelta(seconds=60)
REST = timedelta(seconds=10)
"""Between a crash and the next attempt, so that what crashes at once does not turn in a circle."""
ENDS = (
    "Completed", "Failed", "Cancelled", "Crashed", "Cancelling", "Paused", "Suspended", "Scheduled",
    "AwaitingRetry",
)  # fmt: skip
"""States after which silence is no sign of death."""


def labels_ready(deployment_id: UUID, *, tier: str = "") -> AutomationCore:
    """Return the automation that runs a tier's deployment for every ready event, with the event's task."""
    return AutomationCore(
        name=_named("whetstone: labels ready", tier),
        description="Verified new labels passed the threshold: retrain the task that the event names.",
        trigger=EventTrigger(
            expect={event_of(READY_EVENT, tier)},
            match={"prefect.resource.id": "whetstone.task.*"},
            for_each={"prefect.resource.id"},
            posture=Posture.Reactive,
            threshold=1,
            within=timedelta(0),
        ),
        actions=[
            RunDeployment(
                source="selected",
                deployment_id=deployment_id,
                parameters={
                    "task": {
                        "__prefect_kind": "jinja",
                        "template": "{{ event.resource['" + TASK_LABEL + "'] }}",
                    }
                },
            )
        ],
    )


def lost_runs(*, name: str = "whetstone: lost runs", after: timedelta = LOST_AFTER) -> AutomationCore:
    """Return the automation that marks flow runs Crashed when their heart stopped."""
    return AutomationCore(
        name=name,
        description=f"A run without a heartbeat for {after.total_seconds():.0f} s has lost its process.",
        trigger=EventTrigger(
            after={HEARTBEAT, "prefect.flow-run.Pending", "prefect.flow-run.Running"},
            expect={HEARTBEAT, *(f"prefect.flow-run.{end}" for end in ENDS)},
            match={"prefect.resource.id": "prefect.flow-run.*"},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=after,
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED,
                message=f"No heartbeat for {after.total_seconds():.0f} s: the process is gone.",
            )
        ],
    )


def crashed_runs(deployment_id: UUID, *, tier: str = "", rest: timedelta = REST) -> AutomationCore:
    """Return the automation that starts a crashed run's task again, in the same deployment."""
    return AutomationCore(
        name=_named("whetstone: crashed runs", tier),
        description="A run that died left its work half done: another one goes on with it.",
        trigger=EventTrigger(
            expect={"prefect.flow-run.Crashed"},
            match={"prefect.resource.id": "prefect.flow-run.*"},
            match_related={
                "prefect.resource.role": "deployment",
                "prefect.resource.id": f"prefect.deployment.{deployment_id}",
            },
            for_each={"prefect.resource.id"},
            posture=Posture.Reactive,
            threshold=1,
            within=timedelta(0),
        ),
        actions=[
            RunDeployment(
                source="selected",
                deployment_id=deployment_id,
                schedule_after=rest,
                parameters={
                    "task": {"__prefect_kind": "jinja", "template": "{{ flow_run.parameters['task'] }}"},
                },
            )
        ],
    )


def _named(name: str, tier: str) -> str:
    return f"{name} ({tier})" if tier else name
