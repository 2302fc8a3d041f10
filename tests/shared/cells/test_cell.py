"""A cell's transfers: when they end, what they share, and that nothing is lost or overtaken."""

from collections import defaultdict
from math import inf, nan

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.cells.cell import DIRECTIONS, MAX_WAITING, Arrival, Cell, Direction
from shared.cells.sharing import MIN_BITS_S, SHARINGS, Sharing, given_widths

NAMES = ("a", "b", "c", "d")
SHARES = {"a": 500.0, "b": 300.0, "c": 0.0, "d": 200.0}
BAND = 1000.0


def cell(sharing: Sharing, etas: dict[str, float], duplex: bool = False) -> Cell:
    made = Cell(BAND, sharing, duplex)
    for name, eta in etas.items():
        made.join(name, eta, 0.0)
    return made


def until_idle(made: Cell) -> list[Arrival]:
    found = []
    while (at := made.next_at()) < inf:
        found += made.take(at)
    return found


# --- known answers ----------------------------------------------------------------------------------
def test_an_equal_share_is_the_same_whether_others_transfer_or_not() -> None:
    made = cell("equal", {"a": 1.0, "b": 0.1})
    made.send("a", "up", 1000, 0.0)
    made.send("b", "up", 100, 0.0)
    assert until_idle(made) == [("a", "up", 2.0), ("b", "up", 2.0)]


def test_contention_gives_an_idle_members_time_to_the_others() -> None:
    made = cell("contention", {"a": 1.0, "b": 1.0, "c": 1.0})
    made.send("a", "up", 1000, 0.0)
    assert made.take(0.5) == []
    made.send("b", "up", 250, 0.5)  # a has 500 left, both go on at 500 bit/s
    assert until_idle(made) == [("b", "up", 1.0), ("a", "up", 1.25)]


def test_given_shares_change_in_mid_transfer() -> None:
    made = cell("shares", {"a": 2.0, "b": 1.0})
    made.give({"a": 250.0, "b": 750.0}, 0.0)
    made.send("a", "up", 1000, 0.0)  # at 500 bit/s
    made.give({"a": 500.0, "b": 500.0}, 1.0)  # 500 left, at 1000 bit/s
    assert until_idle(made) == [("a", "up", 1.5)]


def test_both_ways_share_a_members_width_but_not_in_duplex() -> None:
    for duplex, end in ((False, 2.0), (True, 1.0)):
        made = cell("equal", {"a": 1.0}, duplex)
        made.send("a", "up", 1000, 0.0)
        made.send("a", "down", 1000, 0.0)
        assert until_idle(made) == [("a", "up", end), ("a", "down", end)]


def test_who_joins_or_leaves_changes_the_rates_of_the_others() -> None:
    made = cell("equal", {"a": 1.0})
    made.send("a", "up", 1000, 0.0)
    made.join("b", 1.0, 0.5)  # 500 left, at 500 bit/s
    made.send("b", "up", 1e6, 0.5)
    made.leave("b", 1.0)  # 250 left, at 1000 bit/s; b's transfer is lost
    assert until_idle(made) == [("a", "up", 1.25)]
    made.join("b", 1.0, 2.0)
    assert made.next_at() == inf
    assert made.usage(2.0)["b"].up_bits == 250


def test_processor_sharing_ends_when_it_must() -> None:
    """Transfers of works w begun together end at Σ_j min(w_j, w_i) / B."""
    works = {"a": 100.0, "b": 700.0, "c": 300.0, "d": 300.0}
    etas = {"a": 1.0, "b": 0.1, "c": 3.0, "d": 0.5}
    made = cell("contention", etas)
    for name, work in works.items():
        made.send(name, "up", work * etas[name], 0.0)
    ends = {arrival.member: arrival.at for arrival in until_idle(made)}
    assert ends == pytest.approx(
        {name: sum(min(other, work) for other in works.values()) / BAND for name, work in works.items()}
    )


def test_a_share_of_zero_still_lets_control_messages_through() -> None:
    made = Cell(1e6, "shares")
    made.join("a", 1.0, 0.0)
    made.join("b", 2.0, 0.0)
    made.give({"a": 1e6, "b": 0.0}, 0.0)
    made.send("b", "up", 2 * MIN_BITS_S, 0.0)
    assert until_idle(made) == [("b", "up", pytest.approx(2.0))]
    assert sum(made.widths().values()) <= 1e6


def test_more_waiting_than_a_queue_holds_end_with_its_last() -> None:
    made = cell("equal", {"a": 1.0})
    for _ in range(MAX_WAITING + 10):
        made.send("a", "up", 1, 0.0)
    arrived = until_idle(made)
    assert len(arrived) == MAX_WAITING + 10
    assert {arrival.at for arrival in arrived[-11:]} == {arrived[-1].at}


def test_impossible_cells_are_refused_by_name() -> None:
    for band in (0.0, -1.0, nan, inf):
        with pytest.raises(ValueError, match="bandwidth"):
            Cell(band, "equal")
    made = cell("shares", {"a": 1.0})
    for eta in (0.0, -1.0, nan, inf):
        with pytest.raises(ValueError, match="eta of b"):
            made.join("b", eta, 0.0)
    for shares, why in (({"a": -1.0}, "share of a"), ({"a": nan}, "share of a"), ({"a": 2000.0}, "2000")):
        with pytest.raises(ValueError, match=why):
            made.give(shares, 0.0)
    with pytest.raises(ValueError, match="contention"):
        cell("contention", {"a": 1.0}).give({}, 0.0)
    with pytest.raises(ValueError, match="-3"):
        made.send("a", "up", -3, 0.0)


# --- properties -------------------------------------------------------------------------------------
sends = st.tuples(st.just("send"), st.sampled_from(NAMES), st.sampled_from(DIRECTIONS), st.integers(0, 5000))
moves = st.tuples(
    st.sampled_from(["join", "leave", "drop"]), st.sampled_from(NAMES), st.just("up"), st.just(0)
)
gives = st.tuples(st.just("give"), st.permutations(list(SHARES.values())), st.just(""), st.just(0))
pauses = st.floats(0, 3)
settled = settings(max_examples=200, deadline=None)


class Play:
    """A cell and what has been asked of it, by direction of each member."""

    def __init__(self, sharing: Sharing, duplex: bool, etas: list[float]) -> None:
        self.etas = dict(zip(NAMES, etas, strict=True))
        self.cell = cell(sharing, self.etas, duplex)
        self.members = set(NAMES)
        self.sent: dict[tuple[str, Direction], list[float]] = defaultdict(list)
        self.arrived: list[Arrival] = []
        self.now = 0.0

    def do(self, step: tuple[str, object, Direction, int], pause: float) -> None:
        kind, who, direction, bits = step
        name = str(who)
        match kind:
            case "send" if name in self.members:
                self.cell.send(name, direction, bits, self.now)
                self.sent[name, direction].append(bits)
            case "join":
                self.cell.join(name, self.etas[name], self.now)
                self.members.add(name)
            case "leave":
                self.cell.leave(name, self.now)
                self.members.discard(name)
            case "drop":
                self.cell.drop(name, direction, self.now)
            case "give" if self.cell.sharing == "shares" and isinstance(who, list):
                self.cell.give(dict(zip(NAMES, who, strict=True)), self.now)
        self.now += pause
        self.arrived += self.cell.take(self.now)


plays = st.builds(
    Play,
    st.sampled_from(SHARINGS),
    st.booleans(),
    st.lists(st.sampled_from([0.1, 0.5, 1.0, 3.0]), min_size=4, max_size=4),
)
any_steps = st.lists(st.tuples(st.one_of(sends, sends, moves, gives), pauses), max_size=25)
safe_steps = st.lists(st.tuples(st.one_of(sends, sends, gives), pauses), max_size=25)


@settled
@given(plays, any_steps)
def test_the_band_is_never_exceeded(
    play: Play, steps: list[tuple[tuple[str, object, Direction, int], float]]
) -> None:
    for step, pause in steps:
        play.do(step, pause)
        widths: dict[str, float] = defaultdict(float)
        for (name, direction), rate in play.cell.rates().items():
            assert rate > 0
            widths[direction if len(play.cell.bands) == 2 else ""] += rate / play.etas[name]
        assert all(width <= BAND * (1 + 1e-9) for width in widths.values())
        assert sum(play.cell.widths().values()) <= len(play.cell.bands) * BAND * (1 + 1e-9)
    used = sum(usage.hz_s for usage in play.cell.usage(play.now).values())
    assert used <= len(play.cell.bands) * BAND * play.now * (1 + 1e-9)


@settled
@given(plays, safe_steps)
def test_every_bit_arrives_once_in_order_and_costs_its_band(
    play: Play, steps: list[tuple[tuple[str, object, Direction, int], float]]
) -> None:
    for step, pause in steps:
        play.do(step, pause)
    play.arrived += until_idle(play.cell)
    end = max([play.now, *(arrival.at for arrival in play.arrived)])
    usage = play.cell.usage(end)
    for (name, direction), bits in play.sent.items():
        of_flow = [at for who, way, at in play.arrived if (who, way) == (name, direction)]
        assert len(of_flow) == len(bits)
        assert of_flow == sorted(of_flow)
        carried = usage[name].up_bits if direction == "up" else usage[name].down_bits
        assert carried == pytest.approx(sum(bits), rel=1e-9, abs=1e-6)
    for name, eta in play.etas.items():
        had = usage[name]
        assert had.hz_s * eta == pytest.approx(had.up_bits + had.down_bits, rel=1e-9, abs=1e-6)


@settled
@given(
    st.lists(st.tuples(sends, pauses), max_size=25),
    st.lists(st.sampled_from([0.1, 1.0, 3.0]), min_size=4, max_size=4),
)
def test_contention_leaves_no_time_unused(
    steps: list[tuple[tuple[str, object, Direction, int], float]], etas: list[float]
) -> None:
    """While anything is left to transfer the whole band is in use: the last end follows from the works alone."""
    play, idle_at, put_at = Play("contention", False, etas), 0.0, 0.0
    for step, pause in steps:
        idle_at = max(idle_at, put_at) + step[3] / play.etas[str(step[1])] / BAND
        put_at += pause
        play.do(step, pause)
    play.arrived += until_idle(play.cell)
    if play.arrived:
        assert max(arrival.at for arrival in play.arrived) == pytest.approx(idle_at, rel=1e-9, abs=1e-9)


@settled
@given(plays, safe_steps, st.integers(2, 7))
def test_looking_more_often_changes_nothing(
    play: Play, steps: list[tuple[tuple[str, object, Direction, int], float]], looks: int
) -> None:
    other = Play(play.cell.sharing, len(play.cell.bands) == 2, list(play.etas.values()))
    for step, pause in steps:
        play.do(step, pause)
        other.do(step, 0.0)
        for n in range(1, looks):
            other.arrived += other.cell.take(other.now + n * pause / looks)
        other.now = play.now
        other.arrived += other.cell.take(other.now)
    ends = {which: sorted(which.arrived + until_idle(which.cell)) for which in (play, other)}
    assert [arrival[:2] for arrival in ends[play]] == [arrival[:2] for arrival in ends[other]]
    assert [arrival.at for arrival in ends[play]] == pytest.approx(
        [arrival.at for arrival in ends[other]], rel=1e-6, abs=1e-6
    )


@settled
@given(
    st.dictionaries(st.sampled_from(NAMES), st.floats(0.01, 100), min_size=1),
    st.lists(st.floats(0, 1), min_size=4, max_size=4),
    st.floats(10, 1e8),
)
def test_shares_are_kept_or_cut_for_the_least_of_others(
    etas: dict[str, float], parts: list[float], band: float
) -> None:
    whole = max(1.0, sum(parts))
    shares = {name: band * part / whole for name, part in zip(NAMES, parts, strict=True) if name in etas}
    widths = given_widths(band, etas, shares)
    assert widths.keys() == etas.keys()
    assert sum(widths.values()) <= band * (1 + 1e-9)
    for name, eta in etas.items():
        assert widths[name] * eta >= min(MIN_BITS_S, 0.1 * band / len(etas) * eta) * (1 - 1e-9)
        assert widths[name] >= 0.9 * shares[name] * (1 - 1e-9)


def test_one_member_may_be_given_another_width_and_too_much_together_is_scaled() -> None:
    made = cell("shares", {"a": 1.0, "b": 1.0})
    made.give({"a": 500.0, "b": 500.0}, 0.0)
    made.keep("a", 1000.0, 1.0)
    widths = made.widths()
    assert sum(widths.values()) == pytest.approx(made.band_hz)
    assert widths["a"] > 1.5 * widths["b"]
    made.keep("b", 0.0, 2.0)
    assert made.widths()["b"] > 0
    made.keep("b", 1e30, 3.0)
    assert made.widths()["a"] == pytest.approx(made.widths()["b"])
    with pytest.raises(ValueError, match="only a cell with sharing shares"):
        cell("equal", {"a": 1.0}).keep("a", 1.0, 0.0)
