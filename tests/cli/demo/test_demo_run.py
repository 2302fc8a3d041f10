"""The order of the demo: what can fail comes before the reference's minutes."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from cli.command.errors import CommandError, ProcessFailed
from cli.demo import local_drafts, run
from cli.demo.run import Demo, beside, raise_if_wrong, run_demo
from cli.stack.stack import StackOptions
from loadgen.request import ChatRequest, Record


class Stack:
    """A stack that fails where `fails` says: "start", "serve" or not at all."""

    fails = ""

    def __init__(self, options: StackOptions) -> None:
        self.options, self.looks = options, 0

    async def __aenter__(self) -> "Stack":
        if self.fails == "start":
            raise ProcessFailed("draft-worker-0 ended with SIGILL")
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    def raise_if_failed(self) -> None:
        self.looks += 1
        if self.fails == "serve":
            raise ProcessFailed("verifier ended")


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the demo does, in its order; the reference is the last of it here."""
    seen: list[str] = []

    async def check(stack: Stack, requests: object) -> None:
        seen.append("proof")

    async def reference(*_: object) -> dict[str, Any]:
        seen.append("reference")
        raise CommandError("far enough")

    monkeypatch.setattr(run, "LocalStack", Stack)
    monkeypatch.setattr(local_drafts, "check", check)
    monkeypatch.setattr(run, "reference", reference)
    return seen


def demo(folder: Path) -> Demo:
    return Demo(folder, folder / "draft.gguf", "m", 8, 64, 1, folder / "out.json", folder)


async def test_the_reference_waits_for_a_stack_that_drafts(events: list[str], tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="far enough"):
        await run_demo(demo(tmp_path))
    assert events == ["proof", "reference"]


async def test_a_stack_that_does_not_start_costs_no_reference(
    events: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Stack, "fails", "start")
    with pytest.raises(ProcessFailed, match="SIGILL"):
        await run_demo(demo(tmp_path))
    assert events == []


async def test_devices_that_do_not_draft_cost_no_reference(
    events: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def check(stack: Stack, requests: object) -> None:
        raise CommandError("no device drafted a token")

    monkeypatch.setattr(local_drafts, "check", check)
    with pytest.raises(CommandError, match="no device drafted"):
        await run_demo(demo(tmp_path))
    assert events == []


async def test_work_ends_at_once_when_the_stack_fails_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "CHECK_S", 0.01)
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    monkeypatch.setattr(Stack, "fails", "serve")
    async with asyncio.timeout(5):
        with pytest.raises(ProcessFailed, match="verifier ended"):
            await beside(Stack(StackOptions()), work())  # type: ignore[arg-type]
    assert ended.is_set()


async def test_work_beside_a_sound_stack_returns_what_it_found() -> None:
    async def work() -> int:
        await asyncio.sleep(0)
        return 7

    assert await beside(Stack(StackOptions()), work()) == 7  # type: ignore[arg-type]


def record(drafted: int, accepted: int) -> Record:
    found = Record(ChatRequest("user-1", "m", "p", 8), 0.0, 0.0)
    found.drafted_tokens, found.accepted_tokens = drafted, accepted
    return found


def test_devices_have_to_draft_what_the_target_accepts(tmp_path: Path) -> None:
    local_drafts.require_drafts([record(4, 0), record(4, 1)], tmp_path)
    with pytest.raises(CommandError, match=r"no device drafted a token, see .*draft-worker"):
        local_drafts.require_drafts([record(0, 0)], tmp_path)
    with pytest.raises(CommandError, match="accepted none of 9 drafted tokens"):
        local_drafts.require_drafts([record(4, 0), record(5, 0)], tmp_path)


def test_a_wrong_text_in_either_half_is_an_error_and_nothing_to_check_is_none() -> None:
    def halves(mine: bool | None, emulated: bool | None) -> dict[str, dict[str, dict[str, Any]]]:
        return {
            "this_machine": {"fixed-k": {"identical_to_reference": mine}},
            "emulated": {"outrider": {"identical_to_reference": emulated}},
        }

    raise_if_wrong(halves(True, None))
    with pytest.raises(CommandError, match=r"under outrider \(emulated\)"):
        raise_if_wrong(halves(True, False))
    with pytest.raises(CommandError, match=r"under fixed-k \(this machine\)"):
        raise_if_wrong(halves(False, True))
