"""Programs that were written for fusepy, mfusepy and pyfuse3, served by fusewire."""

import contextlib
import copy
import ctypes
import errno
import os
import pathlib
import pickle
import signal
import stat
import subprocess
import sys

import pytest
from python_support import BUILD, MNT_DETACH, is_mounted, opened, unmount, until

from fusewire.compat import fusepy, mfusepy, pyfuse3

pytestmark = pytest.mark.timeout(60)

PROGRAMS = pathlib.Path(__file__).parent / "programs"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(BUILD / "python"), "LC_ALL": "C.UTF-8"}


def command(module, *arguments):
    return [sys.executable, "-m", f"fusewire.compat.{module}", *map(str, arguments)]


class Program:
    """A program in the foreground."""

    def __init__(self, folder, module, name, *arguments):
        self.path = folder
        self.process = subprocess.Popen(
            command(module, PROGRAMS / name, *arguments),
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        until(lambda: is_mounted(folder) or self.process.poll() is not None)
        if self.process.poll() is not None:
            pytest.fail("the program did not mount:\n" + self.process.stderr.read())

    def finish(self):
        """Unmounts; the program ends by itself, and returns what it said."""
        if self.process.poll() is None and is_mounted(self.path):
            unmount(self.path)
        return self.ended()

    def ended(self):
        said, complained = self.process.communicate(timeout=20)
        assert self.process.returncode == 0, complained
        return said, complained


@pytest.fixture
def start(folder):
    programs = []

    def start(module, name, *arguments):
        programs.append(Program(folder, module, name, *(arguments or [folder])))
        return programs[-1]

    yield start
    for program in programs:
        with contextlib.suppress(OSError):
            unmount(folder, MNT_DETACH)
        program.process.kill()
        program.process.communicate()


@pytest.fixture
def shelf(start):
    program = start("fusepy", "shelf_fusepy.py")
    yield program
    assert program.finish() == ("done\n", "")


def test_files_and_folders(shelf):
    folder = shelf.path
    (folder / "a/b").mkdir(parents=True)
    file = folder / "a/b/file"
    file.write_text("some text")
    with open(file, "a") as stream:
        stream.write(" and more")
    assert file.read_text() == "some text and more"
    file.write_text("short")
    assert file.read_text() == "short"
    os.truncate(file, 2)
    assert file.read_bytes() == b"sh"
    with pytest.raises(OSError, match="not empty"):
        (folder / "a").rmdir()
    os.rename(folder / "a", folder / "c")
    assert (folder / "c/b/file").read_text() == "sh"
    assert os.listdir(folder) == ["c"]
    os.symlink("c/b/file", folder / "link")
    assert (folder / "link").read_text() == "sh"
    with pytest.raises(FileNotFoundError):
        (folder / "missing").read_text()
    large = os.urandom(1_000_000)
    (folder / "large").write_bytes(large)
    assert (folder / "large").read_bytes() == large


def test_attributes(shelf):
    file = shelf.path / "file"
    file.touch()
    os.chmod(file, 0o640)
    os.utime(file, (1_000_000_000.5, 1_200_000_000.25))
    status = os.stat(file)
    assert (status.st_mode, status.st_uid) == (stat.S_IFREG | 0o640, 0)
    assert (status.st_atime, status.st_mtime) == (1_000_000_000.5, 1_200_000_000.25)
    os.utime(file)
    assert os.stat(file).st_mtime > 1_700_000_000
    with pytest.raises(OSError, match="Read-only"):
        os.chown(file, 1, 1)
    space = os.statvfs(shelf.path)
    assert (space.f_frsize, space.f_blocks, space.f_bfree, space.f_bavail) == (1024, 100, 50, 40)
    os.setxattr(file, "user.label", b"value")
    assert os.listxattr(file) == ["user.label"] and os.getxattr(file, "user.label") == b"value"
    os.removexattr(file, "user.label")
    with pytest.raises(OSError, match="No data"):
        os.getxattr(file, "user.label")


def test_only_one_of_the_times_is_set(shelf):
    file = shelf.path / "file"
    file.touch()
    os.utime(file, (1_000_000_000, 1_200_000_000))
    subprocess.run(["touch", "-m", "-d", "@1300000000", file], check=True, timeout=20)
    status = os.stat(file)
    assert (status.st_atime, status.st_mtime) == (1_000_000_000, 1_300_000_000)


def test_who_asks(shelf):
    assert (shelf.path / "who").read_text() == f"{os.getuid()} {os.getgid()} {os.getpid()}\n"


def test_a_file_that_is_removed_while_it_is_open(shelf):
    file = shelf.path / "file"
    with open(file, "w+") as stream:
        stream.write("text")
        stream.flush()
        file.unlink()
        assert not file.exists()
        (hidden,) = os.listdir(shelf.path)
        assert hidden.startswith(".fuse_hidden")
        file.write_text("another one")
        stream.seek(0)
        assert stream.read() == "text"
        stream.write(" and more")
        stream.flush()
        assert os.fstat(stream.fileno()).st_size == 13
    until(lambda: os.listdir(shelf.path) == ["file"])
    with open(file) as stream:
        (shelf.path / "new").write_text("new")
        os.rename(shelf.path / "new", file)
        assert stream.read() == "another one" and file.read_text() == "new"
    until(lambda: os.listdir(shelf.path) == ["file"])


def test_fuse_exit(start):
    program = start("fusepy", "shelf_fusepy.py")
    with contextlib.suppress(OSError), open(program.path / "end", "w", buffering=1) as stream:
        stream.write("now\n")
    assert program.ended() == ("done\n", "")
    assert not is_mounted(program.path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_end_it(start, number):
    program = start("fusepy", "shelf_fusepy.py")
    assert os.listdir(program.path) == []  # it is being served
    program.process.send_signal(number)
    assert program.ended() == ("done\n", "")
    assert not is_mounted(program.path)


def test_in_the_background(folder):
    try:
        done = subprocess.run(
            command("fusepy", PROGRAMS / "shelf_fusepy.py", folder, "--background"),
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            timeout=20,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        (folder / "file").write_text("text")
        pid = int((folder / "who").read_text().split()[2])
        assert pid == os.getpid() and (folder / "file").read_text() == "text"
    finally:
        unmount(folder)


@pytest.mark.parametrize("more", [[], ["--background"]])
def test_where_mounting_fails(folder, more):
    done = subprocess.run(
        command("fusepy", PROGRAMS / "shelf_fusepy.py", folder / "missing", *more),
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.returncode == 1 and done.stdout == ""
    assert "RuntimeError" in done.stderr.splitlines()[-1] and "does not exist" in done.stderr


def test_how_programs_are_run(tmp_path):
    (tmp_path / "beside.py").write_text("HERE = 1\n")
    (tmp_path / "program.py").write_text(
        "import fuse, fusepy, mfusepy, beside, sys\n"
        "print(__name__, sys.argv[1:], fuse.FUSE is fusepy.FUSE, beside.HERE, hasattr(__builtins__, 'bytes'))\n"
    )
    done = subprocess.run(
        command("fusepy", tmp_path / "program.py", "-x", "y"),
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert (done.stdout, done.stderr) == ("__main__ ['-x', 'y'] True 1 True\n", "")
    done = subprocess.run(command("fusepy"), env=ENVIRONMENT, capture_output=True, text=True, timeout=20)
    assert done.returncode == 1 and "usage: python3 -m fusewire.compat.fusepy PROGRAM" in done.stderr


# ---- A mirrored folder ----


@pytest.fixture
def mirror(start, folder, tmp_path):
    program = start("fusepy", "mirror_fusepy.py", tmp_path, folder)
    program.source = tmp_path
    yield program
    assert program.finish() == ("", "")


def test_a_mirror(mirror):
    (mirror.path / "a/b").mkdir(parents=True)
    (mirror.path / "a/b/file").write_text("text")
    os.link(mirror.path / "a/b/file", mirror.path / "link")
    os.symlink("link", mirror.path / "symbolic")
    os.rename(mirror.path / "a", mirror.path / "c")
    assert (mirror.path / "symbolic").read_text() == (mirror.source / "c/b/file").read_text() == "text"
    status, link = os.stat(mirror.path / "c/b/file"), os.stat(mirror.path / "link")
    assert status.st_ino == link.st_ino == os.stat(mirror.source / "link").st_ino and link.st_nlink == 2
    os.mkfifo(mirror.path / "pipe")
    assert stat.S_ISFIFO(os.stat(mirror.source / "pipe").st_mode)
    with pytest.raises(OSError, match="not supported"):
        os.getxattr(mirror.path / "link", "user.name")


def test_a_copied_tree(mirror):
    package = pathlib.Path(fusepy.__file__).resolve().parents[1]
    for each in (["cp", "-rL", package, mirror.path / "copy"], ["diff", "-r", package, mirror.path / "copy"]):
        done = subprocess.run([*map(str, each)], capture_output=True, text=True, timeout=50)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_end_removes_what_was_kept_for_those_who_had_it_open(start, folder, tmp_path):
    program = start("fusepy", "mirror_fusepy.py", tmp_path, folder)
    (program.path / "file").write_text("text")
    with opened(program.path / "file"):
        os.unlink(program.path / "file")
        assert [name[:12] for name in os.listdir(tmp_path)] == [".fuse_hidden"]
        unmount(program.path, MNT_DETACH)
        program.process.send_signal(signal.SIGTERM)
        program.ended()
    assert os.listdir(tmp_path) == []


# ---- mfusepy ----


def test_mfusepy(start):
    program = start("fusepy", "list_mfusepy.py")
    names = os.listdir(program.path)
    assert len(names) == len(set(names)) == 2000 and "00000" in names
    status = os.stat(program.path / "00042")
    assert (status.st_ino, status.st_mtime_ns) == (142, 1_000_000_000_000_000_001)
    assert os.stat(program.path).st_ino == 1_000_000
    assert (program.path / "00042").read_text() == "0000000042"
    (program.path / "note").write_text("text")
    assert (program.path / "note").read_text() == "text"
    with pytest.raises(OSError, match="not implemented"):
        (program.path / "folder").mkdir()
    with pytest.raises(OSError, match="No data"):
        os.getxattr(program.path / "note", "user.name")
    assert program.finish() == ("", "")


# ---- Parts, in a forked child ----


@pytest.fixture
def serve(fork):
    def start(operations, module=fusepy, **options):
        def body(path, mounted):
            operations.init = lambda path: mounted()
            module.FUSE(operations, str(path), foreground=True, **options)

        return fork(body)

    return start


class Folder(fusepy.Operations):
    """A folder with some empty files."""

    names = ["file"]

    def getattr(self, path, fh=None):
        if path[1:] in self.names:
            return dict(st_mode=stat.S_IFREG | 0o644, st_nlink=1)
        return super().getattr(path, fh)

    def readdir(self, path, fh):
        return [".", "..", *((name, {"st_mode": stat.S_IFREG}, 0) for name in self.names)]


class Failing(Folder):
    def read(self, path, size, offset, fh):
        raise {0: KeyError("a mistake"), 1: OSError("no number"), 2: OSError(-3, "a negative one")}[fh]

    def open(self, path, flags):
        self.count = getattr(self, "count", -1) + 1
        return self.count

    def getattr(self, path, fh=None):
        return {**super().getattr(path, fh), "st_size": 1}

    def mkdir(self, path, mode):
        return -errno.EDQUOT


def test_mistakes_are_invalid_and_logged(serve):
    server = serve(Failing())
    for _ in range(3):
        with pytest.raises(OSError, match="Invalid argument"):
            (server.path / "file").read_bytes()
    with pytest.raises(OSError, match="quota"):
        (server.path / "folder").mkdir()
    server.finish()
    log = server.log()
    assert "KeyError: 'a mistake'" in log and "OSError: no number" in log and "a negative one" in log


def test_what_is_no_mistake_ends_the_program(serve):
    class Ending(Folder):
        def readdir(self, path, fh):
            sys.exit(3)

    server = serve(Ending())
    with pytest.raises(OSError):
        os.listdir(server.path)
    assert server.wait() == 1
    assert "SystemExit: 3" in server.log() and not is_mounted(server.path)


class Raw(fusepy.Operations):
    """With raw_fi; data say what they were opened for."""

    def __init__(self):
        self.closed = []

    def getattr(self, path, fh=None):
        if path == "/":
            return dict(st_mode=stat.S_IFDIR | 0o755, st_nlink=2)
        return dict(st_mode=stat.S_IFREG | 0o644, st_nlink=1, st_size=0)

    def open(self, path, fi):
        fi.fh = [path, fi.flags & os.O_ACCMODE]
        fi.direct_io = 1
        return 0

    def create(self, path, mode, fi):
        return self.open(path, fi)

    def read(self, path, size, offset, fi):
        return repr(fi.fh).encode()[offset : offset + size]

    def write(self, path, data, offset, fi):
        fi.fh.append(data)
        return len(data)

    def truncate(self, path, length, fi=None):
        pass

    def release(self, path, fi):
        self.closed.append(fi.fh)

    def readdir(self, path, fh):
        return [repr(each).replace("/", "") for each in self.closed]


def test_raw_fi(serve):
    server = serve(Raw(), raw_fi=True)
    with open(server.path / "file", "rb", buffering=0) as stream:
        assert stream.read(100) == b"['/file', 0]"
    with open(server.path / "new", "wb", buffering=0) as stream:
        stream.write(b"text")
    until(lambda: set(os.listdir(server.path)) == {"['file', 0]", "['new', 1, b'text']"})
    server.finish()
    assert server.log() == ""


def test_options(serve):
    operations = Folder()
    server = serve(
        operations,
        fsname="a name",
        subtype="folder",
        ro=True,
        uid=12,
        gid="34",
        umask="077",
        intr=True,
        auto_cache=True,
    )
    line = next(line for line in pathlib.Path("/proc/self/mounts").read_text().splitlines() if str(server.path) in line)
    assert line.split()[0] == "a\\040name" and line.split()[2] == "fuse.folder" and ",ro," in f",{line.split()[3]},"
    status = os.stat(server.path / "file")
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o700, 12, 34)
    server.finish()
    assert server.log() == ""


def test_an_option_that_does_not_exist(folder):
    with pytest.raises(RuntimeError, match="no_such_option"):
        fusepy.FUSE(Folder(), str(folder), foreground=True, no_such_option=1)
    assert not is_mounted(folder)


def test_names_that_are_not_there_can_be_remembered(serve):
    operations = Folder()
    asked = []
    find = operations.getattr

    def getattr(path, fh=None):
        asked.append(path)
        return find(path, fh)

    operations.getattr = getattr
    operations.readdir = lambda path, fh: [str(asked.count("/missing"))]
    server = serve(operations, negative_timeout=100)
    for _ in range(3):
        assert not (server.path / "missing").exists()
    assert os.listdir(server.path) == ["1"]
    server.finish()
    assert server.log() == ""


def test_hard_remove(serve):
    class Removing(Folder):
        def unlink(self, path):
            self.names = []

        def rename(self, old, new):
            raise AssertionError("it need not be kept")

    server = serve(Removing(), hard_remove=True)
    with opened(server.path / "file"):
        os.unlink(server.path / "file")
        assert os.listdir(server.path) == []
    server.finish()
    assert server.log() == ""


def test_another_encoding(serve):
    operations = Folder()
    operations.names = ["\xe4"]
    server = serve(operations, encoding="latin-1")
    assert os.listdir(os.fsencode(server.path)) == [b"\xe4"]
    assert os.stat(os.fsencode(server.path) + b"/\xe4").st_size == 0
    server.finish()
    assert server.log() == ""


def test_everything_may_go_through_call(serve):
    class Proxy(fusepy.Operations):
        """Its methods are all another object's, which only __call__ knows."""

        def __init__(self, other):
            self.other = other

        def __call__(self, operation, *arguments):
            if operation == "init":
                return self.init(*arguments)
            return getattr(self.other, operation)(*arguments)

    class Other(Folder):
        def open(self, path, flags):
            return 42

        def getattr(self, path, fh=None):
            return {**super().getattr(path, fh), "st_size": 2}

        def read(self, path, size, offset, fh):
            return str(fh).encode()

    server = serve(Proxy(Other()))
    assert (server.path / "file").read_text() == "42"
    server.finish()
    assert server.log() == ""


def test_ioctl_through_memory(serve):
    class Controlled(Folder):
        def ioctl(self, path, cmd, arg, fh, flags, data):
            if cmd != 0xC0044D01:  # _IOWR('M', 1, 4 bytes)
                raise fusepy.FuseOSError(errno.ENOTTY)
            number = ctypes.c_uint32.from_address(data)
            number.value += 1
            return 0

    import fcntl

    server = serve(Controlled())
    with opened(server.path / "file") as fd:
        argument = bytearray((41).to_bytes(4, sys.byteorder))
        assert fcntl.ioctl(fd, 0xC0044D01, argument) == 0
        assert int.from_bytes(argument, sys.byteorder) == 42
        with pytest.raises(OSError, match="Inappropriate"):
            fcntl.ioctl(fd, 0x4D02)
    server.finish()
    assert server.log() == ""


def test_outside_of_an_operation():
    assert fusepy.fuse_get_context() == (0, 0, 0)
    fusepy.fuse_exit()


def test_overrides():
    with pytest.raises(AssertionError, match="has no raed"):

        class Example(mfusepy.Operations):
            @mfusepy.overrides(mfusepy.Operations)
            def raed(self, path):
                """Misspelt."""


# ---- pyfuse3 ----


@pytest.fixture(params=["trio", "asyncio"])
def nodes(start, folder, request):
    program = start("pyfuse3", "shelf_pyfuse3.py", folder, f"--{request.param}")
    yield program
    assert program.finish() == ("done\n", "")


def test_pyfuse3_files_and_folders(nodes):
    folder = nodes.path
    (folder / "a/b").mkdir(parents=True)
    file = folder / "a/b/file"
    file.write_text("some text")
    with open(file, "a") as stream:
        stream.write(" and more")
    assert file.read_text() == "some text and more"
    os.truncate(file, 4)
    os.link(file, folder / "link")
    os.symlink("link", folder / "symbolic")
    assert (folder / "symbolic").read_text() == "some" and os.stat(file).st_nlink == 2
    with pytest.raises(OSError, match="not empty"):
        (folder / "a").rmdir()
    os.rename(folder / "a", folder / "c")
    assert sorted(os.listdir(folder)) == ["c", "link", "symbolic"]
    for name in ("never", "missing"):
        with pytest.raises(FileNotFoundError):
            (folder / name).read_text()
    with pytest.raises(OSError, match="not supported"):
        os.removexattr(folder / "link", "user.name")
    assert not os.access(folder / "link", os.X_OK) and os.access(folder / "link", os.R_OK)


def test_pyfuse3_attributes(nodes):
    file = nodes.path / "file"
    file.touch()
    os.chmod(file, 0o640)
    os.chown(file, 12, -1)
    os.utime(file, ns=(1_000_000_001, 2_000_000_002))
    status = os.stat(file)
    assert (status.st_mode, status.st_uid, status.st_gid) == (stat.S_IFREG | 0o640, 12, os.getgid())
    assert (status.st_atime_ns, status.st_mtime_ns) == (1_000_000_001, 2_000_000_002)
    subprocess.run(["touch", "-m", file], check=True, timeout=20)
    status = os.stat(file)
    assert status.st_atime_ns == 1_000_000_001 and status.st_mtime > 1_700_000_000
    space = os.statvfs(nodes.path)
    assert (space.f_frsize, space.f_namemax, space.f_files) == (4096, 200, 2)
    os.setxattr(file, "user.label", b"value", os.XATTR_CREATE)
    with pytest.raises(FileExistsError):
        os.setxattr(file, "user.label", b"other", os.XATTR_CREATE)
    with pytest.raises(OSError, match="No data"):
        os.setxattr(file, "user.other", b"value", os.XATTR_REPLACE)
    assert os.getxattr(file, "user.label") == b"value" and os.listxattr(file) == ["user.label"]


def test_pyfuse3_large_folders_are_read_once_and_forgotten(nodes):
    names = [f"{number:04d}-{'x' * 50}" for number in range(1500)]
    for name in names:
        (nodes.path / name).touch()
    assert sorted(os.listdir(nodes.path)) == names
    with os.scandir(nodes.path) as entries:
        assert all(entry.inode() == entry.stat().st_ino for entry in entries)
    for name in names:
        (nodes.path / name).unlink()
    until(lambda: os.statvfs(nodes.path).f_files == 1)  # which needs each lookup to be taken back


def test_pyfuse3_removed_while_open(nodes):
    with open(nodes.path / "file", "w+") as stream:
        stream.write("text")
        stream.flush()
        os.unlink(nodes.path / "file")
        assert os.listdir(nodes.path) == []
        stream.seek(0)
        assert stream.read() == "text"
    until(lambda: os.statvfs(nodes.path).f_files == 1)


def test_pyfuse3_invalidates_within_a_request(nodes):
    (nodes.path / "file").touch()
    os.setxattr(nodes.path, "user.end", b"invalidate")
    assert os.listdir(nodes.path) == ["file"]


@pytest.mark.parametrize("how", [b"request", b"thread"])
@pytest.mark.parametrize("loop", ["trio", "asyncio"])
def test_pyfuse3_terminate(start, folder, loop, how):
    program = start("pyfuse3", "shelf_pyfuse3.py", folder, f"--{loop}")
    with contextlib.suppress(OSError):
        os.setxattr(folder, "user.end", how)
    assert program.ended() == ("done\n", "")
    assert not is_mounted(folder)


def test_pyfuse3_mistakes_are_logged(start, folder):
    program = start("pyfuse3", "shelf_pyfuse3.py", folder)
    with pytest.raises(OSError, match="Input/output"):
        os.setxattr(folder, "user.end", b"mistake")
    said, complained = program.finish()
    assert said == "done\n" and "KeyError: 'a mistake'" in complained


def test_pyfuse3_where_mounting_fails(folder):
    with pytest.raises(RuntimeError, match="does not exist"):
        pyfuse3.init(pyfuse3.Operations(), str(folder / "missing"))
    with pytest.raises(RuntimeError, match="init"):
        pyfuse3.terminate()
    pyfuse3.close()


def test_pyfuse3_values():
    entry = pyfuse3.EntryAttributes()
    assert (entry.st_mode, entry.st_nlink, entry.st_blksize, entry.entry_timeout, entry.generation) == (
        stat.S_IFREG,
        1,
        4096,
        300,
        0,
    )
    entry.st_ino, entry.st_size, entry.attr_timeout, entry.st_mtime_ns = 7, 8, 0.25, 3_000_000_001
    other = pickle.loads(pickle.dumps(entry))
    assert other.__getstate__() == entry.__getstate__() == copy.copy(entry).__getstate__()
    assert (other.st_ino, other.st_size, other.attr_timeout, other.st_mtime_ns) == (7, 8, 0.25, 3_000_000_001)
    error = pyfuse3.FUSEError(errno.ENOENT)
    assert (error.errno, error.errno_, str(error)) == (errno.ENOENT, errno.ENOENT, "No such file or directory")
    assert not isinstance(error, OSError)
    assert pyfuse3.get_sup_groups(os.getpid()) >= set(os.getgroups())
    with pytest.raises(ValueError):
        pyfuse3.readdir_reply(pyfuse3.ReaddirToken(4096), b"a/b", entry, 1)
