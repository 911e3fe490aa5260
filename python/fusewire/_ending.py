"""Ending a mount that is being served, from within the program that serves it."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import signal
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .connection import Connection

logger = logging.getLogger("fusewire")

#: Seconds that an unmount may take before the connection is stopped instead.
PATIENCE = 2.0

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_DEFAULTS = (signal.SIG_DFL, signal.default_int_handler)


class Ending:
    """The two steps of an end: the mount is detached, and what that causes is served (cached data is written); where
    somebody keeps the mount busy, the connection is stopped."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.begun = False

    def begin(self) -> None:
        self.begun = True
        try:
            self._connection.unmount()
        except OSError as error:
            # Where somebody else mounted it, it is not for us to unmount.
            if error.errno != errno.EINVAL:
                logger.error("unmount: %s", error.strerror)
            self.insist()

    def insist(self) -> None:
        if not self._connection.closed:
            self._connection.stop()


@contextlib.contextmanager
def ended_by_signals(connection: Connection) -> Iterator[int]:
    """SIGINT, SIGTERM and SIGHUP end the mount, where the program has not given them another meaning: the first one
    unmounts, a second one, or PATIENCE, stops the connection. Only the main thread can do that.

    Gives a descriptor that becomes readable when there was a signal, or -1. A signal that comes just before a system
    call that waits does not interrupt it, so whoever waits has to watch that too: then Python runs the handler."""
    if threading.current_thread() is not threading.main_thread():
        yield -1
        return
    ending = Ending(connection)
    timers: list[threading.Timer] = []

    def handle(number: int, frame: Any) -> None:
        if ending.begun:
            ending.insist()
            return
        ending.begin()
        timer = threading.Timer(PATIENCE, ending.insist)
        timer.daemon = True
        timers.append(timer)
        timer.start()

    before = {number: signal.getsignal(number) for number in _SIGNALS}
    taken = [number for number in _SIGNALS if before[number] in _DEFAULTS]
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in taken:
        signal.signal(number, handle)
    try:
        yield reader
    finally:
        for number in taken:
            signal.signal(number, before[number])
        signal.set_wakeup_fd(wakeup)
        os.close(reader)
        os.close(writer)
        for timer in timers:
            timer.cancel()
            timer.join()


def drain(wakeup: int) -> None:
    """Takes back what signals have written."""
    with contextlib.suppress(BlockingIOError):
        os.read(wakeup, 4096)
