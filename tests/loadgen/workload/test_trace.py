"""Recorded traffic in the three formats."""

from pathlib import Path

import pytest

from loadgen.workload.trace import Arrival, TraceError, read_trace

TRACES = Path(__file__).parents[1] / "traces"


def test_mooncake_counts_in_milliseconds_and_names_its_blocks() -> None:
    assert read_trace(TRACES / "mooncake.jsonl") == [
        Arrival(0.0, 1030, 52, (46, 47, 48)),
        Arrival(pytest.approx(0.018), 700, 26, (46, 49)),  # type: ignore[arg-type]
        Arrival(1.0, 90, 1, (50,)),  # an answer has a token at least
    ]


def test_azure_has_timestamps_of_seven_digits() -> None:
    times = [arrival.at for arrival in read_trace(TRACES / "azure.csv")]
    assert times == pytest.approx([0.0, 4.314579, 4.541877], abs=1e-5)


def test_burstgpt_counts_in_seconds_and_time_can_be_stretched() -> None:
    assert read_trace(TRACES / "burstgpt.csv", 0.1) == [
        Arrival(0.0, 472, 18),
        Arrival(4.0, 1087, 230),
        Arrival(pytest.approx(11.3), 417, 276),  # type: ignore[arg-type]
    ]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a,b\n1,2\n", "unknown columns a, b; known: "),
        ("", "unknown columns"),
        ("Timestamp,Request tokens,Response tokens\n", "no requests"),
        ("Timestamp,Request tokens,Response tokens\n1,2,x\n", "line 2: invalid literal"),
        ("Timestamp,Request tokens,Response tokens\n1,-2,3\n", "line 2: -2 prompt"),
        ("Timestamp,Request tokens,Response tokens\n5,2,3\n1,2,3\n", "request 2 is earlier"),
        ('{"timestamp": 1, "input_length": 3}\n', "line 1: column 'output_length' is missing"),
        ('{"timestamp": 1', "line 1: not JSON"),
    ],
)
def test_an_invalid_trace_is_named(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "trace"
    path.write_text(text)
    with pytest.raises(TraceError, match=why):
        read_trace(path)


def test_a_time_scale_of_zero_is_refused() -> None:
    with pytest.raises(TraceError, match="time scale"):
        read_trace(TRACES / "azure.csv", 0.0)
