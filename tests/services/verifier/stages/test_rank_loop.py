"""A rank's loop from group to group: when it joins the next one, and what it tells the others."""

import asyncio
from typing import Any

import pytest

from services.verifier.passes import PassesEnded
from services.verifier.stages.link import LinkBroken
from services.verifier.stages.member import Member
from services.verifier.stages.messages import Failed
from services.verifier.stages.rank_loop import serve_once, unless, weightiest
from services.verifier.stages.stage import RankFailed, RankUnfit
from shared.runtime.presence import Superseded
from shared.runtime.service import BadFile
from shared.runtime.settings import SettingsError

STAGE = Member(1, 3, "127.0.0.1", 29500)
FRONT = Member(0, 3, "127.0.0.1", 29500)
LOST = LinkBroken("rank 2 is gone")
FAILED = RankFailed(Failed(2, "no memory"))
UNFIT = RankUnfit(Failed(2, "differs from rank 0", final=True))


class Left:
    """Links that remember what was said at the end."""

    def __init__(self) -> None:
        self.notices: list[Failed | None] = []

    async def leave(self, notice: Failed | None) -> None:
        self.notices.append(notice)


class Serving:
    """A role that ends like this."""

    def __init__(self, error: BaseException | None = None) -> None:
        self._error = error

    async def serve(self, *_: object) -> None:
        if self._error is not None:
            raise self._error


async def once(
    me: Member, error: BaseException | None = None, stopped: bool = False
) -> tuple[bool, Failed | None]:
    """Whether it joins again, and its notice to the next rank."""
    links, stop = Left(), asyncio.Event()
    if stopped:
        stop.set()
    again = await serve_once(Serving(error), me, links, stop)  # type: ignore[arg-type]  # all that is used of links
    (notice,) = links.notices
    return again, notice


async def test_a_stage_whose_rank_0_has_ended_waits_for_the_next_one() -> None:
    assert await once(STAGE) == (True, None)
    assert await once(FRONT) == (False, None)


async def test_those_that_are_left_join_the_next_group_and_say_who_is_gone() -> None:
    for me in (FRONT, STAGE):
        assert await once(me, LOST) == (True, Failed(me.rank, "rank 2 is gone"))
        assert await once(me, ExceptionGroup("", [PassesEnded("gone"), LOST, FAILED])) == (
            True,
            None,
        )


async def test_one_that_was_told_to_stop_does_not() -> None:
    assert await once(STAGE, LOST, stopped=True) == (False, Failed(1, "rank 2 is gone"))


@pytest.mark.parametrize(
    ("error", "final"),
    [
        (Superseded("newer"), False),
        (SettingsError("wrong"), True),
        (BadFile("missing"), True),
        (KeyError("bug"), False),
    ],
)
async def test_what_another_group_would_not_mend_is_raised(error: Exception, final: bool) -> None:
    links = Left()
    with pytest.raises(type(error)):
        await serve_once(Serving(ExceptionGroup("", [LOST, error])), FRONT, links, asyncio.Event())  # type: ignore[arg-type]
    (notice,) = links.notices
    assert notice is not None
    assert notice.final is final


async def test_all_end_where_one_does_not_fit() -> None:
    links = Left()
    with pytest.raises(RankUnfit):
        await serve_once(Serving(UNFIT), STAGE, links, asyncio.Event())  # type: ignore[arg-type]
    assert links.notices == [None]


async def test_a_rank_that_failed_itself_starts_anew() -> None:
    with pytest.raises(RankFailed):
        await once(Member(2, 3, "127.0.0.1", 29500), FAILED)


async def test_under_torchrun_all_end() -> None:
    with pytest.raises(LinkBroken):
        await once(Member(1, 3, "127.0.0.1", 29500, elastic=True), LOST)
    assert await once(Member(1, 3, "127.0.0.1", 29500, elastic=True)) == (False, None)


def test_the_error_that_says_most() -> None:
    unexpected = KeyError("a bug")
    nested: Any = ExceptionGroup("", [PassesEnded("gone"), ExceptionGroup("", [LOST, FAILED])])
    assert weightiest(nested) is FAILED
    assert weightiest(ExceptionGroup("", [nested, unexpected])) is unexpected
    assert weightiest(ExceptionGroup("", [PassesEnded("gone"), LOST])) is LOST
    assert weightiest(LOST) is LOST


async def test_work_ends_with_its_result_or_with_stop() -> None:
    stop = asyncio.Event()

    async def work(seconds: float) -> int:
        await asyncio.sleep(seconds)
        return 7

    assert await unless(work(0), stop) == 7
    stop.set()
    assert await unless(work(1000), stop) is None
