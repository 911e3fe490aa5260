"""System calls that fail on purpose: once, for a while, or for good. No hang, no spin, no crash, no lost request."""

import errno
import shutil

import pytest

from harness import PROMPT, child_environment, mounts, until
from harness.client import Timer
from harness.faults import Injection, STRACE, inject, record
from harness.server import FAULT_SERVER, failure

DEVICE = "/dev/fuse"

# The calls that may write a reply, and those that may read a request.
WAITS = "epoll_wait,epoll_pwait,epoll_pwait2"
WRITES, READS = "write,writev,pwrite64,pwritev,pwritev2", "read,readv,pread64,preadv,preadv2"


@pytest.fixture(params=["poll-epoll", "poll-block", "ring-epoll", "ring-block"])
def direct(request, serve):
    """A server that reads and writes by itself, not through io_uring."""
    transport, loop = request.param.split("-")
    return serve(f"--transport={transport}", f"--loop={loop}", "--report", traced=True)


@pytest.fixture
def busy(serve, make_busy):
    """A server that reads and writes through io_uring."""
    server = serve("--transport=ring", "--loop=block", "--report", traced=True)
    make_busy(server)
    return server


# ---- Reading and writing the device ----------------------------------------------------------------------------------


@pytest.mark.parametrize("error", ["EAGAIN", "EINTR", "ENOENT", "ENOMEM", "EIO", "ENOBUFS"])
def test_a_read_fails_once(direct, stat, error):
    with Injection(direct.pid, READS, error, "1", DEVICE):
        assert stat().ok()
        assert stat("other").ok()
    assert not direct.find("end")
    direct.settled()
    direct.close()


@pytest.mark.parametrize("error", ["ENOENT", "ENOMEM", "EIO"])
def test_reads_fail_for_a_while(direct, stat, error):
    with Injection(direct.pid, READS, error, "1..50", DEVICE):
        assert stat().ok()
    assert not direct.find("end")
    direct.settled()
    direct.close()


@pytest.mark.parametrize("error", ["EIO", "ENOMEM", "EBADF"])
def test_reads_fail_for_good(direct, stat, error):
    """It ends, with that error, and closing answers who waits."""
    with Injection(direct.pid, READS, error, "1+", DEVICE):
        client = stat()
        assert direct.end() == getattr(errno, error)
        before = direct.cpu()
        assert not until(lambda: direct.cpu() > before + 0.05, 0.2)
        direct.tell("quit")
        assert client.error() in (errno.ENOTCONN, errno.ECONNABORTED, errno.EIO)
    direct.ended()


@pytest.mark.parametrize("error", ["EINTR", "EAGAIN", "ENOMEM", "ENOBUFS"])
def test_a_reply_fails_for_a_while(direct, stat, error):
    """It is written again."""
    with Injection(direct.pid, WRITES, error, "1..3", DEVICE):
        assert stat().ok()
    assert direct.settled()["replies_failed"] == 0
    direct.close()


@pytest.mark.parametrize("error", ["EIO", "EINVAL", "EFAULT"])
def test_a_reply_is_refused(direct, stat, error):
    """The client gets EIO in its place, and the failure is reported."""
    with Injection(direct.pid, WRITES, error, "1", DEVICE):
        assert stat().error() == errno.EIO
    assert direct.event("outcome")[2] == str(-getattr(errno, error))
    stats = direct.stats()
    assert stats["replies_failed"] == 1 and stats["open"] == 0
    assert stat("other").ok()
    direct.close()


@pytest.mark.parametrize("error", ["EIO", "ENOMEM", "EINTR"])
def test_replies_fail_for_good(direct, stat, error):
    """Nothing can be answered, so the connection is over; closing lets the kernel answer."""
    with Injection(direct.pid, WRITES, error, "1+", DEVICE):
        client = stat()
        # EINTR would look like what passes, and no end does.
        assert direct.end() == (errno.EIO if error == "EINTR" else getattr(errno, error))
        direct.tell("quit")
        assert client.error() in (errno.ENOTCONN, errno.ECONNABORTED)
    direct.ended()


# ---- io_uring --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", ["EPERM", "EINVAL", "EBADF", "ENOMEM", "EFAULT", "ENXIO"])
def test_entering_fails_for_good(busy, storm, stat, error):
    """It goes on without io_uring."""
    with Injection(busy.pid, "io_uring_enter", error):
        with Timer() as timer:
            assert stat().ok()
        assert timer.seconds < 2 * PROMPT
        assert storm("stat", 8, 20).result()["failed"] == 0
        assert storm("write", 8, 5).result()["failed"] == 0
        before = busy.cpu()
        assert not until(lambda: busy.cpu() > before + 0.05, 0.3)
        assert busy.do("stop") == 0
        assert busy.end() == errno.ESHUTDOWN
        busy.settled()
        busy.tell("quit")
        busy.ended()


@pytest.mark.parametrize("error", ["EPERM", "EINVAL"])
def test_entering_fails_for_good_with_requests_open(busy, storm, stat, error):
    """What io_uring had of them is not lost."""
    busy.do("valid 100")
    busy.rule("LOOKUP held* hold")
    waiting = [stat(f"held{i}") for i in range(6)]
    for _ in waiting:
        busy.held("LOOKUP")
    with Injection(busy.pid, "io_uring_enter", error):
        assert busy.do("release 100") == 6
        for client in waiting:
            assert client.ok()
        assert stat().ok()
    busy.settled()
    busy.close()


@pytest.mark.parametrize("error", ["EAGAIN", "EBUSY", "EINTR", "ENOMEM"])
def test_entering_fails_once(busy, storm, stat, error):
    with Injection(busy.pid, "io_uring_enter", error, "1"):
        assert stat().ok()
    assert storm("stat", 8, 20).result()["failed"] == 0
    busy.settled()
    busy.close()


@pytest.mark.parametrize("error", ["EAGAIN", "EBUSY"])
def test_entering_does_not_work_for_lack_of_something(busy, storm, error):
    """An error that passes, and does not: whoever calls is answered, and whoever does not call is no reason to spin."""
    busy.rule("GETATTR * block 1")
    with Injection(busy.pid, "io_uring_enter", error):
        for _ in range(5):
            assert storm("stat", 8, 5).result()["failed"] == 0
        before = busy.cpu()
        assert not until(lambda: busy.cpu() > before + 0.1, 0.5)
    busy.settled()
    busy.close()


def test_entering_fails_under_load(serve, storm, make_busy):
    server = serve("--transport=ring", "--loop=block")
    make_busy(server)
    callers = storm("read", 8, 200).started()
    with Injection(server.pid, "io_uring_enter", "EPERM"):
        result = callers.result()
    assert result["done"] == 1600 and result["failed"] == 0
    server.settled()
    server.close()


@pytest.mark.parametrize("error", ["EPERM", "ENOSYS", "ENOMEM", "EMFILE", "EINVAL"])
def test_no_ring(serve, storm, error):
    """`auto` goes on with the other transport and says why."""
    server = serve("--loop=block", prefix=[*STRACE, *inject("io_uring_setup", error)])
    assert server.transport == "poll"
    assert "io_uring is not to be had" in server.stats()["reason"]
    assert storm("read", 8, 10).result()["failed"] == 0
    assert server.do("notify inval_inode 1 0 0") == 0
    server.settled()
    server.close()


@pytest.mark.parametrize("error", ["EPERM", "ENOSYS", "ENOMEM", "EMFILE"])
@pytest.mark.parametrize("transport", ["ring", "uring"])
def test_no_ring_but_asked_for(serve, mountpoint, transport, error):
    prefix = [*STRACE, *inject("io_uring_setup", error)]
    number, words = failure(serve(f"--transport={transport}", prefix=prefix, wait=False))
    assert number == getattr(errno, error)
    assert "io_uring" in words
    assert mounts.connection_number(mountpoint) is None


@pytest.mark.parametrize("error", ["EINVAL", "ENOMEM", "EPERM", "EEXIST"])
@pytest.mark.parametrize("transport", ["auto", "ring"])
def test_registering_fails(serve, storm, mountpoint, error, transport):
    """It works without what could not be registered, or takes the other transport, or says that it cannot: it never
    hangs."""
    prefix = [*STRACE, *inject("io_uring_register", error)]
    server = serve(f"--transport={transport}", "--loop=block", prefix=prefix, wait=False)
    event = server.event("ready", "failed")
    if event[0] == "failed":
        assert transport == "ring" and int(event[1]) == getattr(errno, error)
        assert mounts.connection_number(mountpoint) is None
        return
    assert storm("stat", 8, 40).result()["failed"] == 0
    assert storm("read", 8, 10).result()["failed"] == 0
    server.close()


# ---- Waiting ---------------------------------------------------------------------------------------------------------


def test_waiting_is_interrupted(serve, stat):
    server = serve("--transport=poll", "--loop=block")
    with Injection(server.pid, WAITS, "EINTR", "1..20"):
        assert stat().ok()
        assert stat("other").ok()
    server.settled()
    server.close()


@pytest.mark.parametrize("error", ["EBADF", "EINVAL"])
def test_waiting_fails(serve, stat, error):
    """Nothing can be done about it here: fusewire_read says so, and closing answers who waits."""
    server = serve("--transport=poll", "--loop=block")
    with Injection(server.pid, WAITS, error, "1"):
        client = stat()
        event = server.event("end")
    assert event[1] == str(-getattr(errno, error))
    assert "signal" not in event
    server.tell("quit")
    server.ended()
    client.result()


# ---- Opening and closing ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", ["EPERM", "EACCES", "ENOMEM", "EBUSY", "ENODEV", "EINVAL", "EIO"])
def test_mounting_fails(serve, mountpoint, error, monkeypatch):
    """Without fusermount3 to fall back on."""
    strace = shutil.which("strace")
    monkeypatch.setenv("PATH", "/nowhere")
    prefix = [strace, *STRACE[1:], *inject("mount,fsopen,fsconfig,fsmount,move_mount", error)]
    number, words = failure(serve(prefix=prefix, wait=False))
    assert number == getattr(errno, error)
    assert words
    assert mounts.connection_number(mountpoint) is None


@pytest.mark.parametrize("error", ["EPERM", "EACCES"])
def test_mounting_is_forbidden_but_fusermount3_may(serve, stat, error):
    server = serve(prefix=[*STRACE, *inject("mount,fsopen,fsconfig,fsmount,move_mount", error)])
    assert stat().ok()
    server.close()


@pytest.mark.parametrize("error", ["ENOENT", "ENXIO", "EMFILE", "ENODEV"])
def test_no_device(serve, mountpoint, error):
    number, words = failure(serve(prefix=[*STRACE, *inject("open,openat", error, path=DEVICE)], wait=False))
    assert number in (getattr(errno, error), errno.ENODEV)
    assert "/dev/fuse" in words or "no FUSE in the kernel" in words
    assert mounts.connection_number(mountpoint) is None


# Calls whose failure says nothing about the library: those that cannot fail, give something back, or are the loader's,
# the C library's or strace's business; and those of the server itself.
HARMLESS = {
    "close", "munmap", "exit_group", "exit", "execve", "brk", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn",
    "arch_prctl", "set_tid_address", "set_robust_list", "rseq", "getrandom", "write", "getppid", "gettid", "getpid",
    "getuid", "geteuid", "getgid", "getegid", "clock_gettime", "clock_nanosleep", "kill", "tgkill", "wait4", "futex",
    "sigaltstack", "prctl", "mprotect",
}


# strace counts in each process anew, so the call that fails here also fails in the process that unmounts.
NEEDED_TO_UNMOUNT = {"umount2", "clone", "clone3", "fork", "vfork", "statx"}


@pytest.mark.long
@pytest.mark.parametrize("transport", ["poll", "ring", "uring"])
def test_every_call_of_opening_and_closing(serve, mountpoint, transport, tmp_path):
    """Each system call that opening and closing make fails once, one run for each: no crash and no hang, errors in
    words, and nothing stays mounted."""
    options = ["--open-only", f"--transport={transport}"]
    names = record([FAULT_SERVER, *options, mountpoint], child_environment(traced=True), tmp_path / "log")
    start = names.index("getppid")
    runs, bad = 0, []
    for index in range(start, len(names)):
        name = names[index]
        if name in HARMLESS:
            continue
        when = names[: index + 1].count(name)
        prefix = [*STRACE, "-f", *inject(name, "ENOMEM", str(when))]
        server = serve(*options, prefix=prefix, wait=False)
        event = server.event("failed", "gone")
        status = server.process.wait(10)
        left = mounts.connection_number(mountpoint) is not None
        mounts.detach(mountpoint)
        worded = event[0] == "gone" or (int(event[1]) > 0 and len(event) > 3)
        if status != 0 or not worded or (left and name not in NEEDED_TO_UNMOUNT):
            bad.append((name, when, status, event, left))
        runs += 1
    assert not bad
    assert runs > 20
