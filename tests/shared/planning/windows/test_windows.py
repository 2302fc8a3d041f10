"""Window controllers: what they decide after which rounds, and at which load."""

from dataclasses import replace

import numpy as np
import pytest

from shared.planning.windows import WINDOW_NAMES, UnknownWindow, make_window
from shared.planning.windows.rates import predicted_rates, stop_byte, token_price
from shared.planning.windows.setpoint import DECIDE_EVERY
from shared.planning.windows.window import MAX_K, Decision, RoundOutcome
from tests.shared.planning.windows.loads import load, view


def rounds(name: str, k: int, outcomes: list[tuple[int, int]]) -> Decision:
    """The decision after rounds of (drafted, accepted) tokens."""
    window = make_window(name, k)
    for drafted, accepted in outcomes:
        window.observe("a", RoundOutcome(drafted, drafted, accepted, 0.1))
    return window.decide(view(), load(view()))


@pytest.mark.parametrize("name", WINDOW_NAMES)
def test_every_controller_decides_within_bounds_and_forgets(name: str) -> None:
    window = make_window(name, 4)
    for accepted in (4, 0, 2, 4, 4, 1):
        window.observe("a", RoundOutcome(4, 4, accepted, 0.1))
        decision = window.decide(view(), load(view(), view("b")))
        assert 0 <= decision.k <= MAX_K
        assert (decision.mode == "none") == (decision.k == 0)
    window.forget("a")
    window.forget("nobody")
    assert window.name == name


def test_an_unknown_controller_is_refused_by_name() -> None:
    with pytest.raises(UnknownWindow, match="no such window controller; known are static"):
        make_window("awk")


def test_the_oracle_is_refused_by_name() -> None:
    with pytest.raises(UnknownWindow, match="'oracle': only a simulation knows what drafts will be"):
        make_window("oracle")


def test_threshold_leaves_it_to_the_device_to_stop() -> None:
    assert rounds("threshold", 4, [(4, 0)]) == Decision("distributed", MAX_K, stop_below=76)


def test_backoff_jumps_between_the_bounds() -> None:
    assert rounds("backoff", 4, []).k == 4
    assert rounds("backoff", 4, [(4, 1)]).k == 1
    assert rounds("backoff", 4, [(4, 2)]).k == 4
    assert rounds("backoff", 4, [(4, 1), (1, 1)]).k == MAX_K


def test_ema_grows_on_whole_drafts_and_shrinks_on_rejected_ones() -> None:
    assert rounds("ema", 4, [(4, 4)] * 30).k > 4
    assert rounds("ema", 4, [(4, 0)] * 10).k < 4
    assert rounds("ema", 4, [(4, 3)] * 100).k == 4  # neither: it does not flutter


def test_ema_stops_where_nothing_is_accepted_and_probes() -> None:
    never = [(4, 0)] * 60
    assert rounds("ema", 4, never) == Decision("none", 0)
    assert rounds("ema", 4, [*never, *[(0, 0)] * 16]).k == 1
    assert rounds("ema", 4, [*never, *[(1, 1)] * 10]).k >= 1


def test_goodput_is_the_argmax_over_all_lengths() -> None:
    """By brute force: tokens of both sessions over the slower one's drafting and one pass over both."""
    both = (view("a", 0.9, 4.0, 6.0), view("b", 0.7, 8.0, 2.0))
    rates = predicted_rates(load(*both))
    expected = [
        sum(sum(s.alpha**i for i in range(k + 1)) for s in both)
        / (30.0 + 2 * (k + 1) + (max(6.0 + 4.0 * k, 2.0 + 8.0 * k) if k else 0.0))
        for k in range(MAX_K + 1)
    ]
    assert rates == pytest.approx(expected)
    assert make_window("goodput").decide(both[0], load(*both)).k == int(np.argmax(expected))


def test_goodput_lets_a_device_stop_where_the_next_token_is_not_worth_its_part_of_the_pass() -> None:
    own_word = view(alpha=0.5)
    assert stop_byte(own_word, 0.0) == 0
    assert stop_byte(own_word, 0.2) == 96  # survival of 0.4, in bins of 16
    assert stop_byte(own_word, 0.6) == 240  # never worth it: one token, and no more
    proved_worse = replace(own_word, survival=tuple(0.5 * s for s in own_word.survival))
    assert stop_byte(proved_worse, 0.2) > stop_byte(own_word, 0.2)

    cheap, dear = (load(view(), view("b"), per_token_ms=ms) for ms in (0.1, 3.0))
    assert token_price(dear, 4) == pytest.approx(predicted_rates(dear)[4] * 3.0)
    stops = [make_window("goodput").decide(view(), at).stop_below for at in (cheap, dear)]
    assert 0 <= stops[0] < stops[1] < 255


def test_goodput_drafts_further_the_surer_and_not_at_all_where_it_does_not_pay() -> None:
    def k(alpha: float, draft_ms: float = 5.0, link_ms: float = 4.0) -> int:
        one = view("a", alpha, draft_ms, link_ms)
        return make_window("goodput").decide(one, load(one)).k

    assert 0 < k(0.6) < k(0.95)
    assert k(0.6, link_ms=300.0) == 0
    assert k(0.3, draft_ms=40.0) == 0


def test_goodput_keeps_its_length_for_a_while_and_then_takes_a_clearly_better_one() -> None:
    window, poor, sure = make_window("goodput"), view(alpha=0.05, draft_ms=40.0), view(alpha=0.95)
    assert window.decide(poor, load(poor, step=1)).k == 0
    assert window.decide(sure, load(sure, step=1 + DECIDE_EVERY - 1)).k == 0
    assert window.decide(sure, load(sure, step=1 + DECIDE_EVERY)).k > 1


def test_goodput_drafts_to_learn_where_no_draft_seems_to_pay_but_little_is_known() -> None:
    """Here a draft pays from α = 0.75 on."""
    window = make_window("goodput")
    unknown = replace(view(alpha=0.7, draft_ms=8.0, link_ms=30.0), seen=0.0)
    assert predicted_rates(load(unknown)).argmax() == 0
    assert window.decide(unknown, load(unknown, step=1)).k > 0
    known = replace(unknown, seen=400.0)
    assert window.decide(known, load(known, step=1 + DECIDE_EVERY)).k == 0
    better = replace(known, alpha=0.85)
    assert window.decide(better, load(better, step=1 + 2 * DECIDE_EVERY)).k > 0


def test_goodput_probes_ever_less_often_and_all_sessions_at_once() -> None:
    window, a, b = make_window("goodput"), *(view(name, 0.05, 40.0) for name in "ab")
    probes = []
    for step in range(400):
        lengths = {window.decide(one, load(a, b, step=step)).k for one in (a, b)}
        assert len(lengths) == 1
        probes += [step] if lengths == {1} else []
    pauses = np.diff(probes)
    assert len(probes) >= 3
    assert (pauses[1:] > 1.5 * pauses[:-1]).all()
