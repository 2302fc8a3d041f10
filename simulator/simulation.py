"""What to simulate: a scenario under one policy."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from loadgen.run.runner import RunPlan
from shared.compute.acceptance_record import Replay
from shared.planning.problem import PackedServer
from shared.planning.profile import Profile
from shared.planning.windows.window import Window
from shared.scenario.scenario import DeviceSpec, PolicyConfig
from simulator.pass_cost import PassCost
from simulator.scenario import SimulatedScenario


@dataclass(frozen=True)
class Simulation:
    """A scenario under one policy.

    plan: the load, None = a user per device. profile_file: of `profile`; the scheduler reads it. settle_s, measure_s:
    without a plan only; 0 = the scenario's. trace: collect spans. replays: recordings by the name in the scenario.
    order: seed of the order of events of different processes at one instant; None = asyncio's order, for figures.
    window: makes a window controller that no policy can name.
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

    @property
    def law(self) -> PassCost:
        """The cost of a verifier's pass: the profile's, or the scenario's."""
        return PassCost(PackedServer(self.profile.pass_law)) if self.profile else self.scenario.core.pass_cost

    @cached_property
    def devices(self) -> tuple[DeviceSpec, ...]:
        """The devices, with the scenario's unit `verify` from the law."""
        return self.scenario.fleet(self.law.cost_ms([(1, 128)]))
