"""The rate that saturates a fixed length: by hand, and against the simulated services."""

import pytest

from cli.bench.windows.capacity import saturating_rate, tokens_per_round
from shared.compute.acceptance_record import AcceptanceRecord, RecordedText
from shared.planning.cost import Packed
from shared.planning.problem import PackedServer
from shared.scenario.scenario import DeviceSpec


def bits(text: str) -> tuple[bool, ...]:
    return tuple(one == "1" for one in text)


@pytest.mark.parametrize(
    ("hits", "k", "expected"),
    [("11111" * 4, 4, 5.0), ("0000", 4, 1.0), ("110" * 6, 4, 3.0), ("110" * 6, 1, 1.5)],
)
def test_tokens_of_a_round_are_the_accepted_ones_and_one_more(hits: str, k: int, expected: float) -> None:
    assert tokens_per_round(bits(hits), k) == pytest.approx(expected)


def test_the_rate_is_that_of_users_who_wait_for_the_slowest() -> None:
    text = RecordedText(0.0, 0, bits("11111" * 4), bits("0" * 20), bytes(20))
    devices = [DeviceSpec("a", 0.0, 5.0, 10.0, 0.0, 1), DeviceSpec("b", 0.0, 10.0, 20.0, 5.0, 1)]
    server = PackedServer(Packed(40.0, 2.0, 0.0), 1e9, 1.0)
    round_ms = 2 * (20 + 5) + 4 * 10 + 40 + 2 * 2 * 5
    request_ms = 100 / 5 * round_ms / 2 + 30 * 2
    found = saturating_rate(AcceptanceRecord({}, (text,)), devices, server, 4, 30.0, 100.0)
    assert found == pytest.approx(1e3 / request_ms)
