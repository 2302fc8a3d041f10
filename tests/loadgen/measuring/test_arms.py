"""Interleaving: every arm once per repeat, without an order that favours one of them."""

from loadgen.measuring.arms import interleave, measure_arms, measure_arms_async, order


def test_every_repeat_has_every_arm_once_and_pairs_go_there_and_back() -> None:
    orders = ["".join(order("abc", repeat)) for repeat in range(6)]
    assert orders == ["abc", "cba", "bca", "acb", "cab", "bac"]
    assert "".join(interleave("abc", 6)) == "".join(orders)


def test_a_steady_drift_affects_all_arms_of_a_pair_of_repeats_alike() -> None:
    times = {arm: [at for at, now in enumerate(interleave("abcd", 2)) if now == arm] for arm in "abcd"}
    assert {sum(at) for at in times.values()} == {7}


def test_over_all_rotations_each_arm_is_first_and_last_equally_often() -> None:
    orders = [order("abcd", repeat) for repeat in range(8)]
    for place in (0, -1):
        assert sorted(one[place] for one in orders) == sorted("abcd" * 2)


async def test_results_stay_with_their_arm_in_the_order_of_the_repeats() -> None:
    measured: list[str] = []

    def measure(arm: str) -> int:
        measured.append(arm)
        return len(measured)

    async def measure_async(arm: str) -> int:
        return measure(arm)

    expected = {"a": [1, 4], "b": [2, 3]}
    assert measure_arms("ab", 2, measure) == expected
    measured.clear()
    assert await measure_arms_async("ab", 2, measure_async) == expected
