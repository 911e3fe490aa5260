"""A server that takes part in the benchmark, from its start to its end, which may be one by itself."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path

from servers import Kind, Server, running

FAILURES_ALLOWED = 2  # after that it is not started again
FAILURES = (RuntimeError, OSError, subprocess.SubprocessError)


class Participant:
    """It is started again after a failure, for the next cell, unless it failed too often or never came up at all."""

    def __init__(self, kind: Kind, folder: Path) -> None:
        self.kind = kind
        self.server: Server | None = None
        self.connection: int | None = None  # number of the FUSE connection
        self.failure = ""
        self._failures = 0
        self._aborted = False
        self._folder = folder
        self._running = contextlib.ExitStack()

    @property
    def name(self) -> str:
        return self.kind.name

    def start(self) -> None:
        """Mounts it if it is not; `server` stays None where that fails, and `failure` says why."""
        if self.server is not None or self._failures >= FAILURES_ALLOWED:
            return
        try:
            [self.server] = self._running.enter_context(running([self.kind], self._folder))
            self.connection = connection_number(self.server.mountpoint)
            self._aborted = False
        except FAILURES as error:
            self.failure = f"did not start: {error}"
            self._failures = FAILURES_ALLOWED

    def fail(self, why: str) -> None:
        """Ends a server that died, hangs or answers wrongly, and frees whoever waits for it."""
        if self.server is None:
            return
        self.failure = "its process ended" if not self._aborted and has_ended(self.server) else why
        if words := self.server.last_words():
            self.failure += f"; its last words: {words}"
        self._failures += 1
        self.abort()
        self.stop()

    def abort(self) -> None:
        """Ends the connection, and with it every call of a client's that waits in the kernel."""
        if self.server is None:
            return
        self._aborted = True
        with contextlib.suppress(OSError):
            Path(f"/sys/fs/fuse/connections/{self.connection}/abort").write_text("1", encoding="ascii")
        for pid in self.server.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        self.server = None
        try:
            self._running.close()
        except FAILURES as error:
            self.failure = f"{self.failure}; could not be cleaned up: {error}".removeprefix("; ")
            self._failures = FAILURES_ALLOWED


def connection_number(mountpoint: Path) -> int | None:
    """Told from the list of mounts, where it is the minor number of the device."""
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    found = [fields[2] for fields in map(str.split, mounts) if fields[4] == str(mountpoint)]
    return int(found[-1].partition(":")[2]) if found else None


def has_ended(server: Server) -> bool:
    try:
        status = Path(f"/proc/{server.processes()[0]}/stat").read_text(errors="replace")
    except OSError:
        return True
    return status.rpartition(")")[2].split()[0] in "ZX"
