"""PathFilesystem: a folder mounted through methods that take paths, plain and async."""

import contextlib
import ctypes
import errno
import fcntl
import os
import pathlib
import select
import stat
import struct
import subprocess

import pytest
from python_filesystems import sleep
from python_support import opened, serving, until

import fusewire
from fusewire import Attr, Lock, PathFilesystem

pytestmark = pytest.mark.timeout(60)


class Mirror(PathFilesystem):
    """Another folder, by paths."""

    def __init__(self, source):
        self.source = source

    def at(self, path):
        return self.source + path

    def getattr(self, path, fh):
        return Attr.from_stat(os.lstat(self.at(path)) if fh is None else os.fstat(fh))

    def readdir(self, path, fh):
        with os.scandir(self.at(path)) as entries:
            return {entry.name: Attr.from_stat(entry.stat(follow_symlinks=False)) for entry in entries}

    def readlink(self, path):
        return os.readlink(self.at(path))

    def open(self, path, flags):
        return os.open(self.at(path), flags & ~os.O_APPEND)

    def create(self, path, mode, flags):
        self.creator = fusewire.current_request().pid
        return os.open(self.at(path), flags | os.O_CREAT, stat.S_IMODE(mode))

    def read(self, path, size, offset, fh):
        return os.pread(fh, size, offset)

    def write(self, path, data, offset, fh):
        return os.pwrite(fh, data, offset)

    def release(self, path, fh):
        os.close(fh)

    def fsync(self, path, datasync, fh):
        (os.fdatasync if datasync else os.fsync)(fh)

    def mkdir(self, path, mode):
        os.mkdir(self.at(path), mode)

    def unlink(self, path):
        os.unlink(self.at(path))

    def rmdir(self, path):
        os.rmdir(self.at(path))

    def symlink(self, target, path):
        os.symlink(target, self.at(path))

    def link(self, source, path):
        os.link(self.at(source), self.at(path))

    def rename(self, old, new, flags):
        os.rename(self.at(old), self.at(new))

    def truncate(self, path, size, fh):
        os.truncate(self.at(path) if fh is None else fh, size)

    def chmod(self, path, mode):
        os.chmod(self.at(path), mode)

    def chown(self, path, uid, gid):
        os.chown(self.at(path), uid, gid, follow_symlinks=False)

    def utimens(self, path, atime_ns, mtime_ns):
        before = os.lstat(self.at(path))
        atime_ns = before.st_atime_ns if atime_ns is None else atime_ns
        mtime_ns = before.st_mtime_ns if mtime_ns is None else mtime_ns
        os.utime(self.at(path), ns=(atime_ns, mtime_ns), follow_symlinks=False)

    def statfs(self, path):
        return os.statvfs(self.at(path))

    def setxattr(self, path, name, value, flags):
        os.setxattr(self.at(path), name, value, flags)

    def getxattr(self, path, name):
        return os.getxattr(self.at(path), name)

    def listxattr(self, path):
        return os.listxattr(self.at(path))


def suspending(method):
    async def later(self, *arguments):
        request = fusewire.current_request()
        await sleep(0)
        assert request is fusewire.current_request()
        return method(self, *arguments)

    return later


#: The same with methods that suspend.
AsyncMirror = type(
    "AsyncMirror",
    (Mirror,),
    {name: suspending(method) for name, method in vars(Mirror).items() if name[0] != "_" and name != "at"},
)


@pytest.fixture(params=[("blocking", Mirror), ("asyncio", Mirror), ("asyncio", AsyncMirror), ("trio", AsyncMirror)])
def mirror(fork, transport, request, tmp_path):
    loop, kind = request.param
    source = tmp_path / "source"
    source.mkdir()
    server = serving(fork, transport, loop)(kind(str(source)), attr_timeout=0, entry_timeout=0)
    server.source = source
    yield server
    server.finish()
    assert server.log() == ""


def test_files(mirror):
    file = mirror.path / "file"
    file.write_bytes(b"some text")
    assert (mirror.source / "file").read_bytes() == b"some text"
    with open(file, "r+b") as stream:
        stream.seek(5)
        stream.write(b"more")
        stream.truncate(7)
        os.fsync(stream.fileno())
    assert file.read_bytes() == b"some mo"
    os.chmod(file, 0o600)
    os.utime(file, ns=(1_000_000_001, 2_000_000_002))
    status = os.stat(file)
    assert stat.S_IMODE(status.st_mode) == 0o600
    assert (status.st_atime_ns, status.st_mtime_ns) == (1_000_000_001, 2_000_000_002)
    with pytest.raises(FileNotFoundError):
        os.stat(mirror.path / "missing")
    os.unlink(file)
    assert os.listdir(mirror.path) == []


def test_a_renamed_tree_takes_its_files_along(mirror):
    (mirror.path / "a/b").mkdir(parents=True)
    (mirror.path / "a/b/file").write_text("text")
    with open(mirror.path / "a/b/file", "r+") as stream, opened(mirror.path / "a/b", os.O_RDONLY) as folder:
        os.rename(mirror.path / "a", mirror.path / "c")
        assert (mirror.path / "c/b/file").read_text() == "text"
        assert os.listdir(folder) == ["file"]
        stream.write("TEXT")
        stream.flush()
        assert os.fstat(stream.fileno()).st_size == 4
    assert (mirror.source / "c/b/file").read_text() == "TEXT"
    assert not (mirror.path / "a").exists()


def test_unlinked_while_open(mirror):
    with open(mirror.path / "file", "w+b") as stream:
        stream.write(b"first")
        stream.flush()
        os.unlink(mirror.path / "file")
        (mirror.path / "file").write_bytes(b"the second one")
        assert os.fstat(stream.fileno()).st_size == 5
        stream.seek(0)
        assert stream.read() == b"first"
        os.ftruncate(stream.fileno(), 2)
        assert os.fstat(stream.fileno()).st_size == 2
    assert (mirror.path / "file").read_bytes() == b"the second one"


def test_what_takes_the_name_of_an_open_file_is_left_alone(mirror):
    with open(mirror.path / "file", "w") as stream:
        os.unlink(mirror.path / "file")
        (mirror.path / "file").touch(0o640)
        with pytest.raises(OSError, match="Stale"):
            os.fchmod(stream.fileno(), 0o777)
        with pytest.raises(OSError, match="Stale"):
            os.setxattr(stream.fileno(), "user.name", b"value")
    assert stat.S_IMODE(os.stat(mirror.source / "file").st_mode) == 0o640
    assert os.listxattr(mirror.source / "file") == []


class ByPath(Mirror):
    """It knows files by their paths alone."""

    open = create = release = None

    def mknod(self, path, mode, rdev):
        os.mknod(self.at(path), mode)

    def read(self, path, size, offset, fh):
        with opened(self.at(path)) as fd:
            return os.pread(fd, size, offset)

    def write(self, path, data, offset, fh):
        with opened(self.at(path), os.O_WRONLY) as fd:
            return os.pwrite(fd, data, offset)

    def flush(self, path, fh):
        os.lstat(self.at(path))


def test_the_same_where_there_is_no_fh(fork, transport, tmp_path):
    server = serving(fork, transport, "blocking")(ByPath(str(tmp_path)), attr_timeout=0, entry_timeout=0)
    with open(server.path / "file", "wb", buffering=0) as stream:
        stream.write(b"first")
        os.unlink(server.path / "file")
        (server.path / "file").write_bytes(b"second")
        for refused in (lambda: stream.write(b"third"), lambda: stream.truncate(0), lambda: os.fstat(stream.fileno())):
            with pytest.raises(OSError, match="Stale"):
                refused()
    assert (tmp_path / "file").read_bytes() == b"second"
    server.finish()
    assert server.log() == ""


def test_replaced_by_rename_while_open(mirror):
    for name in ("old", "new"):
        (mirror.path / name).write_text(name)
    with open(mirror.path / "new") as stream:
        os.rename(mirror.path / "old", mirror.path / "new")
        assert stream.read() == "new"
    assert (mirror.path / "new").read_text() == "old"
    assert os.listdir(mirror.path) == ["new"]


def test_links_and_odd_names(mirror):
    name = os.fsdecode(b"odd \xff name")
    (mirror.path / name).write_text("text")
    os.symlink(name, mirror.path / "symbolic")
    os.link(mirror.path / name, mirror.path / "hard")
    assert (mirror.path / "symbolic").read_text() == (mirror.path / "hard").read_text() == "text"
    assert sorted(os.listdir(mirror.path)) == sorted([name, "symbolic", "hard"])
    # A node that the kernel has forgotten gets another number: these are held while they are compared.
    with contextlib.ExitStack() as held:
        for each in (name, "symbolic", "hard"):
            held.enter_context(opened(mirror.path / each, os.O_PATH | os.O_NOFOLLOW))
        with os.scandir(mirror.path) as entries:
            assert {entry.name: entry.inode() for entry in entries} == {
                each: os.lstat(mirror.path / each).st_ino for each in (name, "symbolic", "hard")
            }


def test_attributes(mirror):
    (mirror.path / "file").touch()
    os.setxattr(mirror.path / "file", "user.name", b"value")
    assert os.getxattr(mirror.path / "file", "user.name") == b"value"
    assert os.listxattr(mirror.path / "file") == ["user.name"]
    assert os.statvfs(mirror.path).f_blocks == os.statvfs(mirror.source).f_blocks


def test_a_copied_tree(mirror):
    source = pathlib.Path(fusewire.__file__).resolve().parent
    for command in (["cp", "-rL", source, mirror.path / "copy"], ["diff", "-r", source, mirror.path / "copy"]):
        done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=50)
        assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_forgotten_is_dropped():
    from fusewire.paths import PathHandlers

    class Request:
        fh = 0
        op_flags = 0

        def __init__(self, node, name="", forgets=()):
            self.node, self.name, self.forgets = node, name, forgets

    class Folders(PathFilesystem):
        def getattr(self, path, fh):
            return Attr.dir(9)

    handlers = PathHandlers(Folders())
    outer = handlers.lookup(Request(1, "outer")).node
    inner = handlers.lookup(Request(outer, "inner")).node
    assert handlers.lookup(Request(outer, "inner")).node == inner
    handlers.forget(Request(0, forgets=[(outer, 1)]))
    assert handlers.getattr(Request(inner)).ino == inner  # which still needs the path through the outer one
    handlers.forget(Request(0, forgets=[(inner, 2)]))
    assert list(handlers._nodes) == [1] and handlers._nodes[1].children == {}


#: _IOWR('M', 1, 8 bytes)
PING = 0xC0084D01


class Further(Mirror):
    """With the operations that few filesystems have; getattr returns what os.stat does, readdir dicts."""

    access = None  # as if it were not there

    def getattr(self, path, fh):
        return os.lstat(self.at(path)) if fh is None else os.fstat(fh)

    def readdir(self, path, fh):
        for name in os.listdir(self.at(path)):
            status = os.lstat(f"{self.at(path)}/{name}")
            yield name, {"st_mode": status.st_mode, "st_ino": status.st_ino}

    def fallocate(self, path, mode, offset, size, fh):
        if mode:
            raise OSError(errno.EOPNOTSUPP, "only plain allocation")
        os.posix_fallocate(fh, offset, size)

    def lseek(self, path, offset, whence, fh):
        return os.lseek(fh, offset, whence)

    def copy_file_range(self, path, offset, fh, target, target_offset, target_fh, size, flags):
        return os.copy_file_range(fh, target_fh, size, offset, target_offset)

    def ioctl(self, path, cmd, data, fh):
        if cmd != PING:
            raise OSError(errno.ENOTTY, "which Python asks of each file that it opens")
        return 7, path.encode()[:4] + data[:4]

    def opendir(self, path):
        return 77

    def fsyncdir(self, path, datasync, fh):
        if (path, datasync, fh) != ("/", True, 77):
            raise OSError(errno.EINVAL, "not what was to be synchronised")

    def poll(self, path, events, fh):
        return events & select.POLLIN

    def getlk(self, path, lock, fh):
        return Lock(fcntl.F_WRLCK, lock.start, lock.end, 1)

    def setlk(self, path, lock, waits, fh):
        if (lock.type, lock.start, lock.end, waits) != (fcntl.F_WRLCK, 3, 6, False):
            raise OSError(errno.EINVAL, "not the lock that was meant")


@pytest.fixture
def further(fork, transport, tmp_path):
    filesystem = Further(str(tmp_path))
    server = serving(fork, transport, "blocking")(filesystem, capabilities=[fusewire.Capability.POSIX_LOCKS])
    server.source = tmp_path
    yield server
    server.finish()
    assert server.log() == ""


def test_what_stat_and_dicts_say(further):
    (further.source / "file").write_bytes(b"12345")
    os.utime(further.source / "file", ns=(1_000_000_001, 2_000_000_002))
    status = os.stat(further.path / "file")
    assert (status.st_size, status.st_mtime_ns) == (5, 2_000_000_002)
    (further.source / "folder").mkdir()
    with os.scandir(further.path) as entries:
        assert {entry.name: entry.is_dir() for entry in entries} == {"file": False, "folder": True}


def test_inode_numbers_of_its_own(fork, transport, tmp_path):
    filesystem = Further(str(tmp_path))
    filesystem.use_ino = True
    (tmp_path / "file").touch()
    os.link(tmp_path / "file", tmp_path / "link")
    server = serving(fork, transport, "blocking")(filesystem)
    number = os.stat(tmp_path / "file").st_ino
    with opened(server.path / "file") as fd:
        assert os.stat(server.path / "link").st_ino == os.fstat(fd).st_ino == number
    assert os.stat(server.path).st_ino == os.stat(tmp_path).st_ino
    with os.scandir(server.path) as entries:
        assert {entry.name: entry.inode() for entry in entries} == {"file": number, "link": number}
    server.finish()
    assert server.log() == ""


def test_space_holes_and_copies(further):
    (further.source / "other").touch()
    with open(further.path / "file", "w+b") as stream, open(further.path / "other", "r+b") as other:
        os.posix_fallocate(stream.fileno(), 0, 1 << 16)
        assert (further.source / "file").stat().st_size == 1 << 16
        os.pwrite(stream.fileno(), b"data", 100)
        assert os.copy_file_range(stream.fileno(), other.fileno(), 50, 96, 1) == 50
        with pytest.raises(OSError, match="not supported"):
            _fallocate(stream.fileno(), 3, 0, 4096)  # FALLOC_FL_PUNCH_HOLE, FALLOC_FL_KEEP_SIZE
        with opened(further.source / "file") as fd:
            for whence in (os.SEEK_DATA, os.SEEK_HOLE):
                assert os.lseek(stream.fileno(), 0, whence) == os.lseek(fd, 0, whence)
    assert (further.source / "other").read_bytes() == bytes(5) + b"data" + bytes(42)


def _fallocate(fd, mode, offset, size):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.fallocate(fd, mode, ctypes.c_int64(offset), ctypes.c_int64(size)):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def test_ioctls_folders_events_and_locks(further):
    (further.source / "file").touch()
    with open(further.path / "file", "r+b") as stream:
        argument = bytearray(b"ping....")
        assert fcntl.ioctl(stream, PING, argument) == 7
        assert argument == b"/filping"
        poll = select.poll()
        poll.register(stream, select.POLLIN | select.POLLOUT)
        assert poll.poll(5000) == [(stream.fileno(), select.POLLIN)]
        fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB, 4, 3)
        with pytest.raises(OSError, match="Invalid"):
            fcntl.lockf(stream, fcntl.LOCK_SH | fcntl.LOCK_NB, 4, 3)
        asked = struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, 10, 5, 0)
        kind, _, start, length, pid = struct.unpack("hhqqi4x", fcntl.fcntl(stream, fcntl.F_GETLK, asked))
        assert (kind, start, length, pid) == (fcntl.F_WRLCK, 10, 5, 1)
    with opened(further.path) as fd:
        os.fdatasync(fd)
        with pytest.raises(OSError, match="Invalid"):
            os.fsync(fd)


def test_a_method_that_is_not_named_as_an_operation_may_be_the_only_async_one(fork, transport, tmp_path):
    (tmp_path / "file").write_text("text")
    filesystem = Mirror(str(tmp_path))

    async def truncate(path, size, fh):
        await sleep(0)
        os.truncate(str(tmp_path) + path, size)

    filesystem.truncate = truncate
    server = serving(fork, transport, None)(filesystem)
    os.truncate(server.path / "file", 2)
    assert (tmp_path / "file").read_text() == "te"
    server.finish()
    assert server.log() == ""


class Nothing(PathFilesystem):
    def getattr(self, path, fh):
        return Attr.dir(1)


def test_missing_methods(fork, transport):
    server = serving(fork, transport, "blocking")(Nothing())
    with pytest.raises(OSError, match="not implemented"):
        os.rmdir(server.path / "folder")
    with pytest.raises(OSError, match="not implemented"):
        os.chmod(server.path / "folder", 0o700)
    until(lambda: os.stat(server.path).st_ino == 1)
    server.finish()
    assert server.log() == ""
