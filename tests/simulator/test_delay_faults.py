"""A fault that changes links' delay in mid-run: rounds take as much longer as the links do, from then on."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import pytest

from tests.simulator.runs import run, scenario

GROUP = {"alpha": 0.8, "draft": "5 ms", "link": {"delay": "20 ms"}}


def rounds_ms(faults: Sequence[Mapping[str, object]], groups: int = 1) -> list[tuple[float, float]]:
    """Median times between two pieces of text, by user: before second 5 and after second 6."""
    found = run(
        scenario(
            devices=[GROUP] * groups, workload={"prompt": 16, "answer": 2000}, measure="10 s", faults=faults
        )
    )
    return [
        (np.median(early), np.median(late))
        for early, late in (
            (
                [1e3 * (b.at - a.at) for a, b in pairwise(record.chunks) if b.at - record.sent < 5],
                [1e3 * (b.at - a.at) for a, b in pairwise(record.chunks) if a.at - record.sent > 6],
            )
            for record in found.records
        )
    ]


def test_a_round_takes_as_much_longer_as_both_directions() -> None:
    ((before, after),) = rounds_ms([{"at": "5 s", "delay": "100 ms"}])
    assert after - before == pytest.approx(160, abs=1.0)


def test_the_delay_can_return() -> None:
    ((before, after),) = rounds_ms([{"at": "1 s", "delay": "100 ms"}, {"at": "5 s", "delay": "20 ms"}])
    assert before - after == pytest.approx(160, abs=1.0)


def test_a_group_is_slowed_alone_and_its_restarted_device_stays_slow() -> None:
    """All users of a batch wait for the slow one, so both have its rounds."""
    slow = {"at": "3 s", "delay": "100 ms", "devices": 1}
    killed = {"at": "4 s", "kill": "device-1", "back": "0.2 s"}
    both = rounds_ms([slow, killed], groups=2)
    assert [after - before for before, after in both] == pytest.approx([160, 160], abs=1.0)
