"""Serving in a trio loop (and so under anyio on trio).

How an async handler costs no task unless it suspends
-----------------------------------------------------

One task, the leader, waits for requests. It runs each handler itself, step by step, within its own task and a copy of
its context: current_task, cancel scopes and time limits are the leader's. A handler that is over leaves no trace. One
that suspends keeps the task: before the leader waits for what the handler waits for, it starts the next leader, which
goes on with the rest of the batch; the old one carries its handler to the end and is over. So a task is made for each
handler that suspends, and for no other; and nothing here is known to trio but ordinary tasks.

Each leader has a cancel scope around it. A client's interrupt cancels that of the task that its handler keeps."""

from __future__ import annotations

import contextvars
import errno
import types
from collections.abc import AsyncIterator, Coroutine, Generator
from typing import TYPE_CHECKING, Any, NamedTuple

import trio

from .errors import Stopped, Unmounted
from .replies import Encoder
from .request import Request
from .serve import Dispatcher

if TYPE_CHECKING:
    from .connection import Connection


class _Suspended(NamedTuple):
    """A handler that waits: `trap` is what it has told trio to wait for."""

    request: Request
    encode: Encoder
    coroutine: Coroutine[Any, Any, Any]
    context: contextvars.Context
    trap: Any


@types.coroutine
def _carry_on(work: _Suspended) -> Generator[Any, Any, Any]:
    """`await coroutine`, from where it already waits."""
    context, coroutine, trap = work.context, work.coroutine, work.trap
    while True:
        error: BaseException | None = None
        value: Any = None
        try:
            value = yield trap
        except GeneratorExit:
            context.run(coroutine.close)
            raise
        except BaseException as thrown:
            error = thrown
        try:
            if error is None:
                trap = context.run(coroutine.send, value)
            else:
                error, raised = None, error
                trap = context.run(coroutine.throw, raised)  # type: ignore[arg-type]
        except StopIteration as stop:
            return stop.value


class _Server(Dispatcher):
    cancelled = trio.Cancelled

    def __init__(self, connection: Connection, filesystem: object, nursery: trio.Nursery) -> None:
        super().__init__(connection, filesystem)
        self.nursery = nursery
        self.failure: BaseException | None = None
        self._running: dict[int, trio.CancelScope] = {}
        self._suspended: _Suspended | None = None
        self._plain = contextvars.copy_context()
        self._context = self._plain.copy()
        self._fd = connection.fileno()

    def start(self, request: Request, encode: Encoder, coroutine: Coroutine[Any, Any, Any]) -> bool:
        context = self._context
        try:
            trap = context.run(coroutine.send, None)
        except StopIteration as stop:
            result = stop.value
        else:
            self._context = self._plain.copy()
            request._detach()
            self._suspended = _Suspended(request, encode, coroutine, context, trap)
            return True
        finally:
            # The next handler meets no variables of this one.
            if self._context != self._plain:
                self._context = self._plain.copy()
        encode(self.connection, request, result)
        return False

    def interrupt(self, id: int) -> None:
        scope = self._running.get(id)
        if scope is not None:
            scope.cancel()

    async def lead(self) -> None:
        with trio.CancelScope() as scope:
            try:
                while True:
                    self.turn()
                    if self._suspended is not None:
                        await self._follow(scope)
                        return
                    await trio.lowlevel.wait_readable(self._fd)
            except (Unmounted, Stopped):
                return
            except trio.Cancelled:
                raise
            except BaseException as error:
                self._end(error)

    async def _follow(self, scope: trio.CancelScope) -> None:
        """Hands the lead to a new task, and carries on the handler that has suspended."""
        assert self._suspended is not None
        work, self._suspended = self._suspended, None
        request = work.request
        self._running[request.id] = scope
        self.nursery.start_soon(self.lead)
        try:
            work.encode(self.connection, request, await _carry_on(work))
        except trio.Cancelled:
            self.answer_error(request, errno.EINTR)
            raise
        except Exception as error:
            self.fail(request, error)
        except BaseException:
            self.answer_error(request, errno.EIO)
            raise
        finally:
            self._running.pop(request.id, None)

    def _end(self, error: BaseException) -> None:
        """Something ends serving: an abort when the handlers are done, what is no Exception at once."""
        if self.failure is None:
            self.failure = error
        if not isinstance(error, Exception):
            self.nursery.cancel_scope.cancel()


async def serve(connection: Connection, filesystem: object) -> None:
    server = None
    with connection._serving_once():
        try:
            async with trio.open_nursery() as nursery:
                server = _Server(connection, filesystem, nursery)
                nursery.start_soon(server.lead)
        finally:
            if server is not None:
                server.answer_rest()
    if server.failure is not None:
        raise server.failure


async def requests(connection: Connection) -> AsyncIterator[Request]:
    while True:
        try:
            batch = connection.read(0)
        except (Unmounted, Stopped):
            return
        for request in batch:
            yield request
        if not batch:
            await trio.lowlevel.wait_readable(connection.fileno())
