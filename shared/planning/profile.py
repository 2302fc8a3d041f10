"""The profile: cost laws and speeds that `outrider calibrate` measured here, as one JSON file that planners read."""

from pathlib import Path
from statistics import median
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, ValidationError, model_validator

from shared.planning.cost import Packed
from shared.planning.pass_table import PassTable
from shared.planning.server_laws import Milliseconds, PackedLaw, PaddedLaw, Positive, Size, StrictModel

SCHEMA: Final = 1
Share = Annotated[float, Field(ge=0, le=1)]


class ProfileError(ValueError):
    """The profile is missing or not valid; the text names the file and the field."""


class Hardware(StrictModel):
    """The machine of the measurement. cores: those that the process may use."""

    cpu: str
    cores: Size
    memory_gb: Positive
    gpu: str | None
    system: str


class LawErrors(StrictModel):
    """Errors of a law on passes that it was not fitted on: (law − measured) / measured.

    points: passes in the fit. held_out: passes outside it. mean: mean absolute error. bias: mean signed error. worst:
    the largest error, signed. single_token, few_tokens: mean signed errors for passes of one new token in all, and of
    two or three, which the fit leaves out; None if none was measured.
    """

    points: Size
    held_out: Size
    mean: Annotated[float, Field(ge=0)]
    bias: float
    worst: float
    single_token: float | None
    few_tokens: float | None


class Errors(StrictModel):
    """Errors of both laws."""

    packed: LawErrors
    padded: LawErrors


class PassBeta(StrictModel):
    """beta_ms of both laws for a pass by itself, without the broker's share."""

    packed: Milliseconds
    padded: Milliseconds


class DraftCosts(StrictModel):
    """Speed of the draft model.

    ms_per_token: of one session alone. ms_by_sessions: time of one decode by the number of sessions in it. context:
    tokens that each session holds.
    """

    ms_per_token: Positive
    ms_by_sessions: Annotated[dict[int, Positive], Field(min_length=1)]
    context: Annotated[int, Field(ge=0)]
    threads: Size


class AtUsers(StrictModel):
    """A running stack with some number of users: medians over its steady batches.

    cycle_ms: from the end of one verification to the end of the next. batch_ms: cycle_ms minus the pass by the fitted
    law. gap_ms: cycle_ms minus the pass as measured there. pass_over_fit: the measured pass divided by the law.
    """

    users: Size
    batches: Size
    cycle_ms: Positive
    batch_ms: float
    gap_ms: float
    pass_over_fit: Positive


class BrokerCosts(StrictModel):
    """The time of a batch outside its pass: messages, scheduling, commit. batch_ms: the median over `users`."""

    batch_ms: Milliseconds
    users: Annotated[tuple[AtUsers, ...], Field(min_length=1)]


class ServingCosts(StrictModel):
    """What a simulation needs beyond passes by themselves, fitted to a live stack by `outrider validate`.

    pass_scale: a pass while processes of the stack share its cores / the same pass alone. hop_ms: mean of one way
    between a process and the broker. message_ms, device_ms: of a process's own code for each message that it reads, in
    the core and on a device, whose timers are part of it. request_ms: of HTTP and tokenizer for each request.
    probe_ms: a calibration's fixed batch, from pass to pass, when this was fitted: how fast the machine was. fitted_on:
    runs, by scenario and policy.
    """

    pass_scale: Positive
    hop_ms: Milliseconds
    message_ms: Milliseconds
    device_ms: Milliseconds
    request_ms: Milliseconds
    probe_ms: Positive
    fitted_on: Annotated[tuple[str, ...], Field(min_length=1)]

    def at(self, probe_ms: float) -> "ServingCosts":
        """The costs when the machine is so fast that the calibration's batch takes probe_ms."""
        scale = self.pass_scale * probe_ms / self.probe_ms
        return self.model_copy(update={"pass_scale": scale, "probe_ms": probe_ms})


class Profile(StrictModel):
    """The file. `server` and `padded` are the laws of the running system: their beta_ms includes broker.batch_ms.

    threads: of the verifier. quick: few shapes, few repeats. alpha: by temperature. busy_before: share of the cores
    that other processes used. passes: median ms of each shape, by "rows x new tokens a row @ cached tokens a row".
    """

    schema_: Literal[1] = Field(alias="schema")
    date: str
    hardware: Hardware
    busy_before: Annotated[float, Field(ge=0)] = 0.0
    versions: dict[str, str]
    model: str
    device: str = "cpu"
    dtype: str
    threads: Size
    quick: bool
    server: PackedLaw
    padded: PaddedLaw
    pass_beta_ms: PassBeta
    errors: Errors
    draft: DraftCosts
    broker: BrokerCosts | None = None
    alpha: dict[float, Share] | None = None
    passes: dict[str, Positive] = Field(default_factory=dict)
    serving: ServingCosts | None = None

    @model_validator(mode="after")
    def _parts_add_up(self) -> Self:
        broker = self.broker.batch_ms if self.broker else 0.0
        for name, law, alone in (
            ("server", self.server, self.pass_beta_ms.packed),
            ("padded", self.padded, self.pass_beta_ms.padded),
        ):
            if abs(law.beta_ms - alone - broker) > 1e-6 * (1 + law.beta_ms):
                raise ValueError(
                    f"{name}.beta_ms: {law.beta_ms:g} is not pass_beta_ms {alone:g} + broker.batch_ms {broker:g}"
                )
        return self

    @property
    def pass_law(self) -> Packed:
        """The packed law of a pass by itself."""
        law = self.server
        return Packed(self.pass_beta_ms.packed, law.per_token_ms, law.per_context_ms)

    @property
    def pass_table(self) -> PassTable:
        """Passes by themselves as they were measured. Raises ValueError when none was."""
        return PassTable.of(self.passes, self.pass_law)

    @property
    def hop_ms(self) -> float | None:
        """Milliseconds from one pass to the next when the next batch is waiting; None if not measured."""
        return max(0.0, median(at.gap_ms for at in self.broker.users)) if self.broker else None

    def with_broker(self, broker: BrokerCosts) -> "Profile":
        """The profile with this broker part, which replaces the old one in both laws too."""
        alone = self.pass_beta_ms
        server = self.server.model_copy(update={"beta_ms": alone.packed + broker.batch_ms})
        padded = self.padded.model_copy(update={"beta_ms": alone.padded + broker.batch_ms})
        return self.model_copy(update={"server": server, "padded": padded, "broker": broker})


def read_profile(path: Path) -> Profile:
    """Read a profile. Raises ProfileError."""
    try:
        return Profile.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ProfileError(f"{path}: {_reason(error)}; `outrider calibrate` writes one") from None
    except ValidationError as error:
        problems = "; ".join(_error_text(part) for part in error.errors(include_url=False))
        raise ProfileError(f"{path}: {problems}") from None


def write_profile(path: Path, profile: Profile) -> None:
    """Write a profile atomically: a reader sees the old file or the new one. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    partial.write_text(profile.model_dump_json(by_alias=True, indent=2) + "\n", encoding="utf-8")
    partial.replace(path)


def _reason(error: Exception) -> str:
    return "no such file" if isinstance(error, FileNotFoundError) else str(error)


def _error_text(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"])
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["loc"] == ("schema",):
        message += f"; this version reads schema {SCHEMA}, `outrider calibrate` writes it"
    return f"{where}: {message}" if where else message
