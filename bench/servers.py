"""The servers that are compared: how each is started, mounted, placed on CPUs and taken down again."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

MOUNT_TIMEOUT = 20.0  # seconds
STOP_TIMEOUT = 5.0


@dataclass(frozen=True)
class Kind:
    """A way of serving: a command that takes the mount point as its last argument and stays in the foreground."""

    name: str
    command: tuple[str, ...]
    is_floor: bool = False


def known_kinds(programs: Path) -> list[Kind]:
    """Those that are built here, the floors first."""
    libfuse, fusewire = str(programs / "libfuse_ll"), str(programs / "wire_server")
    kinds = [
        Kind("floor", (str(programs / "floor"),), is_floor=True),
        Kind("libfuse", (libfuse,), is_floor=True),
        Kind("libfuse-threads", (libfuse, "--threads")),
        Kind("libfuse-clone", (libfuse, "--clone-fd")),
        Kind("poll", (fusewire, "-o", "transport=poll")),
        Kind("ring", (fusewire, "-o", "transport=ring")),
        Kind("poll-loop", (fusewire, "--loop", "-o", "transport=poll")),
        Kind("ring-loop", (fusewire, "--loop", "-o", "transport=ring")),
    ]
    return [kind for kind in kinds if os.access(kind.command[0], os.X_OK)]


class Server:
    """A running server of some kind."""

    def __init__(self, kind: Kind, mountpoint: Path) -> None:
        self.kind = kind
        self.mountpoint = mountpoint
        self._process = subprocess.Popen([*kind.command, str(mountpoint)], stdin=subprocess.DEVNULL)

    def wait_until_mounted(self) -> None:
        deadline = time.monotonic() + MOUNT_TIMEOUT
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError(f"{self.kind.name} ended (status {self._process.returncode}) before it was mounted")
            if is_mounted(self.mountpoint):
                return
            time.sleep(0.01)
        raise RuntimeError(f"{self.kind.name} was not mounted within {MOUNT_TIMEOUT:.0f} s")

    def processes(self) -> list[int]:
        """The server's process and its descendants: all whose CPU time counts."""
        parents = parents_of_processes()
        found = [self._process.pid]
        for pid in found:
            found += [child for child, parent in parents.items() if parent == pid]
        return found

    def place(self, cpus: Iterable[int]) -> None:
        """Binds all its threads to these CPUs."""
        for pid in self.processes():
            for task in tasks_of(pid):
                with contextlib.suppress(ProcessLookupError):
                    os.sched_setaffinity(task, cpus)

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            print(f"bench: {self.kind.name} had to be killed", file=sys.stderr)
            self._process.kill()
            self._process.wait()
        if is_mounted(self.mountpoint):
            subprocess.run(["umount", "--lazy", self.mountpoint], check=True)


def is_mounted(path: Path) -> bool:
    """Told from the list of mounts, since a call on the folder itself would wait for its server."""
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    return any(line.split()[4] == str(path) for line in mounts)


def parents_of_processes() -> dict[int, int]:
    parents = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{name}/stat").read_text(errors="replace")
            parents[int(name)] = int(fields.rpartition(")")[2].split()[1])  # before it the command's name, in brackets
    return parents


def tasks_of(pid: int) -> list[int]:
    try:
        return [int(name) for name in os.listdir(f"/proc/{pid}/task")]
    except FileNotFoundError:
        return []


@contextlib.contextmanager
def running(kinds: Sequence[Kind], folder: Path) -> Iterator[list[Server]]:
    """All of them at once, each mounted in a folder of its own; gone, with what they mounted, at the end."""
    with contextlib.ExitStack() as stack:
        servers = []
        for kind in kinds:
            mountpoint = folder / kind.name
            mountpoint.mkdir()
            stack.callback(mountpoint.rmdir)
            server = Server(kind, mountpoint)
            stack.callback(server.stop)
            server.wait_until_mounted()
            servers.append(server)
        yield servers
