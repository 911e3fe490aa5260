"""Which event loop runs here, and what it is good for: each module _loop_NAME has serve and requests for its loop."""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING, Any

from . import _loop_blocking
from .filesystem import handler_of
from .request import OPERATIONS

if TYPE_CHECKING:
    from .connection import Connection

LOOPS = ("blocking", "asyncio", "trio")


def running() -> Any:
    """The module for the event loop that runs in this thread. What is not loaded does not run."""
    trio = sys.modules.get("trio")
    if trio is not None:
        try:
            trio.lowlevel.current_task()
        except RuntimeError:
            pass
        else:
            from . import _loop_trio

            return _loop_trio
    from . import _loop_asyncio

    return _loop_asyncio


def is_async(filesystem: object) -> bool:
    """Has it handlers that are declared with async?"""
    handlers = [handler_of(filesystem, name) for name in set(OPERATIONS.values())]
    return any(inspect.iscoroutinefunction(each) or inspect.isasyncgenfunction(each) for each in handlers)


def run(connection: Connection, filesystem: object, loop: str | None) -> None:
    """Serves to the end, in an event loop of its own or without any."""
    if loop is None:
        loop = "asyncio" if is_async(filesystem) else "blocking"
    if loop == "blocking":
        _loop_blocking.serve(connection, filesystem)
    elif loop == "asyncio":
        import asyncio

        asyncio.run(connection.serve(filesystem))
    elif loop == "trio":
        import trio

        trio.run(connection.serve, filesystem)
    else:
        raise ValueError(f"there is no loop {loop!r}; there are {', '.join(LOOPS)}")
