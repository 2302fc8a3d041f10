"""Which Outrider this is: the version that pyproject.toml names, as it was installed."""

from importlib.metadata import PackageNotFoundError, version

UNKNOWN = "unknown (not installed)"


def outrider_version() -> str:
    """The installed version, as in "0.1.0"; UNKNOWN where the code runs without an installation."""
    try:
        return version("outrider")
    except PackageNotFoundError:
        return UNKNOWN
