"""A run's requests: fixed by the seed, each strategy by itself."""

from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from loadgen.workload.arrivals import constant_rate
from loadgen.workload.lengths import LengthError, parse_lengths
from loadgen.workload.prompt_source import PromptError, Synthetic, of_file, of_kinds
from loadgen.workload.schedule import (
    GroupError,
    RequestGroup,
    Workload,
    generate_requests,
    open_schedule,
    parse_group,
    trace_schedule,
)
from loadgen.workload.trace import read_trace

TRACES = Path(__file__).parents[1] / "traces"


def workload() -> Workload:
    return Workload("m", of_kinds(), parse_lengths("64"), parse_lengths("16..64"))


def test_a_seed_fixes_everything() -> None:
    first, second = (
        open_schedule(workload(), 3, constant_rate(5.0), "poisson", 1.0, 40, None) for _ in range(2)
    )
    assert first == second
    assert first != open_schedule(workload(), 4, constant_rate(5.0), "poisson", 1.0, 40, None)


def test_random_streams_are_independent() -> None:
    """To change the arrivals changes no prompt, to change the lengths no arrival."""
    one = open_schedule(workload(), 3, constant_rate(5.0), "poisson", 1.0, 40, None)
    other = open_schedule(
        replace(workload(), answer=parse_lengths("8")), 3, constant_rate(50.0), "gamma", 0.5, 40, None
    )
    assert [p.request.prompt for p in one] == [p.request.prompt for p in other]
    same = open_schedule(
        replace(workload(), prompts=Synthetic()), 3, constant_rate(5.0), "poisson", 1.0, 40, None
    )
    assert [p.at for p in one] == [p.at for p in same]
    assert [p.request.max_tokens for p in one] == [p.request.max_tokens for p in same]


def test_requests_and_seconds_limit_a_schedule() -> None:
    assert len(open_schedule(workload(), 3, constant_rate(5.0), "constant", 1.0, 7, None)) == 7
    assert len(open_schedule(workload(), 3, constant_rate(5.0), "constant", 1.0, 70, 2.0)) == 10


def test_every_bundled_prompt_is_used_before_any_repeats() -> None:
    requests = list(islice(generate_requests(replace(workload(), prompts=of_kinds(["code"])), 1), 80))
    assert {request.kind for request in requests} == {"code"}
    assert len({request.prompt for request in requests[:40]}) == 40


def test_groups_have_their_share_and_their_settings() -> None:
    groups = (parse_group("cold weight=3"), parse_group("warm temperature=0.8 top_p=0.9 answer=7"))
    requests = list(islice(generate_requests(replace(workload(), groups=groups), 1), 2000))
    warm = [request for request in requests if request.group == "warm"]
    assert 0.2 < len(warm) / len(requests) < 0.3
    assert {(r.temperature, r.top_p, r.max_tokens) for r in warm} == {(0.8, 0.9, 7)}


def test_a_trace_is_replayed_with_its_times_lengths_and_shared_prefixes() -> None:
    schedule = trace_schedule(
        replace(workload(), prompts=Synthetic()), 1, read_trace(TRACES / "mooncake.jsonl")
    )
    assert [planned.at for planned in schedule] == pytest.approx([0.0, 0.018, 1.0])
    assert [len(planned.request.prompt) for planned in schedule] == [1030, 700, 90]
    assert [planned.request.max_tokens for planned in schedule] == [52, 26, 1]
    first, second = schedule[0].request.prompt, schedule[1].request.prompt
    assert first[:512] == second[:512]  # hash id 46
    assert first[512:700] != second[512:700]
    assert schedule[0].request.raw


def test_a_file_of_prompts_may_name_kind_and_length(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "a", "kind": "short", "max_tokens": 3}\n\n{"prompt": "b"}\n')
    requests = list(islice(generate_requests(replace(workload(), prompts=of_file(path)), 1), 2))
    assert {(r.prompt, r.kind) for r in requests} == {("a", "short"), ("b", "file")}
    assert next(r.max_tokens for r in requests if r.prompt == "a") == 3


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no prompts"),
        ("{", "line 1: not JSON"),
        ('{"prompt": ""}', "line 1: no text"),
        ("[1]", "line 1: no text"),
        ('{"prompt": "a", "max_tokens": "x"}', "line 1: max_tokens is 'x'"),
    ],
)
def test_an_invalid_file_of_prompts_is_named(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text(text)
    with pytest.raises(PromptError, match=why):
        of_file(path)


def test_unknown_kinds_are_named() -> None:
    with pytest.raises(PromptError, match="no bundled prompts of kind poems; the kinds are chat, code"):
        of_kinds(["poems"])


@pytest.mark.parametrize("text", ["0", "-3", "x", "5..2", "1..x", "~", "128~0", "128~nan", "9999999"])
def test_invalid_lengths_are_refused(text: str) -> None:
    with pytest.raises(LengthError, match=r"128, 64\.\.256"):
        parse_lengths(text)


@pytest.mark.parametrize(
    "setting", ["weight=x", "speed=3", "temperature=3", "top_p=0", "weight=-1", "weight=nan"]
)
def test_invalid_groups_are_refused(setting: str) -> None:
    with pytest.raises(GroupError):
        parse_group(f"a {setting}")


def test_weights_must_have_a_positive_sum() -> None:
    with pytest.raises(GroupError, match="their sum more than 0"):
        next(generate_requests(replace(workload(), groups=(RequestGroup("a", 0.0),)), 1))
