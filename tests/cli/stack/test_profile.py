"""The profile with which a stack plans."""

from pathlib import Path

from cli.stack.profile import profile_for
from tests.shared.planning.test_profile import PROFILE, write


def test_a_profile_of_the_model_is_taken(tmp_path: Path) -> None:
    path = write(tmp_path / "profile.json", PROFILE)
    taken, remark = profile_for(PROFILE["model"], path)
    assert taken == str(path.resolve())
    assert "planning with" in remark


def test_none_another_s_and_a_broken_one_are_not(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    assert profile_for("m", path) == ("", "")
    write(path, PROFILE)
    assert profile_for("another", path)[0] == ""
    path.write_text("{}")
    taken, remark = profile_for("m", path)
    assert taken == ""
    assert "profile.json" in remark
