"""The attention that transformers is given."""

from collections.abc import Mapping
from typing import Any, cast

import pytest

from cli.baseline import Baseline, BaselineAnswer
from cli.race.attention import best_attention


class Timed:
    """Answers every job in the time its attention takes."""

    def __init__(self, seconds: Mapping[str, float]) -> None:
        self.seconds, self.jobs = seconds, list[Mapping[str, Any]]()

    async def ask(self, job: Mapping[str, Any]) -> BaselineAnswer:
        self.jobs.append(job)
        return BaselineAnswer([], self.seconds[job["attention"]])


@pytest.mark.parametrize(("sdpa", "eager", "best"), [(2.0, 1.0, "eager"), (1.0, 2.0, "sdpa")])
async def test_the_faster_one_for_all_prompts_is_what_stays(sdpa: float, eager: float, best: str) -> None:
    baseline = Timed({"sdpa": sdpa, "eager": eager})
    await best_attention(cast(Baseline, baseline), ["a", "b"], raw=False)
    assert [job["prompts"] for job in baseline.jobs[:2]] == [["a", "b"]] * 2
    assert baseline.jobs[-1]["attention"] == best
    assert not baseline.jobs[-1]["raw"]
