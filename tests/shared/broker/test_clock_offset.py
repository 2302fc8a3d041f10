"""The broker's clock against our own."""

from shared.broker.clock_offset import REMEMBERED, ClockOffset


def test_the_quickest_exchange_counts() -> None:
    clock = ClockOffset()
    assert clock.us == 0
    clock.observe(10.0, 10.4, 1_010_300_000)  # 100 ms askew, as its round trip allows
    assert clock.us == 1_000_100_000
    clock.observe(11.0, 11.002, 1_011_001_000)
    clock.observe(12.0, 12.8, 1_012_000_000)
    assert clock.us == 1_000_000_000


def test_old_exchanges_are_forgotten_since_clocks_drift() -> None:
    clock = ClockOffset()
    clock.observe(1.0, 1.001, 5_000_000)
    for second in range(2, 2 + REMEMBERED):
        clock.observe(second, second + 0.01, second * 1_000_000 + 5_000)
    assert clock.us == 0
