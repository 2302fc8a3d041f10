"""One integer chooses a whole scenario: topology, policy, users, links, faults, clocks, and the order of events."""

import random
from typing import Final

from shared.planning.policies import POLICY_NAMES
from simulator.faults import AT_BROKER, AT_MESSAGE, Fault
from tests.harness.scenario import SAFE_GATEWAY_CUT_S, Clock, Cut, Death, Full, Pause, Scenario, Stop, Switch

SMALL_SHARE: Final = 0.7  # of the seeds
EVENTS_S: Final = 4.0  # deaths, cuts and switches begin within this time
# Drawn last, so that a seed's other draws are what they were without window controllers.
WINDOWS: Final = ("", "", "", "", "threshold", "fused", "fused", "ema", "goodput")
FULL_SHARE: Final = 0.1  # of the seeds
SHORT_CUT_S: Final = 4.0  # clearly less than the grace
ROOM: Final = 32  # KV tokens that a session needs beside its own


def scenario_of(seed: int, small: bool = False) -> Scenario:
    """The scenario of a seed. small: few users, tokens and faults, as for 70 % of the seeds."""
    rng = random.Random(f"fault seed {seed}")
    small = rng.random() < SMALL_SHARE or small
    tokens = rng.randrange(2, 16) if small else rng.randrange(5, 60)
    prompt = rng.choice([1, 2, 24, 24, 100]) if small else rng.choice([1, 2, 24, 100, 600])
    schedulers, gateways = rng.choice([1, 1, 2]), rng.choice([1, 1, 2])
    verifiers, devices = rng.choice([1, 1, 2, 3]), rng.choice([0, 1, 1, 2, 2, 3, 4])
    plain = Scenario(
        policy=rng.choice(POLICY_NAMES),
        k=rng.choice([0, 1, 2, 4, 4, 8]),
        users=rng.randrange(1, 4) if small else rng.randrange(1, 11),
        tokens=tokens,
        prompt=prompt,
        schedulers=schedulers,
        gateways=gateways,
        verifiers=verifiers,
        devices=devices,
        sharing=rng.random() < 0.5,
        alpha=rng.choice([0.0, 0.7, 0.7, 1.0]),
        stop_every=rng.choice([0, 0, 20]),
        kv_tokens=rng.choice([kv for kv in (96, 256, 4096, 4096) if kv >= prompt + tokens + ROOM]),
        draft_sessions=rng.choice([8, 8, 2, 1]),
        draft_ms=rng.choice([1.0, 8.0, 8.0, 40.0]),
        max_rows=rng.choice([64, 64, 2, 1]),
        prefill_tokens=rng.choice([512, 64, 16]),
        stream_limit=rng.choice([4096, 4096, 4096, 16, 4]),
        logprobs=rng.random() < 0.2,
        trace=rng.random() < 0.15,
        spread_s=rng.choice([0.0, 0.05, 1.0, 4.0]),
        wishes=rng.choice([0.0, 0.0, 0.5]),
        leavers=rng.choice([0.0, 0.0, 0.5]),
        latency_s=rng.choice([0.0, 0.0005, 0.005, 0.03]),
        device_delay_s=rng.choice([0.0, 0.0, 0.02, 0.1]),
        loss=rng.choice([0.0, 0.0, 0.02]),
        duplicates=rng.choice([0.0, 0.0, 0.05, 0.3]),
        seed=seed + 1,
        order=seed if rng.random() < 0.85 else None,
    )
    return _disturbed(plain, rng, small).with_(window=rng.choice(WINDOWS))


def _disturbed(plain: Scenario, rng: random.Random, small: bool) -> Scenario:
    names = plain.names()
    faults = rng.choice([0, 1, 2, 4]) if small else rng.choice([0, 2, 4, 8, 16])
    clocks = [Clock(name, round(rng.uniform(0, 1e5), 3), round(rng.uniform(0.97, 1.03), 4)) for name in names]
    ordered = plain.order is not None
    rare = [0, 0, 0, 1] if small else [0, 0, 1, 2]
    return plain.with_(
        faults=tuple(_fault(names, rng) for _ in range(faults)),
        deaths=_deaths(plain, rng, rng.choice([0, 0, 1, 2] if small else [0, 1, 2, 4])),
        cuts=tuple(_cut(names, rng) for _ in range(rng.choice(rare))),
        stops=tuple(_stop(names, rng) for _ in range(rng.choice(rare))),
        pauses=tuple(_pause(names, rng) for _ in range(rng.choice(rare))) if ordered else (),
        fulls=(Full(_at(rng), round(rng.uniform(0.1, 3.0), 3)),) if rng.random() < FULL_SHARE else (),
        switches=tuple(_switch(rng) for _ in range(rng.choice([0, 0, 0, 0, 1, 2]))),
        clocks=tuple(clocks) if ordered and rng.random() < 0.5 else (),
    )


def _fault(names: list[str], rng: random.Random) -> Fault:
    n = rng.randrange(40, 200) if rng.random() < 0.8 else rng.randrange(40)
    return Fault(rng.choice(names), n, rng.choice([*AT_BROKER, *AT_MESSAGE]))


def _deaths(plain: Scenario, rng: random.Random, count: int) -> tuple[Death, ...]:
    """Deaths; of every role of the core one process comes back or stays."""
    deaths = []
    mortal = {
        "scheduler": plain.schedulers - 1,
        "gateway": plain.gateways - 1,
        "verifier": plain.verifiers - 1,
    }
    for _ in range(count):
        name = rng.choice(plain.names())
        role = name.split("-", maxsplit=1)[0]
        back_s = rng.choice([0.05, 0.3, 0.3, 2.0, 7.0, None])
        if back_s is None and mortal.get(role, 1) < 1:
            back_s = 0.3
        if back_s is None and role in mortal:
            mortal[role] -= 1
        deaths.append(Death(name, _at(rng), back_s))
    return tuple(deaths)


def _at(rng: random.Random) -> float:
    return round(rng.uniform(0, EVENTS_S), 3)


def _stop(names: list[str], rng: random.Random) -> Stop:
    return Stop(rng.choice(names), _at(rng), rng.choice([0.05, 0.3, 2.0]))


def _pause(names: list[str], rng: random.Random) -> Pause:
    longest = rng.choice([1.0, 3.0, 10.0])
    return Pause(rng.choice(names), _at(rng), round(rng.uniform(0.05, longest), 3))


def _cut(names: list[str], rng: random.Random) -> Cut:
    at_s = _at(rng)
    match rng.choice(["short", "long", "wiped", "one short", "one long"]):
        case "short":
            return Cut(at_s, round(rng.uniform(0.05, SHORT_CUT_S), 3))
        case "long":
            return Cut(at_s, round(rng.uniform(7.0, 30.0), 3))
        case "wiped":
            return Cut(at_s, round(rng.choice([0.0, 0.5, 8.0]), 3), wiped=True)
        case "one short":
            return Cut(at_s, round(rng.uniform(0.05, SAFE_GATEWAY_CUT_S), 3), rng.choice(names))
    return Cut(at_s, round(rng.uniform(3.0, 15.0), 3), rng.choice(names))


def _switch(rng: random.Random) -> Switch:
    return Switch(_at(rng), rng.choice(POLICY_NAMES), rng.choice([1, 2, 4, 8]))
