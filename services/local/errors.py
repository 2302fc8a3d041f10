"""Errors that a person at the command line can act on: shown as one line, without a traceback."""

import aiohttp

from services.local.processes import ProcessFailed
from shared.broker.contract import BrokerAway


class CommandError(RuntimeError):
    """A command cannot go on; the text says what to do."""


EXPECTED = (CommandError, ProcessFailed, TimeoutError, BrokerAway, aiohttp.ClientConnectionError)
