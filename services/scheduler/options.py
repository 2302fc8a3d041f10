"""What the scheduler's settings name: its policy, window controller, radio cells and profile."""

from collections.abc import Mapping
from pathlib import Path

from services.scheduler.state import Estimates
from shared.planning.bandwidth_rules import BY_POLICY, NO_SHARES
from shared.planning.estimates import DEFAULT_HOP_MS
from shared.planning.policies import UnknownPolicy, make_policy
from shared.planning.policy import Policy
from shared.planning.profile import ProfileError, read_profile
from shared.planning.windows import UnknownWindow, make_window
from shared.planning.windows.window import Window
from shared.runtime.settings import SchedulerSettings, SettingsError
from shared.scenario.cell_bands import CellBandsError, cell_bands


def policy_of(settings: SchedulerSettings) -> Policy:
    """A policy as the settings say. Raises SettingsError."""
    try:
        return make_policy(settings.policy, settings.k, settings.batches)
    except UnknownPolicy as error:
        raise SettingsError(f"OUTRIDER_POLICY={error}") from None


def window_of(settings: SchedulerSettings) -> Window | None:
    """The window controller that the settings name; None = the policy sets draft lengths. Raises SettingsError."""
    try:
        return make_window(settings.window, settings.k) if settings.window else None
    except UnknownWindow as error:
        raise SettingsError(f"OUTRIDER_WINDOW={error}") from None


def bands_of(settings: SchedulerSettings) -> Mapping[str, float]:
    """The bands of radio cells, in Hz or in bit/s. Raises SettingsError, also where there is nothing to share."""
    try:
        bands = cell_bands(settings.cells)
    except CellBandsError as error:
        raise SettingsError(f"OUTRIDER_CELLS={settings.cells!r}: {error}") from None
    if settings.bandwidth not in (BY_POLICY, NO_SHARES) and not bands:
        raise SettingsError(
            f"OUTRIDER_BANDWIDTH={settings.bandwidth}: there is no cell to share; "
            "give OUTRIDER_CELLS, like c1=256 kbit"
        )
    return bands


def estimates_of(settings: SchedulerSettings) -> Estimates:
    """Estimates from the profile's file; empty ones without a profile. Raises SettingsError."""
    if not settings.profile:
        return Estimates()
    try:
        known = read_profile(Path(settings.profile))
    except ProfileError as error:
        raise SettingsError(f"OUTRIDER_PROFILE={settings.profile!r}: {error}") from None
    return Estimates(known.pass_law, DEFAULT_HOP_MS if known.hop_ms is None else known.hop_ms)
