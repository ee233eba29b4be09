"""Hold the settings of providers: `[providers.<name>]` in `whetstone.toml`, told apart by `kind`.

No secret stands here: `token` says where one is kept, as `file:PATH`, `env:NAME` or `block:NAME` (a Prefect
Secret block).
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from typing_extensions import Self

from flows.wrong_settings import worded

Dollars = Annotated[float, Field(ge=0, allow_inf_nan=False)]
TokenPlace = Annotated[
    str,
    worded(
        r"file:.+|env:[A-Za-z_][A-Za-z0-9_]*|block:[a-z0-9-]+",
        "where the token is kept: file:PATH, env:VARIABLE or block:NAME of a Prefect Secret block",
    ),
]
HostKey = Annotated[
    str,
    worded(
        r"(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)) [A-Za-z0-9+/]{40,}={0,2}( .*)?",
        "a public key as ssh-keyscan prints it, without its first word: ssh-ed25519 AAAA...",
    ),
]
ServerUrl = Annotated[str, worded(r"https?://[^\s/]\S*", "an address with its scheme: https://server:8080")]
Name = Annotated[
    str, worded(r"[a-z][a-z0-9-]{0,31}", "a name of small letters, digits and dashes, 32 at most")
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
    host_key: HostKey
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

    @field_validator("host_key")
    @classmethod
    def _key_is_whole(cls, line: str) -> str:
        kind, content = line.split()[:2]
        try:
            known = base64.b64decode(content, validate=True)
        except ValueError:
            known = b""
        # A key begins with the length of its kind's name, and that name (RFC 4253, 6.6).
        if known[4 : 4 + len(kind)] != kind.encode():
            raise ValueError("is cut short or damaged; paste what ssh-keyscan prints, without its first word")
        return line


class SshSection(ProviderSection):
    """Say which hosts may be reached by SSH."""

    kind: Literal["ssh"]
    hosts: Annotated[tuple[SshHost, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _hosts_differ(self) -> Self:
        names = [(host.host, host.port) for host in self.hosts]
        if len(set(names)) != len(names):
            raise ValueError("two hosts have the same host and port")
        return self


class DstackSection(ProviderSection):
    """Say where a dstack server is and what may be rented through it."""

    kind: Literal["dstack"]
    url: ServerUrl
    project: str = "main"
    token: TokenPlace
    gpus: tuple[str, ...] = ()
    """GPU names, as `nvidia-smi` or dstack writes them; empty for all."""
    regions: tuple[str, ...] = ()
    backends: tuple[str, ...] = ()
    least_utilisation: Annotated[int, Field(ge=0, le=100)] = 5
    """Percent of a GPU below which dstack itself ends a run, after `idle_minutes` of it; 0 for never."""
    idle_minutes: Annotated[int, Field(ge=5, le=60)] = 60
    outlives_us: bool | None = None
    """Whether the server goes on when this host is gone; None: when its URL is not this host's loopback."""


class SkypilotSection(ProviderSection):
    """Say where a SkyPilot API server is and what may be rented through it."""

    kind: Literal["skypilot"]
    url: ServerUrl
    token: TokenPlace | None = None
    """A service account's token (`sky_...`), or `user:password`; None for a server that asks for none."""
    gpus: tuple[str, ...] = ()
    clouds: tuple[str, ...] = ()
    """Such as lambda, runpod, aws; empty for all the server has an account with."""
    regions: tuple[str, ...] = ()
    account_on_machines: bool = False
    """Your word that you know: SkyPilot gives each machine rights of its cloud account, and nothing can be
    launched through it without.
    """
    idle_minutes: Annotated[int, Field(ge=1, le=60)] = 2
    """Minutes from the end of the trainer until the machine ends itself."""


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

    currency: Annotated[str, worded(r"[A-Z]{3}", "a currency by its three letters, such as CNY")] = "CNY"
    per_dollar: Annotated[float, Field(gt=0, allow_inf_nan=False)]


class AutodlProSection(ProviderSection):
    """Rent AutoDL container instances (Pro)."""

    kind: Literal["autodl-pro"]
    token: TokenPlace
    url: ServerUrl = "https://api.autodl.com"
    money: ForeignMoney
    specs: Annotated[tuple[PricedSpec, ...], Field(min_length=1)]
    image_uuid: str
    cuda: Annotated[int, Field(ge=100)] = 128
    data_centers: tuple[str, ...] = ()


class AutodlElasticSection(ProviderSection):
    """Rent AutoDL elastic deployments (ESD)."""

    kind: Literal["autodl-elastic"]
    token: TokenPlace
    url: ServerUrl = "https://api.autodl.com"
    money: ForeignMoney
    specs: Annotated[tuple[PricedSpec, ...], Field(min_length=1)]
    """`spec` is AutoDL's GPU name, such as "RTX 4090"; `price` is the most that is paid."""
    image_uuid: str
    cuda: Annotated[int, Field(ge=100)] = 128
    cuda_to: int = 0
    """The newest CUDA of machines that are taken, such as 130; below `cuda`, only that one is."""
    regions: tuple[str, ...] = ()
    """Region signs, such as westDC2; empty for all of AutoDL's documentation, one question each."""


class PaiDlcSection(ProviderSection):
    """Rent Alibaba Cloud PAI-DLC jobs."""

    kind: Literal["pai-dlc"]
    token: TokenPlace
    """JSON with `access_key_id` and `access_key_secret`, for a temporary pair also `security_token` and
    `expiration`."""
    region: str
    workspace: str
    url: str = ""
    """Empty: the region's public endpoint."""
    money: ForeignMoney
    specs: Annotated[tuple[PricedSpec, ...], Field(min_length=1)]
    """`spec` is an ECS instance type, such as ecs.gn7i-c8g1.2xlarge; its spot price is asked for."""
    resource: str = ""
    """A resource quota's id: jobs take their CPU, memory and GPUs out of it instead of renting machines."""


class ModelArtsSection(ProviderSection):
    """Rent Huawei Cloud ModelArts training jobs."""

    kind: Literal["modelarts"]
    token: TokenPlace
    """JSON with `access_key` and `secret_key`, and `security_token` and `expiration` for a temporary pair."""
    region: str
    project_id: str
    workspace: str = "0"
    """Its id; "0" is the default workspace."""
    url: str = ""
    """Empty: the region's public endpoint."""
    money: ForeignMoney
    specs: Annotated[tuple[PricedSpec, ...], Field(min_length=1)]
    """`spec` is a flavour's id; `image` above has to be one in SWR, as organisation/name:tag."""


class SimulatedRegion(BaseModel):
    """Price a region of the simulated cloud, in dollars an hour; without a spot price it sells none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    price: Annotated[float, Field(gt=0)]
    spot_price: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _spot_is_cheaper(self) -> Self:
        if self.spot_price is not None and self.spot_price > self.price:
            raise ValueError(f"spot_price {self.spot_price} is above price {self.price}")
        return self


class SimulatedSection(ProviderSection):
    """Rent on the simulated cloud, whose machines are processes here: for trying and showing.

    It sells this computer's processor, at the prices of a small GPU.
    """

    kind: Literal["simulated"]
    regions: Annotated[tuple[SimulatedRegion, ...], Field(min_length=1)] = (
        SimulatedRegion(name="east", price=0.53, spot_price=0.16),
        SimulatedRegion(name="west", price=0.56, spot_price=0.21),
    )
    boot_seconds: Annotated[float, Field(ge=0)] = 2.0
    preempt_after_epochs: Annotated[float, Field(ge=0)] | None = None
    """Take the first spot machine away once so many epochs of its run are uploaded, 9.5 for the middle of the
    tenth; None takes none away."""
    notice_seconds: Annotated[float, Field(ge=0)] = 0.0
    """Between SIGTERM and the end of a machine that is taken away; 0 gives no notice."""
    spot_back_seconds: Annotated[float, Field(ge=0)] = 600.0
    """How long a region has no spot machines after one was taken away there."""


ProviderSettings = Annotated[
    SshSection | DstackSection | SkypilotSection | AutodlProSection | AutodlElasticSection | PaiDlcSection
    | ModelArtsSection | SimulatedSection,
    Field(discriminator="kind"),
]  # fmt: skip
