"""A scenario: the schema of its file, and its devices."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Self, TypeVar

import numpy as np
import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    model_validator,
)

from shared.cells.cell import Cell
from shared.planning.bandwidth_rules import BY_POLICY, NO_SHARES, Rule
from shared.planning.policies import POLICY_NAMES
from shared.planning.windows import SIMULATED_NAMES, WINDOW_NAMES
from shared.scenario.cell_spec import CellSpec, bands_text, problems
from shared.scenario.quantity import Bandwidth, Efficiency, Quantity, Seconds, Share, Time

NONE: Final = Quantity(0.0, 0.0, "ms")
LOSSLESS: Final = Quantity(0.0, 0.0)
MESSAGES: Final = {  # of pydantic's errors, where its own would not help
    "extra_forbidden": "no such field",
    "missing": "it is missing",
    "tuple_type": "give a list, like [a, b]",
    "model_type": "give fields, like {name: value}",
    "model_attributes_type": "give fields, like {name: value}",
    "dict_type": "give fields, like {name: value}",
}
# Fields of a simulation alone: without them a live run would be another one.
SIMULATED: Final = ("load", "faults", "feed")


class ScenarioError(ValueError):
    """A scenario file that cannot be read; the text names the file and the field."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class LinkSpec(_Strict):
    """One direction of a link. jitter: mean of an additional, exponentially distributed delay of each message.

    bandwidth: None = unlimited. loss: share of messages that are lost and sent again after TCP's time-out.
    """

    delay: Time = NONE
    jitter: Time = NONE
    bandwidth: Bandwidth | None = None
    loss: Share = LOSSLESS


def _one_cell(cell: Any) -> Any:
    if isinstance(cell, list | tuple):
        raise ValueError("a device is in one cell; split the group, one for each cell")
    return cell


class Devices(_Strict):
    """A group of devices, drawn from the same ranges. draft: time per drafted token.

    Drafts are right with probability alpha at each position, or where a recording of `outrider record` says so: its
    path, from the scenario's folder. cell: the id of theirs; "" = none. eta: bit/s/Hz, or a factor where the cell's
    bandwidth is in kbit. share: of the band, of each device, under sharing `shares`; those without one divide what is
    left. payload_bits_per_token: what drafts carry beside ids.
    """

    count: Annotated[int, Field(ge=1, le=100_000)] = 1
    alpha: Share | None = None
    recording: Annotated[str, PlainSerializer(lambda path: Path(path).name)] = ""
    draft: Time
    link: LinkSpec = LinkSpec()
    cell: Annotated[str, BeforeValidator(_one_cell)] = ""
    eta: Efficiency | None = None
    share: Annotated[float, Field(ge=0, le=1)] | None = None
    payload_bits_per_token: Annotated[int, Field(ge=0, le=10_000_000)] = 0

    @property
    def has_bandwidth(self) -> bool:
        """Whether each device has a rate of its own."""
        return self.link.bandwidth is not None

    @model_validator(mode="after")
    def _check_acceptance(self) -> Self:
        if (self.alpha is None) == (not self.recording):
            raise ValueError("alpha or recording: give one of them")
        return self


class ScenarioWorkload(_Strict):
    """Every device has one user, who sends the next request after each answer.

    prompt, answer: tokens. think: pause between an answer and the next request, drawn each time. stay: time after which
    a user leaves, even during an answer. away: time until the next user comes. Without them no user leaves.
    """

    prompt: Annotated[int, Field(ge=1, le=100_000)] = 128
    answer: Annotated[int, Field(ge=2, le=100_000)] = 384
    think: Seconds | None = None
    stay: Seconds | None = None
    away: Seconds | None = None

    @model_validator(mode="after")
    def _check_both(self) -> Self:
        if (self.stay is None) != (self.away is None):
            raise ValueError("stay and away go together")
        return self


def _check_policy(policy: str) -> str:
    if policy not in POLICY_NAMES:
        raise ValueError(f"no such policy; known are {', '.join(POLICY_NAMES)}")
    return policy


def _check_window(window: str) -> str:
    if window and window not in (*WINDOW_NAMES, *SIMULATED_NAMES):
        raise ValueError(
            f"no such window controller; known are {', '.join((*WINDOW_NAMES, *SIMULATED_NAMES))}"
        )
    return window


class PolicyConfig(_Strict):
    """A policy to compare.

    k: draft length of fixed-k and cyclic-k, or a window controller's first; batches: N of cyclic-k. window: controller
    that sets draft lengths in place of the policy. bandwidth: how cells of sharing `shares` are shared; none = by
    the devices' `share`.
    """

    policy: Annotated[str, AfterValidator(_check_policy)]
    k: Annotated[int, Field(ge=0, le=64)] = 0
    batches: Annotated[int, Field(ge=1, le=16)] = 2
    window: Annotated[str, AfterValidator(_check_window)] = ""
    bandwidth: Rule = BY_POLICY

    def __str__(self) -> str:
        bandwidth = self.bandwidth if self.bandwidth != BY_POLICY else ""
        words = [self.policy, f"k={self.k}" if self.k else "", self.window, bandwidth]
        return " ".join(word for word in words if word)


def _parse_policy(value: Any) -> Any:
    return {"policy": value} if isinstance(value, str) else value


class Scenario(_Strict):
    """A scenario. settle: cut at the beginning of each run; measure: counted after it.

    core: of `outrider simulate`, which models it (simulator/scenario.py); a live run has a core of its own.
    """

    about: str
    seed: Annotated[int, Field(ge=1)] = 1
    devices: Annotated[tuple[Devices, ...], Field(min_length=1)]
    cells: tuple[CellSpec, ...] = ()
    workload: ScenarioWorkload = ScenarioWorkload()
    policies: Annotated[
        tuple[Annotated[PolicyConfig, BeforeValidator(_parse_policy)], ...], Field(min_length=1)
    ]
    settle: Seconds = Quantity(2.0, 2.0, "s")
    measure: Seconds = Quantity(10.0, 10.0, "s")
    core: Any = None

    @model_validator(mode="after")
    def _check_cells(self) -> Self:
        found = list(problems(self.cells, self.devices))
        found += [
            f"policies.{n}.bandwidth: no cell has sharing shares, so there is nothing to share by {policy.bandwidth}"
            for n, policy in enumerate(self.policies)
            if policy.bandwidth not in (BY_POLICY, NO_SHARES) and not bands_text(self.cells)
        ]
        if found:
            raise ValueError("; ".join(found))
        return self

    def cells_of(self, fleet: Sequence["DeviceSpec"]) -> dict[str, Cell]:
        """The cells by id, without members yet. fleet: its devices, all of a cell or none. Raises ScenarioError.

        A cell is one object that its devices share, so that those of one cell have to be in one process.
        """
        here = Counter(device.cell for device in fleet if device.cell)
        for spec in self.cells:
            count = sum(group.count for group in self.devices if group.cell == spec.id)
            if here[spec.id] not in (0, count):
                raise ScenarioError(
                    f"cell {spec.id}: {here[spec.id]} of its {count} devices are in this process; "
                    "emulate all devices of a cell in one process"
                )
        return {spec.id: spec.cell(fleet) for spec in self.cells if here[spec.id]}

    def fleet(self, verify_ms: float) -> tuple["DeviceSpec", ...]:
        """The devices, drawn from the ranges with the seed. verify_ms: duration of a pass of one row with one token."""
        rng = np.random.default_rng(self.seed)
        links = np.random.default_rng([self.seed, 1])  # separate, so that older scenarios keep their devices
        cells = np.random.default_rng([self.seed, 2])
        fleet: list[DeviceSpec] = []
        for group in self.devices:
            for _ in range(group.count):
                alpha, draft, delay, jitter = rng.random(4).tolist()
                width, loss = links.random(2).tolist()
                device = DeviceSpec(
                    name=f"device-{len(fleet)}",
                    alpha=group.alpha.at(alpha) if group.alpha else 0.0,
                    draft_ms=group.draft.ms_at(draft, verify_ms),
                    delay_ms=group.link.delay.ms_at(delay, verify_ms),
                    jitter_ms=group.link.jitter.ms_at(jitter, verify_ms),
                    seed=int(rng.integers(1, 1 << 31)),
                    kbit_s=group.link.bandwidth.at(width) if group.link.bandwidth else 0.0,
                    loss=group.link.loss.at(loss),
                    recording=group.recording,
                    cell=group.cell,
                    eta=group.eta.at(cells.random()) if group.eta else 1.0,
                    share=group.share,
                    payload_bits_per_token=group.payload_bits_per_token,
                )
                fleet.append(device)
        return tuple(fleet)


S = TypeVar("S", bound=Scenario)


@dataclass(frozen=True, slots=True)
class DeviceSpec:
    """A device of a scenario. delay_ms, jitter_ms: of one direction, as in LinkSpec. kbit_s: 0 = unlimited.

    recording: replaces alpha; "" = none. cell, eta, share, payload_bits_per_token: as in Devices.
    """

    name: str
    alpha: float
    draft_ms: float
    delay_ms: float
    jitter_ms: float
    seed: int
    kbit_s: float = 0.0
    loss: float = 0.0
    recording: str = ""
    cell: str = ""
    eta: float = 1.0
    share: float | None = None
    payload_bits_per_token: int = 0


def read_scenario(path: Path) -> Scenario:
    """Read a scenario's file. Raises ScenarioError, OSError."""
    data = read_fields(path)
    for section in SIMULATED:
        if data.get(section) is not None:
            raise ScenarioError(
                f"{path}: {section}: only `outrider simulate` knows {section}; leave it out here"
            )
    scenario = checked(Scenario, data, path)
    if any(group.recording for group in scenario.devices):
        raise ScenarioError(
            f"{path}: devices: recording: only `outrider simulate` replays one; give alpha here"
        )
    for policy in scenario.policies:
        if policy.window in SIMULATED_NAMES:
            raise ScenarioError(f"{path}: policies: window: only `outrider simulate` knows {policy.window}")
    return scenario


def read_fields(path: Path) -> dict[str, Any]:
    """The fields of a scenario's file, not checked; recordings as absolute paths. Raises ScenarioError, OSError."""
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise ScenarioError(f"{path}: not UTF-8: {error}") from None
    except yaml.YAMLError as error:
        raise ScenarioError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        kind = "empty" if data is None else f"a {type(data).__name__}"
        raise ScenarioError(f"{path}: {kind}; a scenario has fields, such as about, devices and policies")
    for group in data.get("devices") or ():
        if isinstance(group, dict) and isinstance(group.get("recording"), str) and group["recording"]:
            group["recording"] = str((path.parent / group["recording"]).resolve())
    return data


def checked(kind: type[S], data: Mapping[str, Any], source: object) -> S:
    """A scenario of this kind with these fields. source: where they come from. Raises ScenarioError."""
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        problems = "; ".join(map(_problem, error.errors(include_url=False)))
        raise ScenarioError(f"{source}: {problems}") from None


def _problem(error: Any) -> str:
    """One error of a field: its place, without <tags> of a choice between kinds, and what is wrong."""
    place = ".".join(str(part) for part in error["loc"] if not str(part).startswith("<"))
    message = MESSAGES.get(error["type"]) or str(error["msg"]).removeprefix("Value error, ")
    return f"{place}: {message}" if place else message
