"""Builds the stack of a simulation: its services with their settings, links, and modelled target and drafts."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from services.draft_worker.metrics import Metrics
from services.draft_worker.radio import Radio
from services.verifier.trees.tree_engine import MAX_TREES
from shared.compute.core_drafter import CoreDrafter, LookupDrafter
from shared.compute.modelled import LOWEST, spread_chances
from shared.compute.modelled_core_drafter import ModelledCoreDrafter
from shared.compute.modelled_drafter import ModelledDrafter
from shared.compute.modelled_target import ModelledTarget
from shared.compute.modelled_tree_drafter import ModelledTreeDrafter
from shared.compute.tree_drafter import WIDTH, TreeDrafter
from shared.planning.windows import SIMULATED_NAMES
from shared.runtime.settings import (
    DraftWorkerSettings,
    GatewaySettings,
    SchedulerSettings,
    VerifierSettings,
    isolated,
)
from shared.scenario.cell_spec import bands_text
from shared.scenario.scenario import DeviceSpec
from simulator import services
from simulator.device_delays import DeviceDelays
from simulator.oracle import Oracle, TrueCosts
from simulator.pass_cost import RowsCost
from simulator.scenario import Core, stage_name
from simulator.services import Factory
from simulator.simulation import Simulation
from simulator.stack import STREAM_LIMIT, SimulatedStack
from simulator.stages.meeting import Meeting
from simulator.stages.ranks import front_rank, stage_rank
from simulator.stages.stages_spec import StagesSpec
from simulator.truth import Truth, specs_at

VOCAB: Final = 49152


def build(simulation: Simulation, device_metrics: Metrics) -> SimulatedStack:
    """The stack, not started. device_metrics: of all devices together."""
    core, limit = simulation.scenario.core, stream_limit(len(simulation.devices))
    stack = SimulatedStack(simulation.seed, stream_limit=limit, decode=simulation.decode)
    stack.delays = DeviceDelays({device.name: device.delay_ms / 1e3 for device in simulation.devices})
    cells = simulation.scenario.cells_of(simulation.devices)
    stack.radios = {name: Radio(cell) for name, cell in cells.items()}
    hop, device_hop = simulation.hops
    is_oracle = simulation.policy.window == Oracle.name
    window = partial(_oracle, simulation, stack) if is_oracle else simulation.window
    stack.add("scheduler", services.scheduler(_scheduler_settings(simulation), window), hop)
    for n in range(core.gateways):
        gateway = isolated(GatewaySettings, name=f"gateway-{n}", trace=simulation.trace)
        stack.add(gateway.name, services.gateway(gateway), hop)
    for n in range(core.verifiers):
        _add_verifier(stack, simulation, f"verifier-{n}")
    for device in simulation.devices:
        stack.add(device.name, _device(stack, simulation, device, device_metrics), device_hop)
    return stack


def _device(stack: SimulatedStack, simulation: Simulation, device: DeviceSpec, metrics: Metrics) -> Factory:
    """A device, which may grow draft trees as well."""
    feed = simulation.scenario.feed.low
    drafter = partial(
        ModelledDrafter,
        device.alpha,
        draft_ms=device.draft_ms,
        feed_share=feed,
        vocab=VOCAB,
        replay=simulation.replays.get(device.recording),
    )
    trees = None
    if device.alpha and grows_trees(simulation):  # a recording says nothing of trees
        trees = partial(_device_trees, simulation, device)
    settings = _device_settings(device, simulation.trace)
    station = stack.radios[device.cell].station(device.name, device.eta) if device.cell else None
    payload = device.payload_bits_per_token
    return services.draft_worker(settings, drafter, metrics, stack.delays, trees, station, payload)


def _add_verifier(stack: SimulatedStack, simulation: Simulation, name: str) -> None:
    """A verifier, with its stages where it has some."""
    core, (hop, _), spec = simulation.scenario.core, simulation.hops, simulation.scenario.core.pipeline
    settings = isolated(
        VerifierSettings,
        name=name,
        target="modelled",
        trace=simulation.trace,
        kv_tokens=core.kv_tokens,
        max_context=core.context,
        stages=spec.count if spec else 1,
    )
    if spec is None:
        target = partial(_target, core, simulation.law)
        stack.add(name, services.verifier(settings, target, partial(_core_drafter, core)), hop)
        return
    meeting = Meeting(spec)
    stack.add(name, front_rank(settings, spec, VOCAB, meeting, partial(_tree_drafter, spec)), hop)
    for rank in range(1, spec.count + 1):
        stack.add(stage_name(name, rank), stage_rank(settings, spec, rank, meeting))


def grows_trees(simulation: Simulation) -> bool:
    """Whether devices have a drafter of trees: where its decodes, one by one, are worth the time of simulating them."""
    return simulation.policy.policy == "flowspec" or simulation.scenario.core.pipeline is not None


def _device_trees(simulation: Simulation, device: DeviceSpec) -> TreeDrafter:
    """At stages its candidates are right as those of the core's drafter are, with a mean of alpha for the first one.

    Elsewhere the first is right where the device's chain is; half of the rest goes to the next one, and so on.
    """
    chances: Sequence[float] | Callable[[int], Sequence[float]]
    if simulation.scenario.core.pipeline and device.alpha > LOWEST:
        chances = partial(spread_chances, mean=device.alpha, count=WIDTH)
    else:
        chances = (device.alpha, *((1 - device.alpha) * 2.0**-rank for rank in range(1, WIDTH)))
    feed = simulation.scenario.feed.low
    return ModelledTreeDrafter(chances, draft_ms=device.draft_ms, feed_share=feed, vocab=VOCAB)


def stream_limit(devices: int) -> int:
    """Entries of a work stream: the default, or for a large fleet what its operator sets, two messages a device."""
    return max(STREAM_LIMIT, 2 * devices)


def _target(core: Core, law: RowsCost) -> ModelledTarget:
    return ModelledTarget(VOCAB, kv_tokens=core.kv_tokens, max_context=core.context, cost_ms=law.cost_ms)


def _core_drafter(core: Core) -> CoreDrafter:
    """Lookups, which find nothing in modelled text, or what stands for them."""
    return ModelledCoreDrafter(core.fused.alpha, core.fused.match) if core.fused else LookupDrafter()


def _tree_drafter(spec: StagesSpec) -> TreeDrafter | None:
    trees = spec.trees
    if trees is None:
        return None
    chances = partial(spread_chances, mean=trees.p1, count=WIDTH)
    return ModelledTreeDrafter(
        chances, draft_ms=trees.draft_ms, node_share=trees.node_share, vocab=VOCAB, capacity=MAX_TREES
    )


def _oracle(simulation: Simulation, stack: SimulatedStack) -> Oracle:
    devices = {device.name: device for device in simulation.devices}
    truth = Truth(simulation.devices, simulation.replays, specs_at(stack.server))
    return Oracle(truth, TrueCosts(devices, stack.delays, simulation.server, simulation.hop_ms))


def _scheduler_settings(simulation: Simulation) -> SchedulerSettings:
    core, policy = simulation.scenario.core, simulation.policy
    return isolated(
        SchedulerSettings,
        name="scheduler",
        policy=policy.policy,
        k=policy.k,
        batches=policy.batches,
        window="" if policy.window in SIMULATED_NAMES else policy.window,
        max_rows=core.max_rows,
        stream_limit=stream_limit(len(simulation.devices)),
        prefill_tokens=core.prefill_tokens,
        profile=simulation.profile_file,
        trace=simulation.trace,
        cells=bands_text(simulation.scenario.cells),
        bandwidth=policy.bandwidth,
        move_timeout_s=core.move_timeout.ms_at(0.0, 0.0) / 1e3,
    )


def _device_settings(device: DeviceSpec, trace: bool) -> DraftWorkerSettings:
    return isolated(
        DraftWorkerSettings,
        name=device.name,
        drafter="modelled",
        link_ms=device.delay_ms,
        link_jitter_ms=device.jitter_ms,
        link_kbit_s=device.kbit_s,
        link_loss=device.loss,
        cell=device.cell,
        cell_eta=device.eta if device.cell else 1.0,
        trace=trace,
    )
