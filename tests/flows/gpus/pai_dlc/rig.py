"""Pull the strings of the simulated PAI-DLC."""

from __future__ import annotations

from typing import Any, ClassVar

from flows.gpus.pai_dlc.provider import PaiDlcProvider
from flows.gpus.pai_dlc.simulator import WORKSPACE
from flows.gpus.sdk.simulator import SimulatedJob
from flows.gpus.settings import PaiDlcSection
from tests.flows.gpus.contract import INSTALLATION
from tests.flows.gpus.sdk.rig import JobsRig

SETTINGS: dict[str, Any] = {
    "kind": "pai-dlc",
    "token": "file:key.json",
    "region": "cn-hangzhou",
    "workspace": WORKSPACE,
    "image": "registry.example/whetstone/trainer:0.1.0",
    "money": {"per_dollar": 7.0},
    "specs": [
        {"spec": "ecs.gn7i-c8g1.2xlarge", "gpu": "NVIDIA A10", "gpu_memory_mib": 23028, "price": 14.0},
        {"spec": "ecs.gn6i-c4g1.xlarge", "gpu": "T4", "gpu_memory_mib": 15360, "price": 8.4},
        {"spec": "ecs.gn9-not-there", "gpu": "H200", "gpu_memory_mib": 143771, "price": 1.0},
    ],
}


class PaiDlcRig(JobsRig):
    """Pull the strings of the simulated PAI-DLC."""

    package = "alibabacloud_pai_dlc20201203"
    key_names = ("access_key_id", "access_key_secret")
    done: ClassVar[str] = "Succeeded"
    lost: ClassVar[str] = "Failed"

    def make(self, **changed: Any) -> PaiDlcProvider:
        """Return the adapter."""
        section = PaiDlcSection.model_validate({**SETTINGS, "url": self.simulator.url, **changed})
        return PaiDlcProvider("aliyun", section, INSTALLATION, self.folder, self.clock)

    def make_foreign(self, name: str) -> None:
        """Have somebody make a job in the workspace."""
        at = self.clock.at
        job_id = f"dlcforeign{len(self.simulator.jobs):06d}"
        self.simulator.jobs[job_id] = SimulatedJob(
            job_id, name, "Running", at, at.replace(year=at.year + 1), {}, {"WorkspaceId": WORKSPACE}
        )
