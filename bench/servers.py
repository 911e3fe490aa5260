"""The servers that are compared: how each is started, mounted, placed on CPUs and taken down again."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SOURCES = Path(__file__).resolve().parent / "servers"
URING_PARAMETER = Path("/sys/module/fuse/parameters/enable_uring")
MOUNT_TIMEOUT = 20.0  # seconds
STOP_TIMEOUT = 5.0


@dataclass(frozen=True)
class Kind:
    """A way of serving: a command that takes the mount point as its last argument and stays in the foreground."""

    name: str
    command: tuple[str, ...]
    is_floor: bool = False  # nothing but the system calls that serving takes
    is_fusewire: bool = False
    pins_itself: bool = False  # binds its threads or processes to CPUs, and is not to be bound by others
    family: str = ""
    description: str = ""
    environment: Mapping[str, str] = field(default_factory=dict, hash=False)  # added to that of the bench


def known_kinds(programs: Path) -> list[Kind]:
    """Those that can run here and now, the floors first."""
    kinds = _all_kinds(programs)
    missing = _reasons(kinds, programs)
    return [kind for kind in kinds if kind.name not in missing]


def unavailable_kinds(programs: Path) -> dict[str, str]:
    """The others, and why each cannot run."""
    return _reasons(_all_kinds(programs), programs)


def _all_kinds(programs: Path) -> list[Kind]:
    return [*_floors(programs), *_fusewire_in_c(programs), *_fusewire_in_python(programs), *_competitors(programs)]


def _floors(programs: Path) -> list[Kind]:
    floor, uring = str(programs / "floor"), str(programs / "floor_uring")
    return [
        Kind("floor", (floor,), is_floor=True, family="floor", description="bare read and writev"),
        Kind("floor-uring", (uring, "--per-cpu"), is_floor=True, pins_itself=True, family="floor",
             description="bare FUSE-over-io_uring, a thread per CPU"),
        Kind("floor-uring-one", (uring, "--one-thread"), is_floor=True, family="floor",
             description="bare FUSE-over-io_uring, one thread for all queues"),
        Kind("floor-uring-fill", (uring, "--per-cpu", "--fill"), is_floor=True, pins_itself=True, family="floor",
             description="floor-uring, each read's data put into its payload"),
    ]


def _fusewire_in_c(programs: Path) -> list[Kind]:
    server = str(programs / "wire_server")

    def kind(name: str, description: str, *arguments: str, pins_itself: bool = False) -> Kind:
        return Kind(name, (server, *arguments), is_fusewire=True, pins_itself=pins_itself, family="fusewire",
                    description=description)

    return [
        kind("poll", "fusewire, transport poll", "-o", "transport=poll"),
        kind("ring", "fusewire, transport ring", "-o", "transport=ring"),
        kind("uring", "fusewire, transport uring, one thread", "-o", "transport=uring"),
        kind("uring-workers", "fusewire, transport uring, a worker per CPU", "-o", "transport=uring,workers=cpus",
             pins_itself=True),
        kind("poll-loop", "poll, in an epoll loop of the program's own", "--loop", "-o", "transport=poll"),
        kind("ring-loop", "ring, in an epoll loop of the program's own", "--loop", "-o", "transport=ring"),
        kind("uring-loop", "uring, in an epoll loop of the program's own", "--loop", "-o", "transport=uring"),
    ]


def _fusewire_in_python(programs: Path) -> list[Kind]:
    command = (sys.executable, str(SOURCES / "python_server.py"))
    build = programs.parent

    def kind(name: str, transport: str, raw: bool = False, per_cpu: bool = False, is_async: bool = False) -> Kind:
        how = "read and reply in a loop" if raw else f"{'async' if is_async else 'plain'} handlers on asyncio"
        how += f", transport {transport}" + (", a process per CPU" if per_cpu else "")
        options = f"transport={transport}" + (",workers=cpus" if per_cpu else "")
        way = ["--raw"] if raw else ["--async"] if is_async else []
        return Kind(name, (*command, *way, "-o", options), is_fusewire=True,
                    pins_itself=per_cpu, family="fusewire-python", description=f"fusewire in Python, {how}",
                    environment={"PYTHONPATH": str(build / "python"), "LD_LIBRARY_PATH": str(build)})

    return [
        kind("python", "poll"),
        kind("python-async", "poll", is_async=True),
        kind("python-ring", "ring"),
        kind("python-uring", "uring"),
        kind("python-raw", "poll", raw=True),
        kind("python-raw-ring", "ring", raw=True),
        kind("python-raw-uring", "uring", raw=True),
        kind("python-workers", "uring", raw=True, per_cpu=True),
    ]


def _competitors(programs: Path) -> list[Kind]:
    libfuse, python = str(programs / "libfuse_ll"), str(programs / "venv" / "bin" / "python3")
    return [
        Kind("libfuse", (libfuse,), family="libfuse", description="libfuse low-level, one thread"),
        Kind("libfuse-threads", (libfuse, "--threads"), family="libfuse", description="libfuse low-level, its threads"),
        Kind("libfuse-clone", (libfuse, "--clone-fd"), family="libfuse",
             description="libfuse low-level, its threads with a device descriptor each"),
        Kind("libfuse-uring", (f"{libfuse}_uring", "--io-uring"), pins_itself=True, family="libfuse",
             description="libfuse low-level over FUSE-over-io_uring, a thread per CPU"),
        Kind("asyncfuse", (str(programs / "asyncfuse"),), family="asyncfuse",
             description="asyncfuse 0.0.8 (Rust), its io_uring connection: a ring thread behind channels"),
        Kind("pyfuse3", (python, str(SOURCES / "pyfuse3_server.py")), family="pyfuse3",
             description="pyfuse3 (Python, trio)"),
        Kind("mfusepy", (python, str(SOURCES / "mfusepy_server.py")), family="mfusepy",
             description="mfusepy (Python, ctypes over libfuse's high-level API)"),
    ]


def _reasons(kinds: Sequence[Kind], programs: Path) -> dict[str, str]:
    """Why those of them that cannot run cannot."""
    found = {}
    for kind in kinds:
        reason = _why_not_built(kind) or _why_no_uring(kind) or _why_refused(kind, programs)
        if reason:
            found[kind.name] = reason
    return found


def _why_not_built(kind: Kind) -> str:
    program = Path(kind.command[0])
    if not os.access(program, os.X_OK):
        if kind.name == "libfuse-uring":
            return "not built: FUSEWIRE_BENCH_LIBFUSE=PREFIX script/bench-servers, with a libfuse of 3.18 or later"
        by_script = kind.family in ("asyncfuse", "pyfuse3", "mfusepy")
        return f"not built: {'script/bench-servers' if by_script else 'script/setup'}"
    if kind.family in ("pyfuse3", "mfusepy"):
        packages = program.parent.parent.glob(f"lib/python3*/site-packages/{kind.family}*")
        return "" if any(packages) else "not installed: script/bench-servers"
    return ""


def _why_no_uring(kind: Kind) -> str:
    if not any("uring" in word for word in (kind.name, *kind.command[1:])):
        return ""
    try:
        enabled = URING_PARAMETER.read_text(encoding="ascii").strip() == "Y"
    except OSError:
        return "the kernel has no FUSE-over-io_uring (Linux 6.14 and later)"
    return "" if enabled else f"FUSE-over-io_uring is off: echo Y > {URING_PARAMETER}"


def _why_refused(kind: Kind, programs: Path) -> str:
    """What fusewire has against it, by the word of its own server."""
    options = [word for word in kind.command if word.startswith("transport=")]
    server = programs / "wire_server"
    if not options or "uring" not in options[0] or not server.exists():
        return ""
    check = subprocess.run([server, "--check", "-o", options[0]], capture_output=True, text=True, timeout=10,
                           check=False)
    return "" if check.returncode == 0 else _last_line(check.stderr) or f"refused (status {check.returncode})"


class Server:
    """A running server of some kind. What it says goes to its log."""

    def __init__(self, kind: Kind, mountpoint: Path) -> None:
        self.kind = kind
        self.mountpoint = mountpoint
        self.log = mountpoint.with_name(f"{mountpoint.name}.log")
        with self.log.open("wb") as log:
            self._process = subprocess.Popen([*kind.command, str(mountpoint)], stdin=subprocess.DEVNULL, stdout=log,
                                             stderr=log, env={**os.environ, **kind.environment})

    def wait_until_mounted(self) -> None:
        deadline = time.monotonic() + MOUNT_TIMEOUT
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError(f"{self.kind.name} ended (status {self._process.returncode}) before it was mounted: "
                                   f"{self.last_words() or 'it said nothing'}")
            if is_mounted(self.mountpoint):
                return
            time.sleep(0.01)
        raise RuntimeError(f"{self.kind.name} was not mounted within {MOUNT_TIMEOUT:.0f} s: "
                           f"{self.last_words() or 'it said nothing'}")

    def last_words(self) -> str:
        """The last line that it said."""
        return _last_line(self.log.read_text(encoding="utf-8", errors="replace"))

    def processes(self) -> list[int]:
        """The server's process and its descendants: all whose CPU time counts."""
        parents = parents_of_processes()
        found = [self._process.pid]
        for pid in found:
            found += [child for child, parent in parents.items() if parent == pid]
        return found

    def place(self, cpus: Iterable[int]) -> None:
        """Binds all its threads to these CPUs, unless it has bound them itself."""
        if self.kind.pins_itself:
            return
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
            with contextlib.suppress(subprocess.TimeoutExpired):  # in the kernel, until its mount is gone
                self._process.wait(STOP_TIMEOUT)
        if is_mounted(self.mountpoint):
            subprocess.run(["umount", "--lazy", self.mountpoint], check=True, timeout=STOP_TIMEOUT)


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""


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
    """All of them at once, each mounted in a folder of its own; gone, with what they mounted, at the end. Their logs
    stay, beside those folders."""
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
