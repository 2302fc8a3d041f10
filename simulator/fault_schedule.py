"""Lets a scenario's faults happen at their times."""

import asyncio

from simulator.scenario import Away, Delay, Kill, SimulatedScenario
from simulator.stack import SimulatedStack


async def let_happen(scenario: SimulatedScenario, stack: SimulatedStack, started: float) -> None:
    """Let all faults happen. started: time of the loop from which their times count."""
    loop = asyncio.get_running_loop()
    for fault in sorted(scenario.faults, key=lambda fault: fault.at.low):
        await asyncio.sleep(max(0.0, started + fault.at.low - loop.time()))
        match fault:
            case Kill():
                _kill(fault, stack)
            case Away():
                _cut(fault, stack)
                loop.call_later(fault.broker_away.low, _reconnect, stack)
            case Delay():
                delay_s = fault.delay.ms_at(0.0, 0.0) / 1e3
                stack.delays.change(scenario.devices_of(fault.devices), delay_s)


def _kill(fault: Kill, stack: SimulatedStack) -> None:
    process = stack.processes[fault.kill]
    process.returns = fault.back is not None
    process.restart_s = fault.back.low if fault.back else 0.0
    process.incarnation.kill()


def _cut(fault: Away, stack: SimulatedStack) -> None:
    stack.outage.down = True
    if fault.wiped:
        stack.server.wipe()


def _reconnect(stack: SimulatedStack) -> None:
    stack.outage.down = False
