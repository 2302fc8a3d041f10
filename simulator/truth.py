"""What no live service can know: how many drafted tokens of a session would match, from any position on.

Acceptance is keyed by request and position (modelled or recorded), so it can be asked before a draft is made, and for
every draft length at once.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from shared.broker.memory_scripts import Log
from shared.broker.memory_server import MemoryServer
from shared.compute.acceptance_record import Replay
from shared.compute.modelled import guesses_right
from shared.planning.windows.window import MAX_K
from shared.protocol import wire
from shared.protocol.keys import Keys
from shared.protocol.session import SessionSpec
from shared.scenario.scenario import DeviceSpec

KEPT: Final = 4096  # sessions whose spec is remembered


class Truth:
    """The acceptance of all sessions, by device. Devices and sessions that nobody knows match nothing.

    A session that moves in mid-answer begins its recorded text anew on the other device, which is not followed.
    """

    def __init__(
        self,
        devices: Iterable[DeviceSpec],
        replays: Mapping[str, Replay],
        spec_of: Callable[[str], SessionSpec | None],
    ) -> None:
        """replays: recordings by the name that devices give. spec_of: what the gateway wrote of a session."""
        self._devices = {device.name: device for device in devices}
        self._replays, self._spec_of = replays, spec_of
        self._specs: dict[str, SessionSpec] = {}

    def matches(self, session: str, device: str, position: int, limit: int = MAX_K) -> int:
        """Tokens of a draft that would be accepted: 0 to `limit`, the most that is asked for.

        device: name or address. position: of the first drafted token, counted from the prompt's first.
        """
        spec, drafts = self._spec(session), self._devices.get(device.partition(":")[0])
        if spec is None or drafts is None:
            return 0
        is_right = self._is_right(spec, drafts)
        return next((n for n in range(limit) if not is_right(position + n)), limit)

    def _is_right(self, spec: SessionSpec, device: DeviceSpec) -> Callable[[int], bool]:
        replay = self._replays.get(device.recording)
        if replay is not None:
            return lambda position: replay.is_right(spec.sampling, position - len(spec.prompt))
        return lambda position: guesses_right(spec.sampling.seed, position, device.alpha)

    def _spec(self, session: str) -> SessionSpec | None:
        spec = self._specs.get(session) or self._spec_of(session)
        if spec is not None:
            if len(self._specs) >= KEPT:
                self._specs.clear()
            self._specs[session] = spec
        return spec


def specs_at(server: MemoryServer) -> Callable[[str], SessionSpec | None]:
    """The specs in the session logs of a broker."""

    def spec_of(session: str) -> SessionSpec | None:
        log = server.get(Keys().session(session), Log)
        return wire.decode_spec(log.spec) if log is not None else None

    return spec_of
