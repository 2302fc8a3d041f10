"""Errors that a person at the command line can act on: shown as one line, without a traceback."""

import aiohttp

from shared.broker.contract import BrokerAway, BrokerDenied
from shared.broker.device_list import DeviceListError
from shared.broker.embedded import NoServer
from shared.runtime.address import AddressError
from shared.runtime.settings import SettingsError
from shared.runtime.stack_state import StateError


class CommandError(RuntimeError):
    """A command cannot go on; the text says what to do."""


class ProcessFailed(RuntimeError):
    """A process ended in a way that restarting does not mend; the text holds its last words."""


EXPECTED = (
    CommandError,
    StateError,
    ProcessFailed,
    TimeoutError,
    BrokerAway,
    BrokerDenied,
    DeviceListError,
    NoServer,
    AddressError,
    SettingsError,
    aiohttp.ClientConnectionError,
)
