"""Serving without an event loop: reading blocks, and handlers run one after the other."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from .errors import Stopped, Unmounted
from .replies import Encoder
from .request import Request
from .serve import Dispatcher

if TYPE_CHECKING:
    from .connection import Connection


class _Server(Dispatcher):
    timeout = -1

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


def serve(connection: Connection, filesystem: object) -> None:
    server = _Server(connection, filesystem)
    with connection._serving_once():
        try:
            while True:
                server.turn()
        except (Unmounted, Stopped):
            return
