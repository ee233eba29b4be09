"""Hold the settings of providers: `[providers.<name>]` in `whetstone.toml`, told apart by `kind`.

No secret stands here: `token` says where one is kept, as `file:PATH`, `env:NAME` or `block:NAME` (a Prefect
Secret block).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from typing_extensions import Self

Dollars = Annotated[float, Field(ge=0, allow_inf_nan=False)]
TokenPlace = Annotated[
    str, StringConstraints(pattern=r"^(file:.+|env:[A-Za-z_][A-Za-z0-9_]*|block:[a-z0-9-]+)$")
]
IMAGE = "ghcr.io/whetstone-edge/trainer:0.1.0"


class ProviderSection(BaseModel):
    """Be what every provider's settings have."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    image: str = IMAGE
    """The trainer's image, where machines are started from one; see deploy/trainer."""
    worst_cost: Dollars = 0.0
    """Dollars a forgotten machine may cost: your consent to launches that only our own reaper can end."""
    least_balance: Dollars = 0.0
    """Dollars the account must hold before a launch, where its API tells."""
    egress_per_gib: Dollars = 0.0
    """Dollars for each GiB the store sends to this provider's machines; added to what an offer costs."""


class SshHost(BaseModel):
    """Describe one machine reached by SSH; memory in MiB, price in dollars an hour."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str
    port: Annotated[int, Field(ge=1, le=65535)] = 22
    user: str = "root"
    host_key: str
    """The line `ssh-keyscan` prints, without the name: `ssh-ed25519 AAAA...`. Another key is refused."""
    key_file: Path
    gpu: str = ""
    """Empty: asked from the host itself."""
    gpu_count: Annotated[int, Field(ge=0)] = 0
    gpu_memory_mib: Annotated[int, Field(ge=0)] = 0
    price: Dollars | None = None
    region: str = ""
    runtime: Literal["venv", "docker"] = "venv"
    folder: str = "whetstone"
    """Where the trainer and its data lie there, below the user's home unless absolute."""
    python: str = "python3"
    """What the environment is made with; a prepared one (with our packages) is taken as it is."""
    power_off: str = ""
    """Command that ends the machine's bill from within, such as `sudo shutdown -h now`."""


class SshSection(ProviderSection):
    """Say which hosts may be reached by SSH."""

    kind: Literal["ssh"]
    hosts: Annotated[tuple[SshHost, ...], Field(min_length=1)]


class DstackSection(ProviderSection):
    """Say where a dstack server is and what may be rented through it."""

    kind: Literal["dstack"]
    url: str
    project: str = "main"
    token: TokenPlace
    gpus: tuple[str, ...] = ()
    """GPU names, as `nvidia-smi` or dstack writes them; empty for all."""
    regions: tuple[str, ...] = ()
    backends: tuple[str, ...] = ()


class SkypilotSection(ProviderSection):
    """Say where a SkyPilot API server is and what may be rented through it."""

    kind: Literal["skypilot"]
    url: str
    token: TokenPlace | None = None
    gpus: tuple[str, ...] = ()
    clouds: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()


class PricedSpec(BaseModel):
    """Describe one thing a seller rents whose API names no price: prices as its page shows them, by hour."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    spec: str
    """The seller's own name for it."""
    gpu: str
    gpu_count: Annotated[int, Field(ge=0)] = 1
    gpu_memory_mib: Annotated[int, Field(ge=0)]
    price: Annotated[float, Field(gt=0)]
    spot_price: Annotated[float, Field(gt=0)] | None = None


class ForeignMoney(BaseModel):
    """Say what a dollar is in the seller's currency; without it nothing of the seller's can be weighed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    currency: Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")] = "CNY"
    per_dollar: Annotated[float, Field(gt=0, allow_inf_nan=False)]


class AutodlProSection(ProviderSection):
    """Rent AutoDL container instances (Pro)."""

    kind: Literal["autodl-pro"]
    token: TokenPlace
    url: str = "https://api.autodl.com"
    money: ForeignMoney
    specs: Annotated[tuple[PricedSpec, ...], Field(min_length=1)]
    image_uuid: str
    cuda: Annotated[int, Field(ge=100)] = 128
    data_centers: tuple[str, ...] = ()


class AutodlElasticSection(ProviderSection):
    """Rent AutoDL elastic deployments (ESD)."""

    kind: Literal["autodl-elastic"]
    token: TokenPlace
    url: str = "https://api.autodl.com"
    money: ForeignMoney
    specs: Annotated[tuple[PricedSpec, ...], Field(min_length=1)]
    """`spec` is AutoDL's GPU name, such as "RTX 4090"; `price` is the most that is paid."""
    image_uuid: str
    cuda: Annotated[int, Field(ge=100)] = 128
    regions: tuple[str, ...] = ()
    """Region signs, such as westDC2."""


class PaiDlcSection(ProviderSection):
    """Rent Alibaba Cloud PAI-DLC jobs."""

    kind: Literal["pai-dlc"]
    token: TokenPlace
    """JSON with `access_key_id`, `access_key_secret`, and `security_token` for a temporary pair."""
    region: str
    workspace: str
    url: str = ""
    """Empty: the region's public endpoint."""
    money: ForeignMoney
    specs: Annotated[tuple[PricedSpec, ...], Field(min_length=1)]
    resource: str = ""


class ModelArtsSection(ProviderSection):
    """Rent Huawei Cloud ModelArts training jobs."""

    kind: Literal["modelarts"]
    token: TokenPlace
    """JSON with `access_key` and `secret_key`."""
    region: str
    project_id: str
    url: str = ""
    money: ForeignMoney
    specs: Annotated[tuple[PricedSpec, ...], Field(min_length=1)]


class SimulatedSection(ProviderSection):
    """Rent on the simulated cloud, whose machines are processes here: for trying and showing."""

    kind: Literal["simulated"]
    gpu: str = "T4"
    gpu_memory_mib: Annotated[int, Field(ge=0)] = 16384
    price: Annotated[float, Field(gt=0)] = 0.53
    spot_price: Annotated[float, Field(gt=0)] | None = 0.16
    boot_seconds: Annotated[float, Field(ge=0)] = 2.0
    preempt_after_epochs: Annotated[int, Field(ge=0)] | None = None
    """Take the first spot machine away once the run told so many epochs; None takes none away."""
    seed: int = 0

    @model_validator(mode="after")
    def _spot_is_cheaper(self) -> Self:
        if self.spot_price is not None and self.spot_price > self.price:
            raise ValueError(f"spot_price {self.spot_price} is above price {self.price}")
        return self


ProviderSettings = Annotated[
    SshSection | DstackSection | SkypilotSection | AutodlProSection | AutodlElasticSection | PaiDlcSection
    | ModelArtsSection | SimulatedSection,
    Field(discriminator="kind"),
]  # fmt: skip
