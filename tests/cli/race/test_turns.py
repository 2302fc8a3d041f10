"""Turns: everybody once a repeat, and nobody always first."""

from cli.race.turns import by_turns


async def test_the_order_rotates_and_results_stay_with_their_entrant() -> None:
    order: list[str] = []

    async def run(entrant: str) -> int:
        order.append(entrant)
        return len(order)

    runs = await by_turns("abc", 4, run)
    assert "".join(order) == "abc" + "bca" + "cab" + "abc"
    assert runs == {"a": [1, 6, 8, 10], "b": [2, 4, 9, 11], "c": [3, 5, 7, 12]}
