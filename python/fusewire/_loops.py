"""Which event loop runs here, and what it is good for: each module _loop_NAME has serve and requests for its loop."""

from __future__ import annotations

import inspect
import signal
import sys
from typing import TYPE_CHECKING, Any

from . import _loop_blocking
from .filesystem import handler_of
from .paths import METHODS, PathFilesystem
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
    names = set(OPERATIONS.values())
    if isinstance(filesystem, PathFilesystem):
        names.update(METHODS)
    handlers = [handler_of(filesystem, name) for name in names]
    return any(inspect.iscoroutinefunction(each) or inspect.isasyncgenfunction(each) for each in handlers)


def run(connection: Connection, filesystem: object, loop: str | None, wakeup: int = -1) -> None:
    """Serves to the end, in an event loop of its own or without any. `wakeup` tells of signals."""
    if loop is None:
        loop = "asyncio" if is_async(filesystem) else "blocking"
    if loop == "blocking":
        _loop_blocking.serve(connection, filesystem, wakeup)
    elif loop == "asyncio":
        from ._loop_asyncio import run as run_in_asyncio

        run_in_asyncio(connection, filesystem, wakeup)
    elif loop == "trio":
        import trio

        # It looks after signals itself, and wants nobody else to.
        ours = signal.set_wakeup_fd(-1) if wakeup >= 0 else -1
        try:
            trio.run(connection.serve, filesystem)
        finally:
            if wakeup >= 0:
                signal.set_wakeup_fd(ours)
    else:
        raise ValueError(f"there is no loop {loop!r}; there are {', '.join(LOOPS)}")
