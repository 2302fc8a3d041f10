"""The profile of measured costs with which a local stack plans, if there is one for its model."""

from pathlib import Path

from shared.planning.profile import ProfileError, read_profile


def profile_for(model: str, path: Path) -> tuple[str, str]:
    """Value for OUTRIDER_PROFILE ("" = no profile), and a remark for the user ("" = none)."""
    if not path.is_file():
        return "", ""
    try:
        profile = read_profile(path)
    except ProfileError as error:
        return "", f"planning without a profile: {error}"
    if profile.model != model:
        return "", f"planning without a profile: {path} was measured with {profile.model}, not {model}"
    return str(path.resolve()), f"planning with {path}, measured {profile.date[:10]}"
