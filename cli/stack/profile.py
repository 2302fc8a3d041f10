"""The profile that a stack on this machine plans with, if there is one of its model."""

from pathlib import Path

from shared.planning.profile import ProfileError, read_profile


def profile_for(model: str, path: Path) -> tuple[str, str]:
    """What OUTRIDER_PROFILE is to be ("" = none), and what to tell a person about it ("" = nothing)."""
    if not path.is_file():
        return "", ""
    try:
        profile = read_profile(path)
    except ProfileError as error:
        return "", f"planning without a profile: {error}"
    if profile.model != model:
        return "", f"planning without a profile: {path} is of {profile.model}, not of {model}"
    return str(path.resolve()), f"planning with {path}, measured {profile.date[:10]}"
