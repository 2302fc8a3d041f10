"""A simulation's scenario: the devices, links and policies of shared/scenario, with a core, a load and faults.

The modelled core:
    core: {verifiers: 2, hop: 0.25 ms, server: {law: packed, beta_ms: 85, per_token_ms: 1.85, …}}
A load in loadgen's own words (`loadgen run --help`); without it each device has one user, as `workload` says:
    load: {rate: 4, duration: 60, prompt-tokens: 64..512, answer-tokens: "128~0.5"}
Faults, at seconds after the first request is due:
    faults:
      - {at: 10 s, kill: verifier-0, back: 2 s}
      - {at: 20 s, broker_away: 3 s}
      - {at: 30 s, delay: 100 ms, devices: 0}
"""

from functools import partial
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from shared.compute.modelled_drafter import FEED_SHARE
from shared.planning.server_laws import PackedLaw, ServerLaw
from shared.scenario.quantity import Quantity, Seconds, Share, Time
from shared.scenario.scenario import Scenario, checked, read_fields
from simulator.pass_cost import PassCost
from simulator.stages.stages_spec import StagesSpec


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _one_time(value: Quantity) -> Quantity:
    if value.unit == "verify" or value.low != value.high:
        raise ValueError(f"one time in ms or s, not {value}")
    return value


class FusedDrafts(_Strict):
    """What the core itself drafts, in place of lookups. match: share of rows for which it has a draft.

    alpha: the probability that a token of it is right.
    """

    alpha: Annotated[float, Field(ge=0, le=1)]
    match: Annotated[float, Field(ge=0, le=1)]


class Core(_Strict):
    """The core and its modelled verifiers.

    server: the law of a verifier's pass, in the words of `outrider plan`; a profile replaces it. hop: one way between
    any process and the broker; a device's own link comes on top. context: tokens of prompt and answer that the model
    takes. kv_tokens: of each verifier. max_rows, prefill_tokens: limits of a batch. fused: the core's own drafts, for
    window controllers that ask for them; without it there are none, since modelled text never repeats. stages: of each
    verifier, whose layers are split over them; in place of `server`. move_timeout: how long the scheduler waits for a
    draft at most.
    """

    verifiers: Annotated[int, Field(ge=1, le=1000)] = 1
    gateways: Annotated[int, Field(ge=1, le=100)] = 1
    server: ServerLaw = PackedLaw(
        law="packed",
        beta_ms=30.0,
        per_token_ms=1.5,
        per_context_ms=0.003,
        memory_bytes=8e9,
        kv_bytes_per_token=12288.0,
    )
    hop: Annotated[Time, AfterValidator(_one_time)] = Quantity(0.25, 0.25, "ms")
    context: Annotated[int, Field(ge=16, le=1 << 24)] = 8192
    kv_tokens: Annotated[int, Field(ge=256, le=1 << 30)] = 1 << 20
    max_rows: Annotated[int, Field(ge=1, le=512)] = 64
    prefill_tokens: Annotated[int, Field(ge=16, le=65536)] = 512
    fused: FusedDrafts | None = None
    stages: StagesSpec | None = None
    move_timeout: Annotated[Time, AfterValidator(_one_time)] = Quantity(2.0, 2.0, "s")

    @model_validator(mode="after")
    def _check_laws(self) -> Self:
        if self.stages is not None and "server" in self.model_fields_set:
            raise ValueError("server, stages: give one of them; stages have laws of their own")
        return self

    @property
    def law(self) -> ServerLaw:
        """Of a pass, alone."""
        return self.stages.whole if self.stages is not None else self.server

    @property
    def pipeline(self) -> StagesSpec | None:
        """The stages where they are processes of their own."""
        return self.stages if self.stages is not None and self.stages.split else None

    @property
    def pass_cost(self) -> PassCost:
        """The cost of a pass by the law of server or stages."""
        return PassCost(self.law.server())


class Kill(_Strict):
    """A process dies, with all that it holds. back: seconds until it starts again; None = never."""

    at: Seconds
    kill: str
    back: Seconds | None = None


class Away(_Strict):
    """The broker cannot be reached for some time. wiped: it comes back without its data."""

    at: Seconds
    broker_away: Seconds
    wiped: bool = False


class Delay(_Strict):
    """The links' delay, each way, is another one from then on. devices: number of their group; None = all."""

    at: Seconds
    delay: Annotated[Time, AfterValidator(_one_time)]
    devices: Annotated[int, Field(ge=0)] | None = None


def _kind(fault: Any) -> str | None:
    """The tag of a fault, by the field that only one kind has."""
    has = fault.__contains__ if isinstance(fault, dict) else partial(hasattr, fault)
    return next((f"<{name}>" for name in ("kill", "broker_away", "delay") if has(name)), None)


Fault = Annotated[
    Annotated[Kill, Tag("<kill>")] | Annotated[Away, Tag("<broker_away>")] | Annotated[Delay, Tag("<delay>")],
    Discriminator(
        _kind,
        custom_error_type="fault",
        custom_error_message="give kill, broker_away or delay, like {at: 10 s, kill: verifier-0, back: 2 s}",
    ),
]


class SimulatedScenario(Scenario):
    """A scenario with what only a simulation needs.

    load: options of `loadgen run` by name. feed: a device's time for each further token of a decode, as a share of the
    time for the first: of a prompt, or of the two tokens that follow a draft of which all was accepted.
    """

    core: Core = Core()
    load: dict[str, Any] | None = None
    feed: Share = Quantity(FEED_SHARE, FEED_SHARE)
    faults: tuple[Fault, ...] = ()

    def processes(self) -> list[str]:
        """Names of the core's processes and of the devices."""
        named = ["scheduler"]
        named += [f"gateway-{n}" for n in range(self.core.gateways)]
        verifiers = [f"verifier-{n}" for n in range(self.core.verifiers)]
        stages = range(1, self.core.pipeline.count + 1) if self.core.pipeline else ()
        named += [*verifiers, *(stage_name(name, rank) for name in verifiers for rank in stages)]
        return named + self.device_names()

    def device_names(self) -> list[str]:
        """Names of the devices, as `fleet` gives them."""
        return [f"device-{n}" for n in range(sum(group.count for group in self.devices))]

    def devices_of(self, group: int | None) -> list[str]:
        """Names of the devices of one group; None = of all."""
        names = self.device_names()
        if group is None:
            return names
        first = sum(other.count for other in self.devices[:group])
        return names[first : first + self.devices[group].count]

    def _names(self) -> str:
        """The names of the processes in short."""
        roles = (
            ("gateway", self.core.gateways),
            ("verifier", self.core.verifiers),
            ("device", len(self.device_names())),
        )
        return ", ".join(["scheduler", *(f"{role}-{n}" for role, count in roles for n in _ends(count))])

    @model_validator(mode="after")
    def _check_faults(self) -> Self:
        known = set(self.processes())
        for n, fault in enumerate(self.faults):
            if isinstance(fault, Kill) and fault.kill not in known:
                raise ValueError(f"faults.{n}.kill: no process {fault.kill!r}; there are {self._names()}")
            if isinstance(fault, Delay) and (fault.devices or 0) >= len(self.devices):
                last = len(self.devices) - 1
                raise ValueError(f"faults.{n}.devices: no group {fault.devices}; there are 0 to {last}")
        return self


def stage_name(verifier: str, rank: int) -> str:
    """The process of a verifier's stage."""
    return f"{verifier}-stage-{rank}"


def _ends(count: int) -> list[str]:
    """0, or 0 … n as one word."""
    return ["0"] if count == 1 else [f"0 … {count - 1}"]


def read_simulated(path: Path) -> SimulatedScenario:
    """Read a simulation's scenario. Raises ScenarioError, OSError."""
    return checked(SimulatedScenario, read_fields(path), path)
