"""`outrider status`: values that it computes from the gateway's responses."""

from pathlib import Path

from cli.status import given_up
from shared.runtime.stack_state import claim, write_state
from tests.shared.runtime.test_stack_state import state


def test_devices_that_were_given_up_are_shown_with_the_reason(tmp_path: Path) -> None:
    assert given_up(None).plain == given_up(tmp_path).plain == ""
    lock = claim(tmp_path)
    write_state(tmp_path, state(given_up={"draft-worker-0": "draft-worker-0 ended with code 4: superseded"}))
    assert given_up(tmp_path).plain == "given up: draft-worker-0 ended with code 4: superseded"
    lock.release()
    assert given_up(tmp_path).plain == ""
