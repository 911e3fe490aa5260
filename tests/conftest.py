"""The ground of all Python tests: a private mount namespace, FUSE or a reason why not, and nothing left behind."""

import os
import pathlib
import signal
import time
import uuid

import pytest

from harness import mounts, uring

SESSION = "FUSEWIRE_TEST_SESSION"


def pytest_configure(config):
    # Whoever starts the tests in the background may have told them to ignore it, and clients inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "needs_root: mounts by system call, aborts connections, or changes a sysctl")
    config.addinivalue_line("markers", "needs_uring: uses FUSE-over-io_uring; so does what is parametrized by it")
    os.environ[SESSION] = uuid.uuid4().hex
    if os.geteuid() == 0:
        try:
            mounts.enter_private_namespace()
        except PermissionError:
            pass  # a container may forbid it; then the tests share the namespace that they were started in


@pytest.hookimpl(hookwrapper=True)
def pytest_runtestloop():
    with uring.switched_on():
        yield


def needs_uring(item):
    """Also known by a parameter such as "uring" or "uring-epoll"."""
    parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
    return item.get_closest_marker("needs_uring") or any(str(value).startswith("uring") for value in parameters)


def why_not(item):
    """What this machine lacks for a test."""
    if item.get_closest_marker("needs_root") and os.geteuid() != 0:
        return "needs root"
    if item.get_closest_marker("needs_fuse"):
        try:
            os.close(os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC))
        except OSError as error:
            return f"/dev/fuse cannot be used here: {error.strerror}"
    return uring.why_not() if needs_uring(item) else None


def pytest_runtest_setup(item):
    reason = why_not(item)
    if reason and os.environ.get("CI") == "true":
        pytest.fail(f"{reason}, and continuous integration has to test this", pytrace=False)
    if reason:
        pytest.skip(reason)


def processes_of_this_session():
    """Descendants, also those that have gone into the background: they carry the session's mark."""
    mark = f"{SESSION}={os.environ[SESSION]}".encode()
    found = {}
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if int(folder.name) != os.getpid() and mark in (folder / "environ").read_bytes().split(b"\0"):
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ")
                found[int(folder.name)] = command.decode(errors="replace")
        except OSError:
            pass
    return found


@pytest.fixture(scope="session", autouse=True)
def nothing_left_behind():
    before = mounts.fuse_mounts()
    yield
    left = [path for path in mounts.fuse_mounts() if path not in before]
    for path in left:
        number = mounts.connection_number(path)
        mounts.detach(path)
        if number is not None and os.geteuid() == 0:
            mounts.abort(number)
    deadline = time.monotonic() + 2  # what was told to end may still be about to
    while (processes := processes_of_this_session()) and time.monotonic() < deadline:
        time.sleep(0.02)
    for pid in processes:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    assert not left, "mounts were left behind"
    assert not processes, "processes were left behind"
