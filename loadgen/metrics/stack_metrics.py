"""Metrics counted by the services: the difference of their Prometheus pages before and after a run."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

Labels = frozenset[tuple[str, str]]
NAN: Final = float("nan")
PAGE_S: Final = 5.0
STAGES_BUSY: Final = "outrider_verifier_stage_busy_seconds_total"


class ScrapeError(RuntimeError):
    """A metrics page that cannot be read; the text names it."""


@dataclass(frozen=True, slots=True)
class Scrape:
    """Metrics of several processes. values: sums by name and labels. processes: how many have a metric, by name."""

    values: Mapping[tuple[str, Labels], float]
    processes: Mapping[str, int]


async def scrape(urls: Sequence[str]) -> Scrape:
    """Read all pages concurrently. Raises ScrapeError."""
    timeout = aiohttp.ClientTimeout(total=PAGE_S)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        pages = await asyncio.gather(*(_page(session, url) for url in urls))
    try:
        return parse(pages)
    except (ValueError, LookupError) as error:
        raise ScrapeError(f"{', '.join(urls)}: not Prometheus metrics: {error}") from None


def parse(pages: Sequence[str]) -> Scrape:
    """Parse the pages of several processes."""
    values: dict[tuple[str, Labels], float] = defaultdict(float)
    processes: Counter[str] = Counter()
    for page in pages:
        samples = [sample for family in text_string_to_metric_families(page) for sample in family.samples]
        processes.update({sample.name for sample in samples})
        for sample in samples:
            values[sample.name, frozenset(sample.labels.items())] += sample.value
    return Scrape(values, processes)


async def _page(session: aiohttp.ClientSession, url: str) -> str:
    try:
        async with session.get(url) as response:
            response.raise_for_status()
            return await response.text()
    except (aiohttp.ClientError, TimeoutError, ValueError, LookupError) as error:
        raise ScrapeError(f"no metrics at {url}: {type(error).__name__}: {error}") from None


@dataclass(frozen=True, slots=True)
class Delta:
    """The increase of counters between two scrapes."""

    before: Scrape
    after: Scrape

    def total(self, name: str, **labels: str) -> float:
        """Sum over all samples of this name that have these labels; 0 without any."""
        required = labels.items()
        return sum(
            value - self.before.values.get(key, 0.0)
            for key, value in self.after.values.items()
            if key[0] == name and required <= dict(key[1]).items()
        )

    def values(self, name: str, label: str) -> set[str]:
        """All values of a label of this metric."""
        return {
            dict(labels)[label]
            for found, labels in self.after.values
            if found == name and label in dict(labels)
        }


def stack_metrics(delta: Delta, duration_s: float) -> dict[str, Any]:
    """Metrics of speculation, links and verifiers. α = accepted / (accepted + rejected), overall and by position."""
    positions = {
        int(position): (
            delta.total("outrider_scheduler_positions_total", position=position, outcome="accepted"),
            delta.total("outrider_scheduler_positions_total", position=position, outcome="rejected"),
        )
        for position in delta.values("outrider_scheduler_positions_total", "position")
    }
    accepted = sum(pair[0] for pair in positions.values())
    checked = sum(sum(pair) for pair in positions.values())
    drafted = delta.total("outrider_scheduler_drafted_tokens_total")
    rounds = delta.total("outrider_scheduler_rounds_total", drafted="yes")
    emitted = delta.total("outrider_verifier_emitted_tokens_total")
    link = delta.total("outrider_device_link_bytes_total")
    batches = delta.total("outrider_verifier_batches_total")
    pass_s = sum(
        delta.total("outrider_verifier_phase_seconds_sum", phase=phase) for phase in ("prepare", "forward")
    )
    commit_s = delta.total("outrider_verifier_phase_seconds_sum", phase="commit")
    return {
        "alpha": _share(accepted, checked),
        "tau": _share(accepted + rounds, rounds),
        "acceptance_by_position": {
            position: _share(pair[0], sum(pair)) for position, pair in sorted(positions.items()) if sum(pair)
        },
        "drafted_tokens": drafted,
        "accepted_tokens": accepted,
        "wasted_tokens": drafted - accepted,
        "fused_drafted_tokens": delta.total("outrider_verifier_fused_tokens_total"),
        "fused_accepted_tokens": delta.total("outrider_verifier_fused_tokens_total", fate="accepted"),
        "emitted_tokens": emitted,
        "link_bytes_per_emitted_token": _share(link, emitted),
        "mean_pass_ms": 1e3 * _share(pass_s, batches),
        "mean_commit_ms": 1e3 * _share(commit_s, batches),
        "mean_pass_tokens": _share(delta.total("outrider_verifier_fed_tokens_total"), batches),
        "verifier_utilisation": _utilisation(delta, duration_s),
    }


def _utilisation(delta: Delta, duration_s: float) -> float:
    """Share of the time in which verifiers work; of pipelines, in which their stages compute."""
    stages = len(delta.values(STAGES_BUSY, "stage")) * delta.after.processes.get(STAGES_BUSY, 0)
    if stages:
        return _share(delta.total(STAGES_BUSY), duration_s * stages)
    verifiers = delta.after.processes.get("outrider_verifier_batches_total", 0)
    return _share(delta.total("outrider_verifier_phase_seconds_sum"), duration_s * verifiers)


def mismatches(delta: Delta, client_counts: Mapping[str, int]) -> list[str]:
    """One line for every difference between the gateway's token counts and the client's, both by kind."""
    counted = {kind: round(delta.total("outrider_gateway_tokens_total", kind=kind)) for kind in client_counts}
    return [
        f"the gateway counted {counted[kind]} {kind} tokens, the client {client_counts[kind]}"
        for kind in client_counts
        if counted[kind] != client_counts[kind]
    ]


def _share(part: float, whole: float) -> float:
    return part / whole if whole else NAN
