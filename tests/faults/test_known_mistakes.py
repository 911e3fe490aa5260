"""What existing FUSE servers get wrong, each once. Two more of them have tests where they belong: a BATCH_FORGET with a
count beyond the message (tests/wire, tests/fuzz), and mount points that are none (tests/test_mount.py as well)."""

import errno
import os
import pathlib
import signal
import stat
import subprocess

import pytest

from harness import EXAMPLES, PROMPT, child_environment, mounts, until
from harness.client import Timer
from harness.faults import STRACE, Injection, inject
from harness.server import FAULT_SERVER, failure

NOBODY = 65534

POSIX_LOCKS, FLOCK_LOCKS = 1, 10  # capabilities


@pytest.fixture
def example(client, mountpoint):
    """Starts one of the example filesystems on the mount point."""
    processes = []

    def start(name, *arguments):
        assert (EXAMPLES / name).exists(), f"{EXAMPLES / name} is missing: build the examples first"
        process = subprocess.Popen([EXAMPLES / name, *arguments, mountpoint, "-f"], stderr=subprocess.PIPE, text=True,
                                   env=child_environment())
        processes.append(process)
        assert until(lambda: mounts.connection_number(mountpoint) or process.poll() is not None)
        assert process.poll() is None, process.stderr.read()
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait(10)
        process.stderr.close()


def finish(process, mountpoint):
    mounts.umount(mountpoint)
    assert process.wait(10) == 0, process.stderr.read()


def test_handlers_that_wait(launch, client, stat):
    """Ten that wait for a lock hang nobody else, and can be killed."""
    server = launch(f"--capabilities={1 << POSIX_LOCKS | 1 << FLOCK_LOCKS}")
    server.rule("SETLKW * hold")
    body = "fd = os.open(path + '/file', os.O_RDWR)\nfcntl.flock(fd, fcntl.LOCK_EX)\nreturn 0"
    waiting = [client(body) for _ in range(10)]
    for _ in waiting:
        server.held("SETLKW")
    for i in range(5):
        assert stat(f"other{i}").ok(PROMPT)
    for one in waiting[:5]:
        one.signal(signal.SIGKILL)
    for one in waiting[:5]:
        assert one.ended(PROMPT)
    assert server.do("release 100") == 5
    for one in waiting[5:]:
        assert one.ok(PROMPT)
    server.settled()
    server.close()


@pytest.mark.parametrize("transport", ["auto", "ring", "uring"])
def test_registering_with_io_uring_fails(serve, stat, transport):
    """Mounted, and hangs: not here. It is served, or not mounted, or ended at once."""
    server = serve(f"--transport={transport}", "--loop=block", prefix=[*STRACE, *inject("io_uring_register", "ENOMEM")],
                   wait=False)
    if server.event("ready", "failed")[0] == "ready":
        client = stat()
        if transport == "uring":  # it registers its ring entries when it reads
            assert client.waits()
            assert server.end() == errno.ENOMEM
            server.tell("quit")
            assert client.error() in (errno.ENOTCONN, errno.ECONNABORTED)
            server.ended()
        else:
            assert client.ok(PROMPT * 3)
            server.close()
    assert mounts.connection_number(server.mountpoint) is None


def test_entering_io_uring_fails(serve, make_busy, stat):
    server = serve("--transport=ring", "--loop=block")
    make_busy(server)
    with Injection(server.pid, "io_uring_enter", "EPERM"):
        assert stat().ok(PROMPT * 3)
        before = server.cpu()
        assert not until(lambda: server.cpu() > before + 0.05, 0.3)
    server.settled()
    server.close()


@pytest.mark.parametrize("transport", ["poll", "ring"])
def test_writing_a_reply_fails(serve, stat, transport):
    server = serve(f"--transport={transport}")
    with Injection(server.pid, "write,writev", "EIO", "1", "/dev/fuse"):
        assert stat().error(PROMPT * 3) == errno.EIO
    assert server.stats()["replies_failed"] == 1
    server.close()


@pytest.mark.parametrize("error", ["EAGAIN", "ENOMEM", "EIO"])
def test_reading_the_device_fails_once(serve, stat, transport, error):
    server = serve(f"--transport={transport}")
    with Injection(server.pid, "read,readv", error, "1", "/dev/fuse"):
        assert stat().ok(PROMPT * 3)
    server.settled()
    server.close()


def test_mount_point_is_a_file(serve, transport, tmp_path):
    (tmp_path / "file").touch()
    number, words = failure(serve(f"--transport={transport}", on=tmp_path / "file", wait=False))
    assert number == errno.ENOTDIR and "is not a folder" in words


def test_mount_point_is_not_empty(serve, transport, mountpoint):
    (mountpoint / "file").touch()
    number, words = failure(serve(f"--transport={transport}", wait=False))
    assert number == errno.ENOTEMPTY and "nonempty" in words


def test_mount_point_is_mounted_already(serve, transport, stat):
    first = serve(f"--transport={transport}")
    number, words = failure(serve(f"--transport={transport}", wait=False))
    assert number == errno.EBUSY and "is mounted there" in words
    assert stat().ok()
    first.close()


def test_fusermount3_hangs(serve, transport, tmp_path, mountpoint):
    """So does not the call that waits for it."""
    (tmp_path / "fusermount3").write_text("#!/bin/sh\nexec sleep 1000\n")
    (tmp_path / "fusermount3").chmod(0o755)
    environment = child_environment(traced=True, PATH=f"{tmp_path}:/usr/bin:/bin")
    server = serve(f"--transport={transport}", "--mount=auto_unmount", env=environment, wait=False)
    with Timer() as timer:
        event = server.event("failed", "ready", seconds=60)
    assert event[:2] == ["failed", str(errno.ETIMEDOUT)]
    assert timer.seconds < 30
    server.ended()
    assert mounts.connection_number(mountpoint) is None


def test_a_fork_without_exec_keeps_the_device_open(serve, stat, transport):
    server = serve(f"--transport={transport}", "--loop=block")
    server.rule("LOOKUP * hold")
    waiting = stat()
    server.held("LOOKUP")
    server.fork()
    server.kill()
    assert waiting.error(PROMPT) in (errno.ECONNABORTED, errno.ENOTCONN)


def test_truncate_to_a_petabyte(example, client, mountpoint, transport):
    """A sparse file, or an error: the memory filesystem lives."""
    process = example("memfs", "-o", f"transport={transport}")
    worker = client(
        """
fd = os.open(path + "/large", os.O_CREAT | os.O_RDWR, 0o600)
try:
    os.ftruncate(fd, 10**15)
except OSError as error:
    assert error.errno in (errno.EFBIG, errno.ENOSPC, errno.ENOMEM), error
else:
    assert os.fstat(fd).st_size == 10**15
    os.pwrite(fd, b"end", 10**15 - 3)
    assert os.pread(fd, 4096, 10**15 - 3) == b"end"
    assert os.pread(fd, 4096, 10**14) == bytes(4096)
    os.ftruncate(fd, 0)
os.close(fd)
return 0
"""
    )
    assert worker.ok() == "0"
    finish(process, mountpoint)


def test_appending_through_the_writeback_cache(example, client, mountpoint, transport, tmp_path):
    """The kernel sends offsets; an O_APPEND in the backing file would ignore them."""
    source = tmp_path / "source"
    source.mkdir()
    process = example("passthrough", source, "-o", f"transport={transport},writeback_cache")
    worker = client(
        """
fd = os.open(path + "/file", os.O_CREAT | os.O_APPEND | os.O_RDWR, 0o600)
for i in range(100):
    os.write(fd, b"%06d " % i * 100)
os.close(fd)
fd = os.open(path + "/file", os.O_WRONLY)
os.pwrite(fd, b"START", 0)
os.close(fd)
fd = os.open(path + "/file", os.O_APPEND | os.O_WRONLY)
os.write(fd, b"end")
os.fsync(fd)
os.close(fd)
return 0
"""
    )
    assert worker.ok() == "0"
    expected = b"".join(b"%06d " % i * 100 for i in range(100)) + b"end"
    assert (source / "file").read_bytes() == b"START" + expected[5:]
    finish(process, mountpoint)


def test_passthrough_creates_as_the_caller(example, client, mountpoint, transport, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    source.chmod(0o777)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.getuid() and str(folder).startswith("/tmp/"):
            folder.chmod(folder.stat().st_mode | 0o111)
    process = example("passthrough", source, "-o", f"transport={transport},allow_other,default_permissions")
    worker = client(
        f"""
os.umask(0o022)
os.setgroups([])
os.setgid({NOBODY})
os.setuid({NOBODY})
os.close(os.open(path + "/file", os.O_CREAT | os.O_WRONLY, 0o666))
os.mkdir(path + "/folder")
os.symlink("x", path + "/link")
os.mkfifo(path + "/fifo")
return 0
"""
    )
    assert worker.ok() == "0"
    for name in ("file", "folder", "link", "fifo"):
        status = (source / name).lstat()
        assert (status.st_uid, status.st_gid) == (NOBODY, NOBODY), name
    assert stat.S_IMODE((source / "file").stat().st_mode) == 0o644
    finish(process, mountpoint)


def test_no_thread_and_no_helper_stays(serve, transport):
    server = serve(f"--transport={transport}")
    children = pathlib.Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    assert server.threads() == 1 and not children
    assert str(FAULT_SERVER) in os.readlink(f"/proc/{server.pid}/exe")
    server.close()
