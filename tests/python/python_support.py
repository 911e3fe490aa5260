"""Servers for the tests of the Python package: each in a forked child, bounded in time, unmounted whatever happens."""

import asyncio
import contextlib
import ctypes
import errno
import faulthandler
import logging
import os
import pathlib
import signal
import sys
import tempfile
import time
import traceback

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("FUSEWIRE_BUILD", ROOT / "build")).resolve()
if str(BUILD / "python") not in sys.path:
    sys.path.insert(0, str(BUILD / "python"))

import fusewire  # noqa: E402  (found through the line above)

MNT_DETACH = 2
PATIENCE = 20

_libc = ctypes.CDLL(None, use_errno=True)


def unmount(path, flags=0):
    if _libc.umount2(os.fsencode(path), flags):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(path))


def is_mounted(path):
    """Without asking the server."""
    with open("/proc/self/mounts") as lines:
        return any(line.split()[1] == str(path) for line in lines)


def until(condition, seconds=PATIENCE):
    """Polls until the condition holds; returns what it returned."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)
    return value


class Server:
    """A forked child that serves."""

    def __init__(self, path, log, body):
        self.path = path
        self._log = log
        self._status = None
        ready, tell = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(ready)
            self._child(tell, body)
        os.close(tell)
        said = os.read(ready, 1)
        os.close(ready)
        if not said:
            self.wait()
            pytest.fail("the server did not mount:\n" + self.log())

    def _child(self, tell, body):
        status = 1
        try:
            signal.alarm(0)
            os.dup2(self._log.fileno(), 2)
            faulthandler.enable(2)
            faulthandler.dump_traceback_later(90, exit=True, file=2)
            logging.basicConfig(stream=open(2, "w", closefd=False), force=True)
            body(self.path, lambda: os.write(tell, b"\0"))
            status = 0
        except BaseException:
            os.write(2, traceback.format_exc().encode())
        finally:
            os._exit(status)

    def log(self):
        return pathlib.Path(self._log.name).read_text()

    def has_ended(self):
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._status = os.waitstatus_to_exitcode(status)
        return self._status is not None

    def wait(self):
        """The exit status."""
        until(self.has_ended)
        return self._status

    def finish(self):
        """Unmounts, and expects the server to end by itself."""
        until(self._unmounted)
        assert self.wait() == 0, self.log()

    def _unmounted(self):
        """A helper of the library may look into the mount just now: where a worker was replaced."""
        try:
            unmount(self.path)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            return False
        return True

    def clean_up(self):
        with contextlib.suppress(OSError):
            unmount(self.path, MNT_DETACH)
        if not self.has_ended():
            os.kill(self.pid, signal.SIGKILL)
            self.wait()


@contextlib.contextmanager
def opened(path, flags=os.O_RDONLY):
    """An open file, closed in the end also where its server has gone."""
    fd = os.open(path, flags)
    try:
        yield fd
    finally:
        with contextlib.suppress(OSError):
            os.close(fd)


def read_once(fd, size):
    """read(2) without Python's repetition after EINTR: the bytes, or a negative errno."""
    buffer = ctypes.create_string_buffer(size)
    count = _libc.read(fd, buffer, size)
    return -ctypes.get_errno() if count < 0 else buffer.raw[:count]


def is_waiting(thread_id):
    """Does this thread of any process wait for a FUSE server?"""
    with contextlib.suppress(OSError), open(f"/proc/{thread_id}/wchan") as file:
        where = file.read()
        return "fuse" in where or where == "request_wait_answer"


@pytest.fixture
def folder():
    """A folder to mount on."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="fusewire-python-"))
    try:
        yield path
    finally:
        with contextlib.suppress(OSError):
            while True:
                unmount(path, MNT_DETACH)
        path.rmdir()


@pytest.fixture
def fork(folder):
    """Runs body(path, mounted) in a child, which calls mounted() once clients may come."""
    servers = []
    with tempfile.NamedTemporaryFile() as log:

        def start(body):
            servers.append(Server(folder, log, body))
            return servers[-1]

        try:
            yield start
        finally:
            for server in servers:
                server.clean_up()
                print(server.log())  # shown where the test has failed


def serving(fork, transport, loop):
    def start(filesystem, **options):
        def body(path, mounted):
            with fusewire.mount(path, transport=transport, **options) as connection:
                filesystem.connection = connection
                mounted()
                connection.run(filesystem, loop=loop)

        return fork(body)

    return start


@pytest.fixture
def serve(fork, transport):
    """Serves a filesystem on asyncio in a child."""
    return serving(fork, transport, "asyncio")


@pytest.fixture(params=["asyncio", "trio"])
def serve_async(fork, transport, request):
    """The same on each event loop."""
    return serving(fork, transport, request.param)


@pytest.fixture(params=["asyncio", "trio", "blocking"])
def serve_anyhow(fork, transport, request):
    """The same on each event loop, and without any."""
    return serving(fork, transport, request.param)


@pytest.fixture(params=["poll", "ring", "uring"])
def transport(request):
    return request.param
