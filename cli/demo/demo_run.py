"""Policies of the demo with local drafts, and one repeat of a policy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan

from cli.admin import Admin
from cli.demo.reference import Text
from cli.stack.requests import answers
from loadgen.client.streaming import Client
from loadgen.metrics.summary import summarise
from loadgen.request import ChatRequest, Record


@dataclass(frozen=True, slots=True)
class DemoPolicy:
    """A policy. k: draft length; 0 = none, or the policy's own. Threads: of the verifier and of each draft worker."""

    policy: str
    k: int = 0
    verifier_threads: int = 2
    draft_threads: int = 1

    def __str__(self) -> str:
        return self.policy + (f" k={self.k}" if self.k else "")


@dataclass(frozen=True, slots=True)
class DemoRun:
    """One repeat of one policy. NaN: not measured. same: all texts equal the target's; None = unchecked."""

    tokens_per_s: float
    alpha: float = nan
    tau: float = nan
    ttft_ms: float = nan
    tpot_ms: float = nan
    same: bool | None = None
    records: Sequence[Record] = ()


async def serve(
    client: Client,
    admin: Admin,
    policy: DemoPolicy,
    requests: Sequence[ChatRequest],
    expected: Mapping[str, Text],
) -> DemoRun:
    """Serve all requests at once. expected: texts by the requests' ids. Raises CommandError if a request fails."""
    await admin.set_policy(policy.policy, policy.k, policy.verifier_threads, policy.draft_threads)
    before = (await admin.status())["totals"]
    records = await answers(client, requests)
    after = (await admin.status())["totals"]
    accepted = after["accepted"] - before["accepted"]
    ended = accepted + after["rejections"] - before["rejections"]
    summary = summarise(records)
    return DemoRun(
        tokens_per_s=summary.tokens_per_s,
        alpha=accepted / ended if ended else nan,
        tau=summary.tau,
        ttft_ms=summary.ttft.median,
        tpot_ms=summary.tpot.median,
        same=same(records, expected),
        records=records,
    )


def same(records: Sequence[Record], expected: Mapping[str, Text]) -> bool:
    """Whether every text equals the target's, from the first token to the last."""
    return all(tuple(record.tokens) == expected[record.request.id].answer for record in records)
