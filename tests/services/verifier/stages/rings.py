"""A whole pipeline in one process: rank 0's target and its stages, with links that are queues."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from services.verifier.families import shape_of
from services.verifier.stages.block import Block
from services.verifier.stages.link import QueueLink
from services.verifier.stages.messages import Assign, Facts
from services.verifier.stages.parts import load_block, load_front
from services.verifier.stages.pipelined_target import PipelinedTarget
from services.verifier.stages.ring import Ring
from services.verifier.stages.split import first_layers
from services.verifier.stages.stage import Load, Stage
from services.verifier.stages.torch_outer_layers import TorchOuterLayers
from services.verifier.weights import Weights
from shared.compute.compute import InlineCompute
from shared.compute.target import Choices, TargetRow
from tests.services.verifier.tiny import VOCAB, build

CPU = torch.device("cpu")


def facts(rank: int, **changed: Any) -> Facts:
    """Facts of one rank; all alike but for the rank."""
    same: dict[str, Any] = {
        "release": "1",
        "libraries": "torch",
        "model": "m",
        "dtype": "float32",
        "kv_tokens": 512,
        "page_tokens": 4,
        "device": "cpu",
        "layer_ms": 1.0,
    }
    return Facts(rank=rank, **{**same, **changed})


@dataclass(frozen=True)
class Pipeline:
    """Rank 0's parts, and the links: link i leads to rank i + 1, the last one to rank 0."""

    target: PipelinedTarget
    ring: Ring
    links: Sequence[QueueLink]
    stages: Sequence[Stage]

    async def forward(self, rows: Sequence[TargetRow]) -> list[Choices]:
        """One pass, from its first piece to its choices."""
        launched = self.target.launch(rows)
        for _, piece in launched:
            await self.ring.send(piece)
        choices: dict[str, Choices] = {}
        for one, _ in launched:
            choices.update(self.target.finish(one, await self.ring.result(one.number)))
        return [choices[row.session] for row in rows]


def saved(config: Any, folder: Path) -> Weights:
    """The tiny model of this configuration, as the files that a stage reads."""
    build(config).save_pretrained(folder)
    return Weights(folder)


def front(weights: Weights, config: Any, **options: Any) -> PipelinedTarget:
    """Rank 0's target."""
    options = {"kv_tokens": 512, "page_tokens": 4, **options}
    shape = shape_of(config)
    loaded = load_front(weights, config, torch.float32, CPU)
    outer = TorchOuterLayers(
        shape, loaded, vocab=VOCAB, dtype=torch.float32, device=CPU, hidden=config.hidden_size
    )
    return PipelinedTarget(
        outer, positions=shape.positions, vocabulary="tiny", vocab=VOCAB, device="cpu", **options
    )


def loader(weights: Weights, config: Any, rank: int, kv_tokens: int = 512, page_tokens: int = 4) -> Load:
    """What a stage does when it is told its layers."""

    def load(assign: Assign) -> Block:
        first, count = first_layers(assign.layers)[rank - 1], assign.layers[rank - 1]
        body = load_block(weights, config, first, count, torch.float32, CPU)
        return Block(
            body,
            kv_tokens=kv_tokens,
            page_tokens=page_tokens,
            call_cost=assign.call_cost,
            dtype=torch.float32,
        )

    return load


@asynccontextmanager
async def pipeline(
    weights: Weights,
    config: Any,
    layers: Sequence[int],
    kv_tokens: int = 512,
    page_tokens: int = 4,
    **options: Any,
) -> AsyncIterator[Pipeline]:
    """A pipeline with these layers in its stages. options: of rank 0's target."""
    pool = {"kv_tokens": kv_tokens, "page_tokens": page_tokens}
    target = front(weights, config, **pool, **options)
    count = len(layers)
    links = [QueueLink() for _ in range(count + 1)]
    ring = Ring(facts(0), count, links[count], links[0])
    stages = [
        Stage(
            facts(rank),
            rank == count,
            links[rank - 1],
            links[rank],
            InlineCompute(),
            loader(weights, config, rank, **pool),
        )
        for rank in range(1, count + 1)
    ]
    async with asyncio.TaskGroup() as group:
        for stage in stages:
            group.create_task(stage.run())
        await ring.start(lambda _: Assign(tuple(layers), target.call_cost))
        group.create_task(ring.run(asyncio.Event()))
        await ring.ready()
        yield Pipeline(target, ring, links, stages)
        await ring.end()
