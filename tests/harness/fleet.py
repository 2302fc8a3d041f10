"""A scenario file under virtual time: the real services, replayed devices, a modelled verifier. Tokens a second.

python -m tests.harness.fleet scenarios/jittery.yaml [--beta 50 --per-token 1.4 --verify 34] [--seconds 20]
"""

import argparse
import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry

from services.draft_worker.metrics import Metrics
from services.draft_worker.worker import DraftWorker
from services.gateway.session import Emitted, SessionRequest
from services.gateway.sessions import GatewaySessions
from services.scheduler.scheduler import Scheduler
from services.scheduler.state import Estimates
from services.verifier.verifier import Verifier
from shared.broker.memory_broker import MemoryBroker, MemoryServer
from shared.compute.compute import InlineCompute
from shared.compute.modelled import STOP, expected_text, modelled_vocabulary
from shared.compute.modelled_target import ModelledTarget
from shared.compute.replay import Recordings, ReplayDrafter
from shared.planning.cost import Packed
from shared.runtime.ids import Ids
from shared.runtime.settings import (
    DraftWorkerSettings,
    GatewaySettings,
    SchedulerSettings,
    VerifierSettings,
    load,
)
from shared.runtime.watch import BrokerWatch
from shared.scenario.scenario import DeviceSpec, PolicyConfig, Scenario, read_scenario
from shared.speculative.params import SamplingParams
from simulator.virtual_loop import run_virtual

VOCAB = 5000
WARM_S = 3.0  # by then all devices have joined
HOP_S = 0.0005


@dataclass(frozen=True, slots=True)
class Served:
    """What came of it. predicted: by the plan in force at the end, 0 without one. by_device: tokens of each."""

    tokens_per_s: float
    predicted: float
    busy: float
    by_device: dict[str, int]


def serve(
    scenario: Scenario,
    config: PolicyConfig,
    law: Packed,
    verify_ms: float,
    seconds: float,
    settle: float = 5.0,
) -> Served:
    """Run one policy for `seconds` of virtual time. Raises AssertionError when a text is not the target's own."""
    return run_virtual(_serve(scenario, config, law, scenario.fleet(verify_ms), seconds, settle))


async def _serve(
    scenario: Scenario,
    config: PolicyConfig,
    law: Packed,
    fleet: Sequence[DeviceSpec],
    seconds: float,
    settle: float,
) -> Served:
    loop, server = asyncio.get_running_loop(), MemoryServer()
    texts = _texts(scenario, len(fleet))
    settings = load(SchedulerSettings, policy=config.policy, k=config.k, batches=config.batches)
    core = _core(server, settings, law)
    counted = dict.fromkeys((device.name for device in fleet), 0)
    stop, begin = asyncio.Event(), WARM_S + settle

    def count(device: str, tokens: int) -> None:
        if loop.time() >= begin and not stop.is_set():
            counted[device] += tokens

    async with asyncio.TaskGroup() as group:
        for run in (core.scheduler.run, core.verifier.run, core.watch.run, core.gateway.run):
            group.create_task(run(stop))
        for n, device in enumerate(fleet):
            group.create_task(_device(server, texts, n, device).run(stop))
        users = [group.create_task(_user(core.gateway, texts, n, d, count)) for n, d in enumerate(fleet)]
        await asyncio.sleep(begin)
        before = core.verifier._busy_s
        await asyncio.sleep(seconds)
        busy = (core.verifier._busy_s - before) / seconds
        predicted = core.scheduler.metrics.rate.labels("verifier", "predicted")._value.get()
        stop.set()
        for task in users:
            task.cancel()
    return Served(sum(counted.values()) / seconds, predicted, busy, counted)


@dataclass(frozen=True, slots=True)
class _Texts:
    """A prompt for each user, and the target's answers."""

    sampling: SamplingParams
    prompts: list[tuple[int, ...]]
    answers: list[tuple[int, ...]]
    recordings: Recordings


def _texts(scenario: Scenario, users: int) -> _Texts:
    sampling = SamplingParams(seed=5, vocab=VOCAB)
    prompts = [
        tuple(1 + (n * 7 + i) % (VOCAB - 1) for i in range(scenario.workload.prompt)) for n in range(users)
    ]
    answers = [expected_text(prompt, sampling, scenario.workload.answer) for prompt in prompts]
    whole = tuple(p + a for p, a in zip(prompts, answers, strict=True))
    return _Texts(sampling, prompts, answers, Recordings(whole, modelled_vocabulary(VOCAB), VOCAB))


@dataclass(frozen=True, slots=True)
class _Core:
    """The core's services on one broker."""

    scheduler: Scheduler
    verifier: Verifier
    gateway: GatewaySessions
    watch: BrokerWatch


def _core(server: MemoryServer, settings: SchedulerSettings, law: Packed) -> _Core:
    scheduler = Scheduler(settings, MemoryBroker(server), Ids(2), CollectorRegistry(), InlineCompute())
    scheduler._estimates = Estimates(law)  # as from a profile
    target = ModelledTarget(
        VOCAB,
        kv_tokens=1 << 20,
        beta_ms=law.beta_ms,
        per_token_ms=law.per_token_ms,
        per_context_ms=law.per_context_ms,
    )
    verifier = Verifier(
        load(VerifierSettings, name="verifier", target="modelled"),
        MemoryBroker(server),
        target,
        InlineCompute(),
        Ids(3),
        CollectorRegistry(),
    )
    broker = MemoryBroker(server)
    watch = BrokerWatch(broker)
    gateway = GatewaySessions(load(GatewaySettings, name="gateway"), broker, watch, Ids(4))
    return _Core(scheduler, verifier, gateway, watch)


def _device(server: MemoryServer, texts: _Texts, n: int, device: DeviceSpec) -> DraftWorker:
    settings = load(
        DraftWorkerSettings, name=device.name, link_ms=device.delay_ms, link_jitter_ms=device.jitter_ms
    )
    drafter = ReplayDrafter(texts.recordings, device.alpha, device.draft_ms, device.seed)
    metrics = Metrics(CollectorRegistry())
    return DraftWorker(settings, MemoryBroker(server), drafter, InlineCompute(), Ids(100 + n), metrics)


async def _user(
    gateway: GatewaySessions, texts: _Texts, n: int, device: DeviceSpec, count: Callable[[str, int], None]
) -> None:
    """Ask for the same answer again and again, until cancelled."""
    answer = texts.answers[n]
    request = SessionRequest(texts.prompts[n], texts.sampling, len(answer), (STOP,), device=device.name)
    await asyncio.sleep(WARM_S)
    while True:
        got: list[int] = []
        async for event in await gateway.open(request):
            if isinstance(event, Emitted):
                got += event.tokens
                count(device.name, len(event.tokens))
                if event.finish:
                    break
        assert tuple(got) == answer[: len(got)], device.name


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="A scenario under virtual time.")
    parser.add_argument("scenario", type=Path, nargs="+")
    parser.add_argument("--beta", type=float, default=85.0)
    parser.add_argument("--per-token", type=float, default=1.85)
    parser.add_argument("--per-context", type=float, default=0.005)
    parser.add_argument("--verify", type=float, default=45.0, help="ms of one row of one token")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    law = Packed(args.beta, args.per_token, args.per_context)
    for path in args.scenario:
        scenario = read_scenario(path)
        for config in scenario.policies:
            if args.only and config.policy not in args.only.split(","):
                continue
            begun = time.perf_counter()
            served = serve(scenario, config, law, args.verify, args.seconds)
            print(
                f"{path.stem:16} {config!s:16} {served.tokens_per_s:7.1f} tok/s, predicted {served.predicted:6.1f}, "
                f"busy {served.busy:.2f}, slowest {min(served.by_device.values()) / args.seconds:.1f} "
                f"({time.perf_counter() - begun:.0f} s)",
                flush=True,
            )


if __name__ == "__main__":
    main()
