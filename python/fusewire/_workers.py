"""Worker processes: each serves a clone of the connection, with its share of the CPUs; one that dies is replaced."""

from __future__ import annotations

import errno
import logging
import os
import select
import signal
import sys
import time
import traceback
from typing import TYPE_CHECKING, Callable, NoReturn

from ._ending import drain
from .errors import Aborted

if TYPE_CHECKING:
    from .connection import Connection

logger = logging.getLogger("fusewire")

#: Seconds between two starts of a worker that dies at once. Its clients wait meanwhile.
_PAUSE = 0.25

_ABORTED = 75  # the exit status of a worker whose connection was aborted

Serve = Callable[["Connection"], None]


class _Worker:
    """A share of the CPUs, and the process that serves it now."""

    def __init__(self, connection: Connection, cpus: str) -> None:
        self._connection = connection
        self.cpus = cpus
        self.clone = connection.clone(cpus=cpus)
        self.pid = 0
        self.pidfd = -1
        self._started = 0.0

    def start(self, serve: Serve, others: list[_Worker]) -> None:
        self._started = time.monotonic()
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()  # what waits in it would be written by both
        self.pid = os.fork()
        if self.pid == 0:
            _work(self.clone, serve, others)
        self.pidfd = os.pidfd_open(self.pid)

    def reap(self) -> int:
        """The exit status of the process, which has ended; negative: the signal that killed it."""
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self.pidfd)
        self.pidfd = -1
        return status

    def replace(self, serve: Serve, others: list[_Worker]) -> None:
        """What the dead process had read is ended with an error; a new one serves on."""
        time.sleep(max(0.0, self._started + _PAUSE - time.monotonic()))
        old, self.clone = self.clone, self._connection.clone(cpus=self.cpus)
        old.close()
        self.start(serve, others)


def _work(clone: Connection, serve: Serve, others: list[_Worker]) -> NoReturn:
    """In the forked process: serves, and ends it."""
    status = 1
    try:
        for number in (signal.SIGINT, signal.SIGHUP):  # which go to the whole group, and are the parent's to handle
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        for other in others:
            if other.clone is not clone:
                other.clone.close()
        clone.pin()
        serve(clone)
        clone.close()
        status = 0
    except Aborted:
        status = _ABORTED
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            logging.shutdown()
            for stream in (sys.stdout, sys.stderr):
                if stream is not None:
                    stream.flush()
        finally:
            os._exit(status)


def supervise(connection: Connection, count: int, serve: Serve, wakeup: int) -> None:
    """Starts `count` workers and waits for them: until the filesystem is unmounted or the connection stopped. Raises
    Aborted where it was aborted. `wakeup`: a descriptor that tells of signals, or -1."""
    from .connection import worker_cpus

    workers: list[_Worker] = []
    aborted = False
    try:
        # All clones first: over uring no client gets through before each CPU has its worker.
        for index in range(count):
            workers.append(_Worker(connection, worker_cpus(index, count)))
        for worker in workers:
            worker.start(serve, workers)
        running = list(workers)
        while running:
            poller = select.poll()
            for worker in running:
                poller.register(worker.pidfd, select.POLLIN)
            if wakeup >= 0:
                poller.register(wakeup, select.POLLIN)
            ready = {fd for fd, _ in poller.poll()}
            if wakeup in ready:
                drain(wakeup)
            for worker in [worker for worker in running if worker.pidfd in ready]:
                status = worker.reap()
                aborted = aborted or status == _ABORTED
                if status in (0, _ABORTED) or not _replaced(worker, status, serve, workers):
                    running.remove(worker)
    finally:
        _end(connection, workers)
    if aborted:
        raise Aborted(errno.ECONNABORTED, os.strerror(errno.ECONNABORTED))


def _replaced(worker: _Worker, status: int, serve: Serve, workers: list[_Worker]) -> bool:
    how = f"signal {-status}" if status < 0 else f"exit status {status}"
    logger.error("worker process %d ended (%s); another one takes its place", worker.pid, how)
    try:
        worker.replace(serve, workers)
    except OSError as error:
        logger.error("there is no other worker: %s", error.strerror)
        return False
    return True


def _end(connection: Connection, workers: list[_Worker]) -> None:
    """Whatever has happened: no worker stays behind."""
    left = [worker for worker in workers if worker.pidfd >= 0]
    if left and not connection.closed:
        connection.stop()
    for worker in left:
        worker.reap()
    for worker in workers:
        worker.clone.close()
