"""A modelled pass costs what the planner's server says of it."""

import pytest

from shared.planning import paper_setting
from shared.planning.cost import Packed
from shared.planning.problem import PackedServer, PaddedServer
from simulator.pass_cost import PassCost
from tests.simulator.runs import shipped

PAPER = PassCost(PaddedServer(paper_setting.SERVER))


def test_packed_counts_every_token_that_is_fed() -> None:
    law = Packed(30.0, 2.0, 0.01)
    rows = [(4, 100), (1, 50)]
    assert PassCost(PackedServer(law)).cost_ms(rows) == pytest.approx(law.cost_ms(rows))
    assert PassCost(PackedServer(law)).cost_ms([]) == 0.0


def test_padded_counts_drafts_as_the_paper_does() -> None:
    """Three drafted tokens are four fed ones; a row without a draft costs one."""
    problem = paper_setting.equal_users(14)
    seven = float(problem.server.verify_ms(7, 3, 21, 512, 7 * 512))
    assert PAPER.cost_ms([(4, 512)] * 7) == pytest.approx(seven)
    alone = 1e3 / paper_setting.autoregressive_tokens_per_s(problem)
    assert PAPER.cost_ms([(1, 512)]) == PAPER.cost_ms([(2, 512)]) == pytest.approx(alone)


def test_the_papers_scenario_has_the_papers_laws() -> None:
    scenario = shipped("dip-sd-paper")
    assert scenario.core.pass_cost == PassCost(PaddedServer(paper_setting.SERVER, paper_setting.MEMORY_BYTES))
    (group,) = scenario.devices
    assert group.alpha is not None
    assert (group.count, group.alpha.low) == (14, paper_setting.ALPHA)
    assert group.draft.ms_at(0, 0) == pytest.approx(paper_setting.draft_ms())
    assert 2 * group.link.delay.ms_at(0, 0) == paper_setting.COMM_MS
    assert (scenario.core.hop.low, scenario.feed.low) == (0.0, 0.0)
