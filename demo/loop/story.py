"""Play the demo on a running installation: let parts come, label, add the class, wait for the new release.

One tick looks at everything, decides which act it is (`acts`), and does what is due; nothing is kept in
memory that the folder does not also hold, so a demo that was killed goes on with the next tick.
"""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass

from demo.errors import StationStuck
from demo.loop.acts import Act, Floor, act_of, is_served, needs_class, order_of
from demo.loop.floor import BoxFolder, box_folder
from demo.loop.glance import Glance, look, uploaded
from demo.loop.labeller import Labeller
from demo.loop.patience import patiently
from demo.loop.progress import RunProgress
from demo.loop.settings import LoopSettings
from demo.loop.show import Show
from demo.loop.state import DemoState, StateFile
from flows.context import Context
from flows.errors import DatabaseAway, StoreError

TICK = 0.5  # seconds
LABELLING: tuple[Act, ...] = ("known", "changed")
"""Acts in which the labeller works: labels made during a training would only start the next one."""
LONGEST = 1800.0  # seconds
DRAIN_SECONDS = 180.0


@dataclass(frozen=True, slots=True)
class Stage:
    """Hold what the story is played with."""

    ctx: Context
    settings: LoopSettings
    state_file: StateFile
    show: Show


class Story:
    """Play the demo from where it is until both boxes serve the new release."""

    def __init__(self, stage: Stage, state: DemoState) -> None:
        """Take the stage, and the state the folder is in."""
        self._stage = stage
        self._ctx = stage.ctx
        self._settings = stage.settings
        self.state = state
        self._boxes = {name: box_folder(stage.ctx.folder, name) for name in stage.settings.devices}
        labels = stage.ctx.path(stage.ctx.settings.labels.folder) / stage.settings.task_id
        self._labeller = Labeller(labels, {name: box.truth for name, box in self._boxes.items()})
        self._progress = RunProgress(stage.ctx, stage.settings.task_id)
        self._act: Act | None = None
        self._told: set[str] = set()
        self._set_aside = 0

    def boxes(self) -> tuple[BoxFolder, ...]:
        """Return the folders of the lines and their boxes."""
        return tuple(self._boxes.values())

    def play(self) -> DemoState:
        """Go on until the new release serves on every box and nothing waits in any outbox.

        Raises:
            StationStuck: the release did not come within `LONGEST` seconds, or an outbox does not empty.
        """
        deadline = time.monotonic() + LONGEST
        while self._act != "done":
            if time.monotonic() > deadline:
                raise self._stuck("a new release on every box", LONGEST)
            try:
                self.tick()
            except (StoreError, DatabaseAway) as error:
                # A service that was killed comes back; what it should have answered is asked again.
                self._once(str(error), f"waiting: {error}")
            time.sleep(TICK)
        self._drain()
        return self.state

    def tick(self) -> Act:
        """Look once, and do what is due."""
        glance = look(self._ctx, self._settings.task_id)
        floor = Floor({name: box.parts_made() for name, box in self._boxes.items()}, self._set_aside)
        # (1) moments the report needs
        self._mark_moments(glance, floor)
        # (2) the act, and what the lines make in it
        act = act_of(self._settings, self.state, glance, floor)
        self._enter(act)
        # (3) the labeller, until enough is labelled; what comes later waits for the next shift
        if act in LABELLING:
            work = self._labeller.work(uploaded(self._ctx, self._settings.task_id), glance.classes)
            self._set_aside = work.set_aside
        # (4) the operator's one command
        if act == "changed" and needs_class(self._settings, glance, floor):
            self._add_class(self._set_aside)
        self._stage.show.status(glance, self._progress.look(glance))
        self._tell_of(glance)
        return act

    def _mark_moments(self, glance: Glance, floor: Floor) -> None:
        mark = self._stage.state_file.mark
        if any(floor.made.values()):
            self.state = mark(self.state, "first_frame_at")
        if glance.trigger_asked:
            self.state = mark(self.state, "triggered_at")
        if is_served(self._settings, self.state, glance):
            version = glance.oldest_version(self._settings.devices)
            self.state = mark(self.state, "served_at", new_version=version)

    def _enter(self, act: Act) -> None:
        if act != "known":
            self.state = self._stage.state_file.mark(self.state, "changed_at")
        for box in self._boxes.values():
            box.tell(order_of(self._settings, act))
        if act != self._act:
            self._stage.show.note(_ACT_NOTES[act])
            self._act = act

    def _add_class(self, set_aside: int) -> None:
        reason = f"{set_aside} parts show {self._settings.new_class}, which no class names"
        command = [sys.executable, "-m", "flows.cli", "classes", "add", self._settings.new_class,
                   "--task", self._settings.task_id, "--folder", str(self._ctx.folder),
                   "--reason", reason]  # fmt: skip
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        except subprocess.TimeoutExpired:
            self._once("class slow", "operator: the command took too long, it is given again")
            return
        if done.returncode != 0:
            # Whatever was away comes back; the labeller still waits, so the next tick tries again.
            self._once("class", f"operator: the class was not added yet: {done.stderr.strip()[-300:]}")
            return
        self.state = self._stage.state_file.mark(self.state, "class_added_at")
        self._stage.show.note(f"operator: whetstone classes add {self._settings.new_class} ({reason})")

    def _tell_of(self, glance: Glance) -> None:
        run, candidate = glance.run, glance.candidate
        if glance.trigger_asked:
            self._once("trigger", f"trigger: {glance.trigger_new} verified new labels, event sent to Prefect")
        if run.run_id:
            self._once(run.run_id, f"retrain: {run.run_id} on snapshot {run.snapshot_id[:12]}")
        for lease in glance.leases:
            self._once(lease.lease_id, f"rented: {lease.what}")
            if lease.end:
                self._once(f"{lease.lease_id} ended", f"given back: {lease.what}: {lease.end}")
        if candidate and candidate.state != "collected":
            told = f"gate: {candidate.candidate_id} {candidate.state}"
            self._once(told, told)
        for device, report in sorted(glance.devices.items()):
            if report.state == "serving" and report.release_version > 0:
                told = f"{device}: serves release {report.release_version}"
                self._once(told, told)

    def _once(self, key: str, text: str) -> None:
        if key not in self._told:
            self._told.add(key)
            self._stage.show.note(text)

    def _drain(self) -> None:
        """Wait until the boxes inspected every frame and the cloud gave a receipt for every example."""
        deadline = time.monotonic() + DRAIN_SECONDS
        while not patiently(self._is_drained):
            if time.monotonic() > deadline:
                raise self._stuck("every frame inspected and every outbox empty", DRAIN_SECONDS)
            time.sleep(TICK)

    def _is_drained(self) -> bool:
        devices = look(self._ctx, self._settings.task_id).devices
        return all(
            name in devices
            and devices[name].outbox_waiting == 0
            and devices[name].frames_inspected >= box.parts_made()
            for name, box in self._boxes.items()
        )

    def _stuck(self, what: str, seconds: float) -> StationStuck:
        glance = look(self._ctx, self._settings.task_id)
        run = f"run {glance.run.state or 'none'} {glance.run.reason}".strip()
        return StationStuck(
            expected=f"{what} within {seconds:.0f} s",
            got=f"{run}, rollout {glance.rollout_state or 'none'}",
            where=str(self._ctx.folder),
            now="Read logs/ in that folder; the same command goes on in it.",
        )


_ACT_NOTES: dict[Act, str] = {
    "known": "line: boards as the first champion knows them",
    "changed": "line: a new cutter and a new flux: scratches look different, stains appear",
    "training": "line: goes on slowly, the cores belong to the training",
    "settling": "boxes: every box serves the new release",
    "done": "line: stopped",
}
