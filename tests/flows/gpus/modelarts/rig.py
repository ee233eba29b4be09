"""Pull the strings of the simulated ModelArts."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, ClassVar

from flows.gpus.modelarts.provider import ModelArtsProvider
from flows.gpus.modelarts.simulator import PROJECT
from flows.gpus.sdk.simulator import SimulatedJob
from flows.gpus.settings import ModelArtsSection
from tests.flows.gpus.contract import INSTALLATION
from tests.flows.gpus.sdk.rig import JobsRig

SETTINGS: dict[str, Any] = {
    "kind": "modelarts",
    "token": "file:key.json",
    "region": "cn-north-4",
    "project_id": PROJECT,
    "image": "plant7/trainer:0.1.0",
    "money": {"per_dollar": 7.0},
    "specs": [
        {"spec": "modelarts.vm.gpu.t4u8", "gpu": "T4", "gpu_memory_mib": 15360, "price": 9.8},
        {"spec": "modelarts.p3.large.public", "gpu": "V100", "gpu_memory_mib": 32768, "price": 21.0},
        {"spec": "modelarts.not.there", "gpu": "H200", "gpu_memory_mib": 143771, "price": 1.0},
    ],
}


class ModelArtsRig(JobsRig):
    """Pull the strings of the simulated ModelArts, whose shortest time is an hour."""

    package = "huaweicloudsdkmodelarts"
    key_names = ("access_key", "secret_key")
    done: ClassVar[str] = "Completed"
    lost: ClassVar[str] = "Failed"
    shortest = timedelta(hours=1)

    def make(self, **changed: Any) -> ModelArtsProvider:
        """Return the adapter."""
        section = ModelArtsSection.model_validate({**SETTINGS, "url": self.simulator.url, **changed})
        return ModelArtsProvider("huawei", section, INSTALLATION, self.folder, self.clock)

    def make_foreign(self, name: str) -> None:
        """Have somebody make a job in the project."""
        at = self.clock.at
        job_id = f"00000000-0000-4000-8000-{len(self.simulator.jobs):012d}"
        asked = {"algorithm": {}, "spec": {}}
        self.simulator.jobs[job_id] = SimulatedJob(
            job_id, name, "Running", at, at.replace(year=at.year + 1), {}, asked
        )
