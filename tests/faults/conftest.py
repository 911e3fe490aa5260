"""Servers and clients of the fault tests, cleaned up after each test however it ended."""

import contextlib
import errno
import pathlib

import pytest

from harness import cpus, mounts, until
from harness.client import Client, Storm
from harness.server import Server

BUSY_CALLERS = 8
IO_URING_DISABLED = pathlib.Path("/proc/sys/kernel/io_uring_disabled")


def pytest_collection_modifyitems(items):
    for item in items:
        if "faults" in item.path.parts:
            item.add_marker(pytest.mark.needs_fuse)
            item.add_marker(pytest.mark.needs_root)


@pytest.fixture(params=["poll", "ring", "uring"])
def transport(request):
    return request.param


@pytest.fixture
def mountpoint(tmp_path):
    folder = tmp_path / "mnt"
    folder.mkdir()
    yield folder
    mounts.detach(folder)


@pytest.fixture
def serve(mountpoint):
    """Starts servers, on the mount point unless told otherwise."""
    servers = []

    def start(*options, on=None, **keywords):
        servers.append(Server(mountpoint if on is None else on, *options, **keywords))
        return servers[-1]

    yield start
    for server in servers:
        server.clean_up()


@pytest.fixture
def client(serve, mountpoint):
    """Starts clients of the mount point. The connection goes before they do: a client whose request nobody answers
    cannot even be killed."""
    clients = []

    def start(body, path=mountpoint, cpu=None):
        clients.append(Client(body, path, cpu))
        return clients[-1]

    yield start
    number = mounts.connection_number(mountpoint)
    if number is not None:
        mounts.abort(number)
    for one in clients:
        one.kill()


@pytest.fixture
def storm(client, serve, mountpoint):
    """Starts many threads that call a file of the mount point."""
    storms = []

    def start(operation, threads, count, name="file", cpu=None):
        storms.append(Storm(operation, threads, count, mountpoint / name, cpu))
        return storms[-1]

    yield start
    number = mounts.connection_number(mountpoint)
    if number is not None:
        mounts.abort(number)
    for one in storms:
        one.kill()


@pytest.fixture
def stat(client):
    """Starts a client that asks for a file's attributes."""

    def start(name="file", cpu=None):
        return client(f"return os.stat(os.path.join(path, {name!r})).st_size", cpu=cpu)

    return start


def sleeps_in_io_uring(server):
    IO_URING_ENTER = 426
    return server.system_call() == IO_URING_ENTER


@pytest.fixture
def make_busy(storm):
    """Brings a server with `ring` and the blocking loop to where it reads and writes through io_uring, and leaves it
    there. It gets there by batches of several requests, which a slow handler makes likely; each relapse makes it ask
    for more of them."""

    def attempt(server, rounds):
        assert storm("stat", BUSY_CALLERS, rounds, "").result()["failed"] == 0
        return until(lambda: sleeps_in_io_uring(server), 0.2)

    def bring(server):
        server.rule("GETATTR * block 1")
        busy = any(attempt(server, 20 << i) for i in range(6))
        assert server.do("clear") == 0
        assert busy, "the ring transport never got busy"

    return bring


KINDS = ["poll-epoll", "poll-block", "ring-epoll", "ring-block", "ring-busy", "uring-epoll", "uring-block"]


@pytest.fixture(params=KINDS)
def launch(request, serve):
    """Starts servers of every kind: a transport, a foreign event loop or fusewire_read without a timeout, and `ring`
    with io_uring at work."""
    transport, loop = request.param.split("-")

    def start(*options):
        server = serve(f"--transport={transport}", f"--loop={'epoll' if loop == 'epoll' else 'block'}", *options)
        assert server.transport == transport
        if loop == "busy":
            request.getfixturevalue("make_busy")(server)
        return server

    start.transport = transport
    start.busy = loop == "busy"
    # What a client is told whose server has gone. io_uring has a word of its own for requests that lay in ring entries
    # and that the server had not looked at yet.
    start.gone = (errno.ECONNABORTED, errno.ENOTCONN, *([errno.ECANCELED] if transport == "uring" else []))
    return start


@pytest.fixture
def tight(launch):
    """Starts servers with hardly any room: (server, how many requests may be open). io_uring gets to work with a little
    more only. With `uring` each CPU has so much room, hence all is done on one."""
    depth, buffers = (8, 8) if launch.busy else (2, 1)
    room, place = [f"--depth={depth}"], contextlib.nullcontext()
    if launch.transport == "uring":
        room = [f"--depth={depth * len(cpus.possible()) + 4}", f"--queue-depth={depth}"]
        place = cpus.pinned(cpus.usable()[0])
    with place:
        yield lambda *options: (launch(*room, f"--buffers={buffers}", *options), depth)


@pytest.fixture
def no_io_uring():
    """io_uring is forbidden to everybody on this machine while the test runs: to be used by few tests, and briefly."""
    if not IO_URING_DISABLED.exists():
        pytest.skip("this kernel has no sysctl kernel.io_uring_disabled")
    before = IO_URING_DISABLED.read_text()
    IO_URING_DISABLED.write_text("2")
    yield
    IO_URING_DISABLED.write_text(before)
