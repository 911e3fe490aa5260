"""Serving in the background of a running program: what Connection.serving returns."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any

from ._ending import PATIENCE, Ending

if TYPE_CHECKING:
    from .connection import Connection


class Serving:
    """An asynchronous context manager: within its block the connection is served in the background."""

    def __init__(self, connection: Connection, filesystem: object) -> None:
        self._connection = connection
        self._filesystem = filesystem
        self._server: Any = None

    async def __aenter__(self) -> Connection:
        from . import _loops

        kind: Any = _InTrio if _loops.running().__name__.endswith("trio") else _InAsyncio
        self._server = kind(self._connection, self._filesystem)
        await self._server.start()
        return self._connection

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        failure = await self._server.finish(Ending(self._connection), kind, error, trace)
        if failure is not None and error is None:
            raise failure


class _InAsyncio:
    def __init__(self, connection: Connection, filesystem: object) -> None:
        self._serve = connection.serve(filesystem)

    async def start(self) -> None:
        import asyncio

        self._task = asyncio.get_running_loop().create_task(self._serve)
        await asyncio.sleep(0)

    async def finish(self, ending: Ending, *raised: Any) -> BaseException | None:
        import asyncio

        cancelled: BaseException | None = None
        task = self._task
        if not task.done():
            ending.begin()
        try:
            await asyncio.wait([task], timeout=PATIENCE)
        except asyncio.CancelledError as error:
            cancelled = error
        if not task.done():
            ending.insist()
            while not task.done():
                try:
                    await asyncio.wait([task])
                except asyncio.CancelledError as error:
                    cancelled = error
                    task.cancel()
        if cancelled is not None:
            raise cancelled
        return None if task.cancelled() else task.exception()


class _InTrio:
    def __init__(self, connection: Connection, filesystem: object) -> None:
        import trio

        self._connection = connection
        self._filesystem = filesystem
        self._manager: Any = trio.open_nursery()
        self._ended = trio.Event()
        self._failure: BaseException | None = None

    async def start(self) -> None:
        nursery = await self._manager.__aenter__()
        nursery.start_soon(self._serve)

    async def _serve(self) -> None:
        try:
            await self._connection.serve(self._filesystem)
        except Exception as error:
            self._failure = error
        finally:
            self._ended.set()

    async def finish(self, ending: Ending, *raised: Any) -> BaseException | None:
        import trio

        if not self._ended.is_set():
            ending.begin()
        with trio.CancelScope(deadline=trio.current_time() + PATIENCE, shield=True) as patience:
            await self._ended.wait()
        if patience.cancelled_caught:
            ending.insist()
        await self._manager.__aexit__(*raised)
        return self._failure
