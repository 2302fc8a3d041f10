"""A simulation runs the deployed services: their own classes, none of them derived from, replaced or patched."""

import ast
import asyncio
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry

from services.draft_worker.metrics import Metrics
from services.draft_worker.worker import DraftWorker
from services.gateway.sessions import GatewaySessions
from services.scheduler.scheduler import Scheduler
from services.verifier.verifier import Verifier
from shared.scenario.scenario import PolicyConfig
from simulator.build import build
from simulator.scenario import SimulatedScenario
from simulator.services import Gateway
from simulator.simulation import Simulation
from simulator.virtual_loop import run_virtual

ROOT = Path(__file__).resolve().parents[2]
SCENARIO = SimulatedScenario.model_validate(
    {
        "about": "One device.",
        "devices": [{"count": 1, "alpha": 0.8, "draft": "5 ms", "link": {"delay": "2 ms"}}],
        "policies": ["fixed-k"],
    }
)


def test_its_processes_are_of_the_deployed_classes() -> None:
    async def play() -> dict[str, type]:
        simulation = Simulation(SCENARIO, PolicyConfig(policy="fixed-k", k=3), 1)
        stack = build(simulation, Metrics(CollectorRegistry()))
        async with stack:
            await asyncio.sleep(1.0)
            return {
                name: type(service.sessions if isinstance(service, Gateway) else service)
                for name, service in stack.services.items()
            }

    assert run_virtual(play()) == {
        "scheduler": Scheduler,
        "gateway-0": GatewaySessions,
        "verifier-0": Verifier,
        "device-0": DraftWorker,
    }


def of_services(tree: ast.Module) -> Iterator[str]:
    """Names that a module imports from the services."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("services"):
            yield from (alias.asname or alias.name for alias in node.names)
        if isinstance(node, ast.Import):
            yield from ("services" for alias in node.names if alias.name.startswith("services"))


def test_the_simulator_derives_nothing_from_the_services_and_patches_nothing() -> None:
    wrong = []
    for file in sorted((ROOT / "simulator").glob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        theirs = set(of_services(tree))
        for node in ast.walk(tree):
            bases = node.bases if isinstance(node, ast.ClassDef) else []
            targets = node.targets if isinstance(node, ast.Assign) else []
            named = {ast.unparse(base) for base in bases}
            named |= {ast.unparse(t).partition(".")[0] for t in targets if isinstance(t, ast.Attribute)}
            wrong += [f"{file.name}: {name}" for name in named & theirs]
    assert wrong == []
