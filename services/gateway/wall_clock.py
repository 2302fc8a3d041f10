"""The date: what people read in a response (`created`) or a prompt (templates that say today's date).

Everything that waits or measures asks the running loop instead.
"""

from datetime import datetime


def wall_clock() -> datetime:
    """Now, in local time."""
    return datetime.now().astimezone()
