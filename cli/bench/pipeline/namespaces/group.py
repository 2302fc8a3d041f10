"""A stack whose ranks have a network namespace each: all other processes are in that of rank 0."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cli.bench.pipeline.namespaces.network import Network
from cli.models.resolve import resolve
from cli.stack.ports import HOST
from cli.stack.specs import STAGE
from cli.stack.stack import LocalStack, Ports, StackOptions


def options_of(model: str, network: Network, layers: Sequence[int], state_dir: Path) -> StackOptions:
    """Options of the stack, with a target in float32. layers: of each stage. Raises ModelError.

    Prompts do not share prefixes, so that the rows of all prompts are known.
    """
    target, draft, name = resolve(model)
    env = {
        "OUTRIDER_DTYPE": "float32",
        "OUTRIDER_PREFIX_SHARING": "false",
        "OUTRIDER_CORE_DRAFT": str(draft),
        "OUTRIDER_STAGE_LAYERS": ",".join(map(str, layers)),
        "MASTER_ADDR": network.address(0),
    }
    options = StackOptions(target, draft, name, state_dir=state_dir, env=env, stages=len(layers))
    return replace(options, ports=Ports.free(options.health_ports))


def stack_in(network: Network, options: StackOptions) -> LocalStack:
    """The stack, each stage in its namespace. To be started and used inside rank 0's."""
    stack = LocalStack(options)
    for rank in range(1, options.stages + 1):
        process, address = stack.processes[f"{STAGE}{rank}"], network.address(rank)
        process.spec = replace(
            process.spec,
            argv=network.argv(rank, process.spec.argv),
            env={**process.spec.env, "OUTRIDER_HEALTH_HOST": address},
            ready_url=process.spec.ready_url.replace(HOST, address),
        )
    return stack
