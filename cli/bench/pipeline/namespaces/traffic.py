"""What the ranks have computed and sent, by the verifier's metrics and the kernel's counters."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from cli.bench.pipeline.namespaces.network import Network
from services.verifier.metrics import NAME


@dataclass(frozen=True, slots=True)
class Count:
    """Totals so far. rows, pieces: computed by all stages; sent_bytes: in messages of all ranks to the next ones.

    first_rows, first_pieces: by the first stage. wire_bytes, packets: of all ranks. accepted, rejected: drafted tokens
    of rows, each row's first rejected one alone; tree_accepted: tokens of the core's trees.
    """

    committed: int = 0
    first_rows: int = 0
    rows: int = 0
    first_pieces: int = 0
    pieces: int = 0
    sent_bytes: int = 0
    wire_bytes: int = 0
    packets: int = 0
    accepted: int = 0
    rejected: int = 0
    tree_accepted: int = 0

    def since(self, before: "Count") -> "Count":
        """What was counted in between."""
        return Count(*(getattr(self, name) - getattr(before, name) for name in self.__dataclass_fields__))


async def count(url: str, network: Network) -> Count:
    """Read all counters. url: of the verifier's metrics; stages say what they did once a second."""
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        answer.raise_for_status()
        text = await answer.text()
    wire = [network.sent(rank) for rank in range(network.ranks)]
    return counted(text, sum(size for size, _ in wire), sum(packets for _, packets in wire))


def counted(text: str, wire_bytes: int, packets: int) -> Count:
    """The totals in a verifier's metrics, with those of the kernel."""
    samples = [
        (sample.name, sample.labels, int(sample.value))
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.endswith("_total")
    ]

    def total(name: str, **labels: str) -> int:
        return sum(
            value
            for found, with_labels, value in samples
            if found == f"{NAME}_{name}_total" and labels.items() <= with_labels.items()
        )

    return Count(
        committed=total("emitted_tokens"),
        first_rows=total("stage_tokens", stage="1"),
        rows=total("stage_tokens"),
        first_pieces=total("stage_passes", stage="1"),
        pieces=total("stage_passes"),
        sent_bytes=total("stage_sent_bytes"),
        wire_bytes=wire_bytes,
        packets=packets,
        accepted=total("draft_position", fate="accepted"),
        rejected=total("draft_position", fate="rejected"),
        tree_accepted=total("fused_tokens", fate="accepted"),
    )


def per_token(found: Count, prompts: int, stages: int, row_bytes: int) -> Mapping[str, Any]:
    """Figures per committed token, without the rows of the prompts. prompts: their tokens, each a row of every stage.

    rows: on the links from the stages, which is also what these computed; messages: with rows, on all links. The
    headers of prompts' messages, beats and messages without rows stay in the bytes.
    """
    tokens = found.committed
    in_prompts = prompts * row_bytes * (stages + 1)
    return {
        "first_rows": (found.first_rows - prompts) / tokens,
        "rows": (found.rows - prompts * stages) / tokens,
        "messages": (found.first_pieces + found.pieces) / tokens,
        "bytes": (found.sent_bytes - in_prompts) / tokens,
        "wire_bytes": (found.wire_bytes - in_prompts) / tokens,
    }
