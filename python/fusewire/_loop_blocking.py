"""Serving without an event loop: reading blocks, and handlers run one after the other."""

from __future__ import annotations

import select
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from ._ending import drain
from .errors import Stopped, Unmounted
from .replies import Encoder
from .request import Request
from .serve import Dispatcher

if TYPE_CHECKING:
    from .connection import Connection


class _Server(Dispatcher):
    def __init__(self, connection: Connection, filesystem: object, wakeup: int) -> None:
        super().__init__(connection, filesystem)
        self._wakeup = wakeup
        if wakeup < 0:
            self.timeout = -1
        self._poller = select.poll()
        self._poller.register(connection.fileno(), select.POLLIN)
        if wakeup >= 0:
            self._poller.register(wakeup, select.POLLIN)

    def wait(self) -> None:
        """For requests or a signal, where reading does not wait by itself."""
        if self.timeout == 0:
            for fd, _ in self._poller.poll():
                if fd == self._wakeup:
                    drain(fd)

    def start(self, request: Request, encode: Encoder, coroutine: Coroutine[Any, Any, Any]) -> bool:
        try:
            coroutine.send(None)
        except StopIteration as stop:
            encode(self.connection, request, stop.value)
            return False
        coroutine.close()
        raise RuntimeError(f"the handler of {request.operation} waits for something, and there is no event loop")

    def interrupt(self, id: int) -> None:
        """A request whose handler has returned is answered, and no other handler runs now."""


def serve(connection: Connection, filesystem: object, wakeup: int) -> None:
    """`wakeup`: a descriptor that tells of signals, or -1."""
    with connection._serving_once():
        server = _Server(connection, filesystem, wakeup)
        try:
            while True:
                server.turn()
                server.wait()
        except (Unmounted, Stopped):
            return
