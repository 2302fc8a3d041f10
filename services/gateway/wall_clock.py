"""Wall-clock time for responses (`created`) and prompts (templates with today's date).

Waits and measurements use the running loop's clock instead.
"""

from datetime import datetime


def wall_clock() -> datetime:
    """The current date and time in the local time zone."""
    return datetime.now().astimezone()
