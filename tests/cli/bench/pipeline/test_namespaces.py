"""`python -m cli.bench.pipeline.namespaces`: links with a delay and a rate, what is counted, and the real model."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.bench.pipeline.namespaces.__main__ import Planned, acceptance, read_cases, run, spread
from cli.bench.pipeline.namespaces.flowspec import modelled_traffic
from cli.bench.pipeline.namespaces.link_check import hop_ms, mbit
from cli.bench.pipeline.namespaces.network import KINDS, Kind, Network, NoNamespaces, Shape
from cli.bench.pipeline.namespaces.runs import VARIANTS
from cli.bench.pipeline.namespaces.traffic import Count, counted, per_token
from cli.bench.pipeline.namespaces.userspace_link import HELD, DelayLine
from cli.command.errors import CommandError
from cli.models.store import folder as model_folder

CASES = Path(__file__).resolve().parents[4] / "tests/exactness/cases.json"
MODEL = "smollm2"
METRICS = """
# TYPE outrider_verifier_emitted_tokens counter
outrider_verifier_emitted_tokens_total 10
# TYPE outrider_verifier_stage_tokens counter
outrider_verifier_stage_tokens_total{stage="1"} 30
outrider_verifier_stage_tokens_total{stage="2"} 28
# TYPE outrider_verifier_stage_passes counter
outrider_verifier_stage_passes_total{stage="1"} 4
outrider_verifier_stage_passes_total{stage="2"} 4
# TYPE outrider_verifier_stage_sent_bytes counter
outrider_verifier_stage_sent_bytes_total{stage="0"} 3100
outrider_verifier_stage_sent_bytes_total{stage="1"} 3000
outrider_verifier_stage_sent_bytes_total{stage="2"} 2800
# TYPE outrider_verifier_draft_position counter
outrider_verifier_draft_position_total{fate="accepted",position="0"} 5
outrider_verifier_draft_position_total{fate="accepted",position="1"} 3
outrider_verifier_draft_position_total{fate="rejected",position="1"} 2
"""


def namespaces_or_skip(kind: Kind | None = None) -> None:
    try:
        with Network(2, Shape(1.0, 100.0), kind) as network:
            hop_ms(network, 0, 1)
    except NoNamespaces as error:
        pytest.skip(str(error))


def own_namespaces() -> list[str]:
    listed = subprocess.run(("ip", "netns"), capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if line.startswith("outrider-")]


def test_a_packet_waits_for_those_before_it_and_for_the_delay() -> None:
    line = DelayLine(0.003, 8e6)  # a byte in a microsecond
    assert line.wait_s(0.0) is None
    assert line.take(1, bytes(1000), 0.0)
    assert line.take(1, bytes([7]) * 1000, 0.0)
    assert line.take(2, bytes([9]) * 500, 0.0)
    assert line.wait_s(0.0) == pytest.approx(0.0035)
    assert line.arrived(0.0034) == []
    assert [packet[0] for packet in line.arrived(0.0041)] == [9, 0]
    assert [packet[0] for packet in line.arrived(0.0051)] == [7]
    assert line.wait_s(1.0) is None


def test_a_sender_has_so_many_packets_under_way_at_most() -> None:
    line = DelayLine(1.0, 1e9)
    assert all(line.take(1, b"x", 0.0) for _ in range(HELD))
    assert not line.take(1, b"x", 0.0)
    assert line.take(2, b"x", 0.0)
    assert len(line.arrived(2.0)) == HELD + 1
    assert line.take(1, b"x", 2.0)


def test_what_is_counted_per_token_leaves_the_prompts_out() -> None:
    found = counted(METRICS, 9900, 80)
    assert found == Count(10, 30, 58, 4, 8, 8900, 9900, 80, 8, 2)
    assert found.since(found) == Count()
    traffic = per_token(found, prompts=20, stages=2, row_bytes=100)
    assert traffic["first_rows"] == pytest.approx(1.0)
    assert traffic["rows"] == pytest.approx(1.8)
    assert traffic["messages"] == pytest.approx(1.2)
    assert traffic["bytes"] == pytest.approx(290.0)
    assert traffic["wire_bytes"] == pytest.approx(390.0)


def test_cases_are_spread_over_prompts_and_kinds() -> None:
    cases = read_cases(CASES)
    few = [case["id"] for case in spread(cases, 6)]
    assert len(few) == len(set(few)) == 6
    assert {name.rsplit("-", 1)[1] for name in few} == {"greedy", "warm", "nucleus"}
    assert spread(cases, 0) == spread(cases, 100) == cases
    with pytest.raises(CommandError, match="--cases"):
        read_cases(Path("no/such/file.json"))


def test_the_simulated_traffic_is_in_rows_of_the_target() -> None:
    plain, _, flowspec, _ = modelled_traffic(acceptance([]), 4, 3.0, 100.0, 2304, tokens=100)
    assert plain["rows"] == pytest.approx(4.0)
    assert 4 * 2304 < plain["bytes"] < 1.1 * 4 * 2304
    assert flowspec["rows"] > plain["rows"]
    assert flowspec["bytes"] == pytest.approx(2304 * flowspec["rows"], rel=0.1)


@pytest.fixture(params=KINDS)
def network(request: pytest.FixtureRequest) -> Iterator[Network]:
    namespaces_or_skip(request.param)
    with Network(3, Shape(20.0, 20.0), request.param) as made:
        yield made


@pytest.mark.slow
def test_links_have_the_delay_and_the_rate(network: Network) -> None:
    assert hop_ms(network, 1, 2) >= 20.0
    assert mbit(network, 0, 2) < 20.5
    size, packets = network.sent(0)
    assert size > 4_000_000
    assert packets > 0


@pytest.mark.slow
def test_nothing_stays_behind() -> None:
    namespaces_or_skip()
    with Network(2, Shape(1.0, 100.0)) as made:
        assert any(name.startswith(made.name(1)) for name in own_namespaces())
    assert not any(name.startswith(made.name(1)) for name in own_namespaces())


@pytest.mark.slow
@pytest.mark.model
@pytest.mark.timeout(900)
def test_ranks_with_slow_links_between_them_say_what_the_target_says(tmp_path: Path) -> None:
    namespaces_or_skip()
    if not model_folder(MODEL).stamp.is_file():
        pytest.skip(f"{MODEL} is not fetched (make models MODELS={MODEL})")
    cases = spread(read_cases(CASES), 6)
    body = run(2, Shape(3.0, 100.0), [Planned(variant, 4, cases) for variant in VARIANTS], tmp_path)
    assert [(row["variant"], row["different"]) for row in body["runs"]] == [
        (variant.name, []) for variant in VARIANTS
    ]
    assert all(row["counts"]["sent_bytes"] > 0 and row["rows"] >= 1.0 for row in body["runs"])
    assert body["links"]["measured_delay_ms"] >= 3.0
