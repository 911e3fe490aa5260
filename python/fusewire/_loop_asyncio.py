"""Serving in an asyncio loop (uvloop's too).

How an async handler costs no task unless it suspends
-----------------------------------------------------

A task costs several times what a simple request does, so the first step of a handler's coroutine, up to where it first
waits for something, is run at once. Most handlers are over then. One that is not has to go on in a task, and it may
have asked for that task already: asyncio.timeout keeps current_task() in order to cancel it later, and context
variables that it has set have to be there when it goes on.

Therefore the first step runs *as* a task that stands ready: a Seat. Its task waits for work; while a handler's first
step runs, that task is made the current one, with the calls that asyncio documents for task implementations, and the
step runs in the seat's own copy of the context. A handler that is over leaves the seat to the next one. One that
suspends keeps it: the seat's task wakes up, waits for what the handler waits for, and carries the coroutine on to its
end, in the same context. The next handler gets a new seat.

So that no handler meets traces of another, a seat is used again only if the handler has changed no context variable,
was not cancelled, and if nobody has kept the task (a strong or weak reference, where the interpreter can tell)."""

from __future__ import annotations

import asyncio
import contextvars
import errno
import sys
import types
import weakref
from asyncio import CancelledError
from collections.abc import AsyncIterator, Coroutine, Generator
from typing import TYPE_CHECKING, Any

from ._ending import drain
from .errors import Stopped, Unmounted
from .replies import Encoder
from .request import Request
from .serve import Dispatcher

if TYPE_CHECKING:
    from .connection import Connection

_reference_count = getattr(sys, "getrefcount", lambda thing: 0)


@types.coroutine
def _pause() -> Generator[None, Any, None]:
    yield


@types.coroutine
def _carry_on(
    context: contextvars.Context,
    coroutine: Coroutine[Any, Any, Any],
    awaited: Any,
    cancelled: CancelledError | None,
) -> Generator[Any, Any, Any]:
    """`await coroutine`, from where it already waits for `awaited`. `cancelled`: the task was cancelled between there
    and here. Then what is awaited is cancelled, as if the task had been waiting for it; where that cannot be, the
    coroutine."""
    error: BaseException | None = None
    if cancelled is not None and not (asyncio.isfuture(awaited) and awaited.cancel()):
        error = cancelled
    while True:
        if error is None:
            try:
                yield awaited
            except GeneratorExit:
                context.run(coroutine.close)
                raise
            except BaseException as thrown:
                error = thrown
        try:
            if error is None:
                awaited = context.run(coroutine.send, None)
            else:
                error, raised = None, error
                awaited = context.run(coroutine.throw, raised)  # type: ignore[arg-type]
        except StopIteration as stop:
            return stop.value


class _Seat:
    """A task that stands ready for a handler."""

    def __init__(self, server: _Server) -> None:
        self._context = server.context
        self.context = server.context.copy()
        self.handoff: asyncio.Future[None] = server.loop.create_future()
        self._work: tuple[Request, Encoder, Coroutine[Any, Any, Any], Any] | None = None
        occupation = self._occupy(server)
        # A task that is cancelled before its first step never enters its coroutine. This one is entered already.
        occupation.send(None)
        self.task = server.loop.create_task(occupation)
        self._references = _reference_count(self.task), weakref.getweakrefcount(self.task)

    def take(self, request: Request, encode: Encoder, coroutine: Coroutine[Any, Any, Any], awaited: Any) -> None:
        """The handler has suspended: its coroutine goes on in the seat's task."""
        self._work = request, encode, coroutine, awaited
        self.leave()

    def leave(self) -> None:
        """Lets the task go on: with the work that it has taken, else to its end."""
        if not self.handoff.done():
            self.handoff.set_result(None)

    def is_free(self) -> bool:
        """Has nobody cancelled the task? Where it waits already, that cancelled what it waits for."""
        return not (self.handoff.done() or self.task._must_cancel)  # type: ignore[attr-defined]

    def is_clean(self) -> bool:
        """After a handler that did not suspend: may another one have the seat?"""
        return (
            self.is_free()
            and self.context == self._context
            and (_reference_count(self.task), weakref.getweakrefcount(self.task)) == self._references
        )

    async def _occupy(self, server: _Server) -> None:
        cancelled: CancelledError | None = None
        try:
            await _pause()
            await self.handoff
        except CancelledError as error:
            cancelled = error
        if self._work is None:
            if server.seat is self:
                server.seat = None
            return
        request, encode, coroutine, awaited = self._work
        try:
            encode(server.connection, request, await _carry_on(self.context, coroutine, awaited, cancelled))
        except CancelledError:
            server.answer_error(request, errno.EINTR)
        except Exception as error:
            server.fail(request, error)
        except BaseException:
            server.answer_error(request, errno.EIO)
            raise
        finally:
            server.running.pop(request.id, None)


class _Server(Dispatcher):
    cancelled = CancelledError

    def __init__(self, connection: Connection, filesystem: object) -> None:
        super().__init__(connection, filesystem)
        self.loop = asyncio.get_running_loop()
        self.context = contextvars.copy_context()
        self.ended: asyncio.Future[None] = self.loop.create_future()
        self.running: dict[int, asyncio.Task[None]] = {}
        self.seat: _Seat | None = None
        self._fd = connection.fileno()

    def start(self, request: Request, encode: Encoder, coroutine: Coroutine[Any, Any, Any]) -> bool:
        seat, loop = self.seat, self.loop
        if seat is None or not seat.is_free():
            seat = self.seat = _Seat(self)
        asyncio.tasks._enter_task(loop, seat.task)
        try:
            awaited = seat.context.run(coroutine.send, None)
        except StopIteration as stop:
            result = stop.value
        else:
            self.seat = None
            request._detach()
            self.running[request.id] = seat.task
            seat.take(request, encode, coroutine, awaited)
            return False
        finally:
            asyncio.tasks._leave_task(loop, seat.task)
            if self.seat is seat and not seat.is_clean():
                self.seat = None
                seat.leave()
        encode(self.connection, request, result)
        return False

    def interrupt(self, id: int) -> None:
        task = self.running.get(id)
        if task is not None:
            task.cancel()

    def attend(self) -> None:
        self.loop.add_reader(self._fd, self._on_readable)

    def leave(self) -> None:
        self.loop.remove_reader(self._fd)
        if self.seat is not None:
            self.seat.leave()
            self.seat = None

    def _on_readable(self) -> None:
        try:
            self.turn()
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            self.leave()
            if self.ended.done():
                return
            if isinstance(error, (Unmounted, Stopped)):
                self.ended.set_result(None)
            else:
                self.ended.set_exception(error)


async def serve(connection: Connection, filesystem: object) -> None:
    with connection._serving_once():
        server = _Server(connection, filesystem)
        server.attend()
        cancelled: CancelledError | None = None
        try:
            await server.ended
        except CancelledError as error:
            cancelled = error
            _cancel_all(server)
        finally:
            server.leave()
            # After an unmount handlers may still be at work that nobody waits for, such as a release that stores data.
            while server.running:
                try:
                    await asyncio.wait(list(server.running.values()))
                except CancelledError as error:
                    cancelled = error
                    _cancel_all(server)
        if cancelled is not None:
            raise cancelled


def run(connection: Connection, filesystem: object, wakeup: int) -> None:
    """serve in a loop of its own. `wakeup`: a descriptor that tells of signals, or -1."""

    async def main() -> None:
        if wakeup >= 0:
            asyncio.get_running_loop().add_reader(wakeup, drain, wakeup)
        await serve(connection, filesystem)

    asyncio.run(main())


def _cancel_all(server: _Server) -> None:
    for task in list(server.running.values()):
        task.cancel()


async def requests(connection: Connection) -> AsyncIterator[Request]:
    loop = asyncio.get_running_loop()
    while True:
        try:
            batch = connection.read(0)
        except (Unmounted, Stopped):
            return
        for request in batch:
            yield request
        if not batch:
            await _readable(loop, connection.fileno())


async def _readable(loop: asyncio.AbstractEventLoop, fd: int) -> None:
    ready = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(fd, wake)
    try:
        await ready
    finally:
        loop.remove_reader(fd)
