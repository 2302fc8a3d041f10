"""Counters and histograms that are read at each scrape show what Prometheus's own would."""

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from shared.runtime.tally import Tally, TallyHistogram


def lines(registry: CollectorRegistry) -> list[str]:
    """The page, without the times at which Prometheus's own series were made."""
    return sorted(line for line in generate_latest(registry).decode().splitlines() if "_created" not in line)


def test_a_tally_is_a_counter() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    tally = Tally("a_rounds", "Rounds", ("drafted", "position"), registry=ours)
    counter = Counter("a_rounds", "Rounds", ("drafted", "position"), registry=theirs)
    plain, plain_counter = Tally("b", "B", registry=ours), Counter("b", "B", registry=theirs)
    assert lines(ours) == lines(theirs)
    for amount, drafted, position in ((1, "yes", 1), (2.5, "yes", 1), (1, "no", 12)):
        tally.add(amount, drafted, position)
        counter.labels(drafted, position).inc(amount)
    plain.add(0.25)
    plain_counter.inc(0.25)
    assert lines(ours) == lines(theirs)


def test_a_tally_histogram_is_a_histogram() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    tally = TallyHistogram("c_seconds", "C", (0.0, 0.5, 1, 20.0), registry=ours)
    histogram = Histogram("c_seconds", "C", buckets=(0.0, 0.5, 1, 20.0), registry=theirs)
    assert lines(ours) == lines(theirs)
    for value in (0.0, 0.5, 0.50001, 1, 7, 20.0, 99.0):
        tally.observe(value)
        histogram.observe(value)
    assert lines(ours) == lines(theirs)
