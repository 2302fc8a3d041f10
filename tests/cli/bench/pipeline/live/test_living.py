"""What a stage knows of dead rows."""

from cli.bench.pipeline.live.living import LivingRows
from simulator.pipeline.ring import Row


def row(node: int, parent: int, user: int = 0) -> Row:
    return Row(user, node, parent, 7, node)


def alive(living: LivingRows, *rows: Row) -> list[int]:
    return [one.node for one in rows if one in living]


ROWS = [row(0, -1), row(1, 0), row(2, 0), row(3, 1), row(4, 2), row(5, 3)]


def test_without_a_decision_all_rows_are_alive() -> None:
    living = LivingRows()
    living.add(ROWS)
    assert alive(living, *ROWS) == [0, 1, 2, 3, 4, 5]


def test_a_decision_leaves_the_root_and_what_is_below_it() -> None:
    living = LivingRows()
    living.add(ROWS)
    living.decide(0, 1)
    assert alive(living, *ROWS) == [1, 3, 5]


def test_rows_that_arrive_later_are_dead_with_their_parents() -> None:
    living = LivingRows()
    living.add(ROWS[:3])
    living.decide(0, 1)
    living.add(ROWS[3:])
    assert alive(living, *ROWS) == [1, 3, 5]


def test_a_new_tree_is_alive_and_the_old_one_is_not() -> None:
    living = LivingRows()
    living.add(ROWS)
    living.decide(0, 9)
    fresh = [row(9, -1), row(10, 9)]
    living.add(fresh)
    assert alive(living, *ROWS, *fresh) == [9, 10]


def test_a_root_that_never_passed_has_living_children() -> None:
    living = LivingRows()
    living.decide(0, 9)
    living.add([row(10, 9)])
    assert alive(living, row(10, 9)) == [10]


def test_users_are_apart_and_all_can_be_forgotten() -> None:
    living = LivingRows()
    living.add([row(1, 0), row(1, 0, user=1)])
    living.decide(0, 5)
    assert alive(living, row(1, 0)) == []
    assert alive(living, row(1, 0, user=1)) == [1]
    living.clear()
    living.add([row(1, 0)])
    assert alive(living, row(1, 0)) == [1]
