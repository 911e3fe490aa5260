"""Descriptors that come from elsewhere: adopted ones, the device alone, the successor of a server that was killed."""

import errno
import os

import pytest

from harness import PROMPT, cpus, mounts, until
from harness.server import failure


@pytest.fixture
def device(mountpoint):
    """A /dev/fuse descriptor that we mounted ourselves."""
    fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    mounts.mount_device(fd, mountpoint)
    yield fd
    os.close(fd)


@pytest.fixture(params=["poll", "ring", "uring"])
def transport(request):
    return f"--transport={request.param}"


@pytest.fixture(params=["poll", "ring"])
def recoverable(request):
    """A transport whose requests the kernel can send again to a successor."""
    return f"--transport={request.param}"


def test_adopted_by_number(serve, stat, device, transport, mountpoint):
    server = serve(transport, f"--adopt={device}", on="-", pass_fds=[device])
    assert stat().ok()
    server.settled()
    server.close()
    assert mounts.connection_number(mountpoint) is not None  # who mounted it unmounts it
    os.set_blocking(device, True)


def test_adopted_by_name(serve, stat, device, transport):
    server = serve(transport, on=f"/dev/fd/{device}", pass_fds=[device])
    assert stat().ok()
    server.settled()
    server.close()


def test_adopted_before_it_is_mounted(serve, stat, transport, mountpoint):
    fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    try:
        server = serve(transport, f"--adopt={fd}", on="-", pass_fds=[fd])
        mounts.mount_device(fd, mountpoint)
    finally:
        os.close(fd)
    assert stat().ok()
    server.settled()
    server.close()


@pytest.mark.parametrize("what", ["file", "socket", "missing"])
def test_adopting_what_is_no_device(serve, transport, tmp_path, what):
    (tmp_path / "file").touch()
    fd = 200 if what == "missing" else os.open(tmp_path / "file" if what == "file" else "/dev/null", os.O_RDWR)
    server = serve(transport, f"--adopt={fd}", on="-", pass_fds=[fd] if what != "missing" else [], wait=False)
    number, words = failure(server)
    assert number == (errno.EBADF if what == "missing" else errno.EINVAL)
    assert str(fd) in words
    if what != "missing":
        os.close(fd)


@pytest.mark.parametrize("loop", ["epoll", "block"])
def test_the_device_alone(serve, stat, transport, loop, mountpoint):
    """Opened, then mounted by the program: before that it neither spins nor ends."""
    server = serve(transport, f"--loop={loop}", on="-")
    before = server.cpu()
    assert not until(lambda: server.cpu() > before + 0.1, 0.5)
    assert not server.find("end")
    assert server.do("notify inval_inode 1 0 0") == -errno.EAGAIN
    assert server.ask("session").startswith(str(-errno.EAGAIN))
    assert server.do(f"mount {mountpoint}") == 0
    assert stat().ok()
    server.settled()
    mounts.umount(mountpoint)
    assert server.end() == errno.ENODEV
    server.close()


@pytest.mark.parametrize("loop", ["epoll", "block"])
def test_the_device_alone_never_mounted(serve, transport, loop):
    server = serve(transport, f"--loop={loop}", on="-")
    assert server.do("stop") == 0
    assert server.end() == errno.ESHUTDOWN
    server.close()


@pytest.mark.parametrize("loop", ["epoll", "block"])
def test_a_successor(serve, stat, device, recoverable, loop, mountpoint):
    """With the descriptor held elsewhere a kill loses nothing: what was unanswered is sent again to the successor,
    which knows what INIT agreed upon."""
    first = serve(recoverable, f"--adopt={device}", on="-", pass_fds=[device])
    assert stat().ok()
    session = first.ask("session")
    first.do("valid 100")
    first.rule("LOOKUP held* hold")
    waiting = [stat(f"held{i}") for i in range(4)]
    for _ in waiting:
        first.held("LOOKUP")
    first.kill()
    late = stat("late")
    assert late.waits()

    options = [f"--loop={loop}", f"--adopt={device}", f"--session={session}"]
    second = serve(recoverable, *options, on="-", pass_fds=[device])
    assert second.do("valid 100") == 0
    assert second.ask("session") == session
    assert late.ok(PROMPT)
    assert second.do("notify resend") == 0
    for client in waiting:
        assert client.ok(PROMPT)
    assert until(lambda: second.count("resent") == 4)
    assert stat("another").ok(PROMPT)
    second.settled()
    second.close()


def test_a_successor_that_must_wait(serve, storm, stat, device, recoverable, mountpoint):
    """Under load: every client gets its data from one of the two."""
    first = serve(recoverable, f"--adopt={device}", on="-", pass_fds=[device])
    assert stat().ok()  # so INIT is over
    session = first.ask("session")
    callers = storm("read", 8, 300).started()
    assert until(lambda: first.stats()["answered"] > 500)
    first.kill()
    options = ["--loop=block", "--node=file", f"--adopt={device}", f"--session={session}"]
    second = serve(recoverable, *options, on="-", pass_fds=[device])
    assert second.do("notify resend") == 0
    result = callers.result()
    assert result["done"] == 2400 and result["failed"] == 0
    second.settled()
    second.close()


def test_a_successor_over_uring(serve, stat, client, device, mountpoint):
    """It serves who comes, and who has come meanwhile; what the first one held is not sent again, and ends with the
    connection."""
    every = f"--cpus={cpus.every()}"
    first = serve("--transport=uring", every, f"--adopt={device}", on="-", pass_fds=[device])
    assert stat().ok()
    session = first.ask("session")
    first.rule("LOOKUP held* hold")
    held = stat("held")
    first.held("LOOKUP")
    first.kill()
    late = stat("late")
    assert late.waits()
    second = serve("--transport=uring", every, f"--adopt={device}", f"--session={session}", on="-", pass_fds=[device])
    assert second.ask("session") == session
    for cpu in cpus.usable():
        assert stat(cpu=cpu).ok(PROMPT)
    assert late.ok(PROMPT)
    assert second.do("notify resend") == 0
    assert not held.ended(0.1) and not second.find("resent")
    mounts.abort(mounts.connection_number(mountpoint))
    assert held.error(PROMPT) == errno.ECONNABORTED
    assert second.end() == errno.ECONNABORTED
    second.close()


def test_a_session_that_is_none(serve, device, transport):
    size = 64
    zeros = "00" * size
    options = [f"--adopt={device}", f"--session={zeros}"]
    number, _ = failure(serve(transport, *options, on="-", pass_fds=[device], wait=False))
    assert number == errno.EINVAL


def test_a_session_without_a_descriptor(serve, transport, mountpoint):
    session = "40" + "00" * 63
    number, _ = failure(serve(transport, f"--session={session}", wait=False))
    assert number == errno.EINVAL
    assert mounts.connection_number(mountpoint) is None


@pytest.mark.parametrize("loop", ["epoll", "block"])
def test_raw(serve, client, storm, transport, loop):
    """The program answers INIT itself; whatever else it does goes the same ways."""
    server = serve(transport, f"--loop={loop}", "--raw")
    assert client("return os.stat(path + '/file').st_size").ok() == str(1 << 20)
    for operation in ("read", "write"):
        assert storm(operation, 8, 10).result()["failed"] == 0
    server.settled()
    server.close()


def test_raw_with_an_interrupt(serve, client, transport):
    server = serve(transport, "--raw")
    server.rule("LOOKUP * hold")
    waiting = client("return os.stat(path + '/file').st_size")
    id = server.held("LOOKUP")
    waiting.signal()
    server.interrupted(id)
    assert waiting.ended(PROMPT)
    server.close()


def test_two_mounts_are_two_connections(serve, transport, tmp_path):
    """A reply on the other one is refused; the end of one is not the end of the other."""
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    servers = [serve(transport, on=folder) for folder in folders]
    assert servers[0].number != servers[1].number
    mounts.umount(folders[0])
    assert servers[0].end() == errno.ENODEV
    assert not servers[1].find("end")
    for server in servers:
        server.close()
