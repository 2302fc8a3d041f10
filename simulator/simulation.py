"""What to simulate: a scenario under one policy."""

from dataclasses import dataclass
from functools import cached_property

from loadgen.run.runner import RunPlan
from shared.planning.cost import CostLaw
from shared.planning.profile import Profile
from shared.scenario.scenario import DeviceSpec, PolicyConfig
from simulator.scenario import SimulatedScenario


@dataclass(frozen=True)
class Simulation:
    """A scenario under one policy.

    plan: the load, None = a user per device. profile_file: of `profile`; the scheduler reads it. settle_s, measure_s:
    without a plan only; 0 = the scenario's. trace: collect spans. decode: readers decode and check each message, as
    separate processes do; the result is the same, later.
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
    decode: bool = False

    @property
    def law(self) -> CostLaw:
        """The law of a verifier's pass: the profile's, or the scenario's."""
        return self.profile.pass_law if self.profile else self.scenario.core.server.pass_law

    @cached_property
    def devices(self) -> tuple[DeviceSpec, ...]:
        """The devices, with the scenario's unit `verify` from the law."""
        return self.scenario.fleet(self.law.cost_ms([(1, 128)]))
