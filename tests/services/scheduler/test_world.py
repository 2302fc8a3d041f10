"""Under lost, repeated and late messages and crashes, no session is lost or assumed longer than committed."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.planning.policies import POLICY_NAMES
from tests.services.scheduler.world import World


def finish(world: World, patience: float) -> None:
    world.run(until=world.calm_at + patience)
    unfinished = {name: log for name, log in world.logs.items() if not log.finish}
    phases = {name: world.core.sessions.get(name) for name in unfinished}
    assert not unfinished, f"never finished: {phases}"
    for name, log in world.logs.items():
        assert (name, log.finish, log.committed) == (name, "length", log.submit.max_tokens)
    world.run_on(until=world.now + 150.0)
    assert world.left_over() == {}


@pytest.mark.parametrize("policy", POLICY_NAMES)
@pytest.mark.parametrize("devices", [0, 2])
def test_a_quiet_world(policy: str, devices: int) -> None:
    world = World(1, policy, sessions=8, devices=devices, verifiers=1, trouble=0.0, calm_at=4.0)
    finish(world, patience=60.0)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 1 << 32),
    policy=st.sampled_from(POLICY_NAMES),
    sessions=st.integers(1, 9),
    devices=st.integers(0, 3),
    verifiers=st.integers(1, 2),
    trouble=st.sampled_from([0.3, 1.0, 2.0]),
)
def test_a_world_of_trouble(
    seed: int, policy: str, sessions: int, devices: int, verifiers: int, trouble: float
) -> None:
    world = World(seed, policy, sessions, devices, verifiers, trouble, calm_at=20.0)
    finish(world, patience=300.0)
