"""What to simulate: a scenario under one policy."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from loadgen.run.runner import RunPlan
from shared.compute.acceptance_record import Replay
from shared.planning.problem import PackedServer, Server
from shared.planning.profile import Profile, ServingCosts
from shared.planning.windows.window import Window
from shared.scenario.scenario import DeviceSpec, PolicyConfig
from simulator.link import LinkModel
from simulator.pass_cost import PassCost, RowsCost, Scaled
from simulator.scenario import SimulatedScenario


@dataclass(frozen=True)
class Simulation:
    """A scenario under one policy.

    plan: the load, None = a user per device. profile_file: of `profile`; the scheduler reads it. settle_s, measure_s:
    without a plan only; 0 = the scenario's. trace: collect spans. replays: recordings by the name in the scenario.
    order: seed of the order of events of different processes at one instant; None = asyncio's order, for figures.
    window: makes a window controller that no policy can name.
    serving: costs of a live stack, in place of the scenario's hop; None = not measured.
    prompts: of the users of a run without a plan; () = random ones of the workload's length.
    decode: readers decode and check each message, as separate processes do; the result is the same, later.
    """

    scenario: SimulatedScenario
    policy: PolicyConfig
    seed: int
    plan: RunPlan | None = None
    profile: Profile | None = None
    profile_file: str = ""
    settle_s: float = 0.0
    measure_s: float = 0.0
    trace: bool = False
    replays: Mapping[str, Replay] = field(default_factory=dict)
    order: int | None = None
    decode: bool = False
    window: Callable[[], Window] | None = None
    prompts: Sequence[tuple[int, ...]] = ()
    serving: ServingCosts | None = None

    @cached_property
    def law(self) -> RowsCost:
        """The cost of a verifier's pass, by the profile or the scenario; with serving costs that of a stack at work."""
        if self.serving is None:
            return PassCost(self.server)
        alone = self.profile.pass_table if self.profile is not None else PassCost(self.server)
        return Scaled(alone, self.serving.pass_scale)

    @property
    def server(self) -> Server:
        """The verifier as planners know it: the law of its passes alone."""
        return PackedServer(self.profile.pass_law) if self.profile else self.scenario.core.law.server()

    @property
    def hop_ms(self) -> float:
        """One way between a process and the broker."""
        return self.serving.hop_ms if self.serving else self.scenario.core.hop.ms_at(0.0, 0.0)

    @property
    def hops(self) -> tuple[LinkModel, LinkModel]:
        """The ways to the broker of a process of the core and of a device, whose own link comes on top.

        Of a live stack half of a hop is chance: without it, users would go on in step who do not live.
        """
        hop_s, costs = self.hop_ms / 1e3, self.serving
        if costs is None:
            return LinkModel(hop_s), LinkModel(hop_s)
        core, device = (
            LinkModel(hop_s / 2, hop_s / 2, message_s=ms / 1e3) for ms in (costs.message_ms, costs.device_ms)
        )
        return core, device

    @property
    def request_ms(self) -> float:
        """Of HTTP and tokenizer for each request."""
        return self.serving.request_ms if self.serving else 0.0

    @cached_property
    def devices(self) -> tuple[DeviceSpec, ...]:
        """The devices, with the scenario's unit `verify` from the law."""
        return self.scenario.fleet(self.law.cost_ms([(1, 128)]))
