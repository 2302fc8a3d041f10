"""The oracle: of all draft lengths of a batch it takes those with most tokens a second, and drafts nothing wrong."""

from itertools import product

import pytest

from shared.planning.cost import Packed
from shared.planning.problem import PackedServer
from shared.planning.views import SessionView
from shared.planning.windows.window import Load
from shared.scenario.scenario import DeviceSpec
from simulator.device_delays import DeviceDelays
from simulator.oracle import Oracle, TrueCosts
from simulator.truth import Truth
from tests.simulator.runs import run, scenario

LAW = Packed(30.0, 1.0, 0.0)


class Known(Truth):
    """Matches of the next draft by session. Drafts in hand match nothing."""

    def __init__(self, matches: dict[str, int]) -> None:
        self._matches = matches

    def matches(self, session: str, device: str, position: int, limit: int = 16) -> int:
        """See Truth.matches."""
        return min(self._matches[session], limit)


def view(session: str, drafted: int = 0, can_draft: bool = True) -> SessionView:
    return SessionView(
        session, 0, "ready", 0.0, 100, 100, drafted, can_draft, f"{session}:1", 0.5, 0.01, 0.01
    )


def decided(matches: dict[str, int], draft_ms: dict[str, float], delay_ms: float) -> dict[str, int]:
    """The draft length of every session, which has the device of its own name."""
    devices = {name: DeviceSpec(name, 0.0, draft_ms[name], 0.0, 0.0, 1) for name in matches}
    delays = DeviceDelays(dict.fromkeys(matches, delay_ms / 1e3))
    oracle = Oracle(Known(matches), TrueCosts(devices, delays, PackedServer(LAW, 1e9, 1.0), 0.0))
    views = [view(name) for name in matches]
    load = Load("v", 1, LAW, len(views), 100.0, views, 0.0)
    return {one.session: oracle.decide(one, load).k for one in views}


def rate(lengths: dict[str, int], draft_ms: dict[str, float], delay_ms: float) -> float:
    """Tokens per millisecond of a batch whose drafts are all accepted."""
    away = max(2 * delay_ms + k * draft_ms[name] if k else 0.0 for name, k in lengths.items())
    tokens = sum(k + 1 for k in lengths.values())
    return tokens / (away + LAW.beta_ms + LAW.per_token_ms * tokens)


@pytest.mark.parametrize("delay_ms", [0.0, 5.0, 20.0, 100.0])
@pytest.mark.parametrize("matches", [(0, 0, 0), (0, 1, 6), (2, 2, 2), (5, 0, 3), (6, 6, 6), (1, 0, 0)])
def test_no_other_lengths_have_more_tokens_a_second(matches: tuple[int, ...], delay_ms: float) -> None:
    names, draft_ms = ("a", "b", "c"), {"a": 4.0, "b": 8.0, "c": 13.0}
    chosen = decided(dict(zip(names, matches, strict=True)), draft_ms, delay_ms)
    assert all(chosen[name] <= n for name, n in zip(names, matches, strict=True))
    best = max(
        rate(dict(zip(names, lengths, strict=True)), draft_ms, delay_ms)
        for lengths in product(*(range(n + 1) for n in matches))
    )
    assert rate(chosen, draft_ms, delay_ms) == pytest.approx(best)


def test_a_session_that_cannot_draft_does_not_and_one_near_its_end_drafts_no_further() -> None:
    oracle = Oracle(
        Known({"a": 9}),
        TrueCosts(
            {"a": DeviceSpec("a", 0.0, 1.0, 0.0, 0.0, 1)},
            DeviceDelays({"a": 0.0}),
            PackedServer(LAW, 1e9, 1.0),
            0.0,
        ),
    )
    away = view("a", can_draft=False)
    assert oracle.decide(away, Load("v", 1, LAW, 1, 100.0, [away], 0.0)).k == 0
    ending = view("a")
    ending.remaining = 6  # one token comes with the row that is staged, and one after the draft
    assert oracle.decide(ending, Load("v", 2, LAW, 1, 100.0, [ending], 0.0)).k == 4


@pytest.mark.slow
def test_it_drafts_nothing_wrong_and_is_quicker_than_any_fixed_length() -> None:
    what = scenario(
        devices=[{"count": 3, "alpha": "0.5..0.9", "draft": "5..10 ms", "link": {"delay": "10 ms"}}]
    )
    oracle = run(what, window="oracle")
    drafted = sum(record.drafted_tokens for record in oracle.records)
    assert drafted == sum(record.accepted_tokens for record in oracle.records) > 0
    fixed = [run(what, k=k).outcome.metrics["output_throughput"] for k in (1, 2, 4, 8)]
    assert oracle.outcome.metrics["output_throughput"] > 1.05 * max(fixed)
