"""The Python examples: their command line, and real work in memfs."""

import contextlib
import os
import pathlib
import re
import shutil
import signal
import stat
import subprocess
import sys

import pytest
from python_support import BUILD, MNT_DETACH, ROOT, is_mounted, opened, unmount, until

EXAMPLES = ROOT / "examples" / "python"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(BUILD / "python"), "LC_ALL": "C.UTF-8"}

pytestmark = pytest.mark.timeout(120)


def run(*command, timeout=60, **arguments):
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=timeout, env=ENVIRONMENT, **arguments
    )


def servers_of(path):
    """The processes that have this path on their command line."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            if os.fsencode(path) in (entry / "cmdline").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found


@pytest.fixture
def memfs(folder, transport):
    """memfs.py in the background, as people start it."""
    done = run(sys.executable, EXAMPLES / "memfs.py", folder, "-o", f"transport={transport}")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert is_mounted(folder)
    try:
        yield folder
        unmount(folder)
        until(lambda: not servers_of(folder))
    finally:
        with contextlib.suppress(OSError):
            unmount(folder, MNT_DETACH)
        for pid in servers_of(folder):
            os.kill(pid, signal.SIGKILL)


def in_foreground(folder, *arguments):
    process = subprocess.Popen(
        [sys.executable, str(EXAMPLES / arguments[0]), str(folder), *arguments[1:]],
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
    )
    until(lambda: is_mounted(folder) or process.poll() is not None)
    return process


def test_hello_as_the_readme_has_it(folder):
    process = in_foreground(folder, "hello.py")
    try:
        assert os.listdir(folder) == ["hello"]
        assert (folder / "hello").read_text() == "Hello from a coroutine.\n"
        with pytest.raises(FileNotFoundError):
            (folder / "other").stat()
        unmount(folder)
        assert process.wait(10) == 0 and process.stderr.read() == ""
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("busy", [False, True])
def test_signals_end_it_cleanly(folder, number, busy):
    process = in_foreground(folder, "memfs.py", "-f")
    try:
        with opened(folder) if busy else contextlib.nullcontext():
            process.send_signal(number)
            assert process.wait(10) == 0, process.stderr.read()
        assert process.stderr.read() == ""
        assert not is_mounted(folder)
    finally:
        process.kill()
        process.communicate()


def test_debug_says_what_happens(folder):
    process = in_foreground(folder, "memfs.py", "-d", "-o", "size=1m")
    try:
        (folder / "file").write_text("text")
        unmount(folder)
        words = process.communicate(timeout=10)[1]
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 0
    assert "<Request mknod node=1 name='file'" in words and "<Request write" in words


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-o", "no_such_option"], "no_such_option"),
        (["-o", "depth=many"], "depth=many"),
        (["-o", "queue_depth=many"], "queue_depth=many"),
        (["-o", "transport=pigeon"], "pigeon"),
        (["-o", "size=0"], "size=0"),
        (["-o", "workers=2"], "one process"),
    ],
)
def test_what_is_wrong_is_said(folder, arguments, words):
    done = run(sys.executable, EXAMPLES / "memfs.py", folder, *arguments)
    assert done.returncode == 1 and words in done.stderr and "Traceback" not in done.stderr
    assert not is_mounted(folder)


def test_a_missing_mount_point(folder):
    done = run(sys.executable, EXAMPLES / "memfs.py", folder / "missing")
    assert done.returncode == 1 and str(folder / "missing") in done.stderr and "Traceback" not in done.stderr


def test_help():
    done = run(sys.executable, EXAMPLES / "memfs.py", "--help")
    assert done.returncode == 0 and "size=N" in done.stdout and "transport=" in done.stdout


def test_source_is_the_name(folder):
    done = run(sys.executable, EXAMPLES / "memfs.py", "name", folder, "-o", "noexec")
    try:
        assert done.returncode == 0, done.stderr
        line = next(line for line in open("/proc/self/mounts") if f" {folder} " in line)
        assert line.startswith("name ") and " fuse.memfs " in line and "noexec" in line
        unmount(folder)
        until(lambda: not servers_of(folder))
    finally:
        for pid in servers_of(folder):
            os.kill(pid, signal.SIGKILL)


# ---- memfs at work ----


def test_git_and_a_compiler(memfs):
    git = ["git", "-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "safe.directory=*"]
    origin = memfs / "origin"
    assert run(*git, "init", "-q", origin).returncode == 0
    shutil.copytree(ROOT / "src", origin / "src")
    shutil.copytree(ROOT / "capi", origin / "capi")
    assert run(*git, "-C", origin, "add", ".").returncode == 0
    assert run(*git, "-C", origin, "commit", "-qm", "all").returncode == 0
    cloned = run(*git, "clone", "-q", "--no-local", origin, memfs / "clone")
    assert cloned.returncode == 0, cloned.stderr
    checked = run(*git, "-C", memfs / "clone", "fsck", "--full")
    assert checked.returncode == 0, checked.stderr
    assert run(*git, "-C", memfs / "clone", "status", "--porcelain").stdout == ""
    program = memfs / "program.c"
    program.write_text('#include <stdio.h>\nint main(void) { return puts("compiled") < 0; }\n')
    built = run("cc", "-g", "-o", memfs / "program", program)
    assert built.returncode == 0, built.stderr
    assert run(memfs / "program").stdout == "compiled\n"


def test_sqlite(memfs):
    script = """PRAGMA journal_mode=WAL; PRAGMA mmap_size=268435456; CREATE TABLE t(a INTEGER PRIMARY KEY, b);
        WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 20000)
        INSERT INTO t SELECT x, hex(randomblob(40)) FROM c; DELETE FROM t WHERE a % 3 = 0; VACUUM;
        PRAGMA integrity_check; SELECT count(*) FROM t;"""
    done = run("sqlite3", memfs / "database", input=script)
    assert done.stdout.split() == ["wal", "268435456", "ok", "13334"], done.stderr


def test_tree_survives_copying(memfs):
    assert run("cp", "-a", ROOT / "capi", memfs / "copy").returncode == 0
    assert run("diff", "-r", ROOT / "capi", memfs / "copy").returncode == 0
    packed = run("tar", "-C", memfs, "-cf", memfs / "copy.tar", "copy")
    assert packed.returncode == 0, packed.stderr
    assert run("tar", "-C", memfs, "--compare", "-f", memfs / "copy.tar").stdout == ""


def test_links_and_special_files(memfs):
    file = memfs / "file"
    file.write_text("text")
    os.link(file, memfs / "hard")
    os.symlink("file", memfs / "symbolic")
    os.mknod(memfs / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.mkfifo(memfs / "fifo")
    assert os.stat(file).st_nlink == 2 and os.stat(memfs / "hard").st_ino == os.stat(file).st_ino
    assert (memfs / "symbolic").read_text() == "text" and os.lstat(memfs / "symbolic").st_size == 4
    assert os.stat(memfs / "device").st_rdev == os.makedev(1, 3)
    assert stat.S_ISFIFO(os.stat(memfs / "fifo").st_mode)
    os.mkdir(memfs / "folder")
    assert os.stat(memfs).st_nlink == 3
    with pytest.raises(OSError, match="not empty"):
        (memfs / "folder" / "inside").touch()
        os.rmdir(memfs / "folder")
    with opened(memfs, os.O_TMPFILE | os.O_RDWR) as fd:
        os.write(fd, b"unnamed")
        os.link(f"/proc/self/fd/{fd}", memfs / "named", src_dir_fd=fd, follow_symlinks=True)
    assert (memfs / "named").read_text() == "unnamed"


def test_unlinked_while_open(memfs):
    with open(memfs / "file", "w+b") as file:
        os.unlink(memfs / "file")
        assert os.fstat(file.fileno()).st_nlink == 0
        file.write(b"still there")
        file.seek(0)
        assert file.read() == b"still there"
    assert os.listdir(memfs) == []
    until(lambda: os.statvfs(memfs).f_bfree == os.statvfs(memfs).f_blocks)


def test_rename_flags(memfs):
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)

    def rename(old, new, flags):
        done = libc.renameat2(-100, os.fsencode(memfs / old), -100, os.fsencode(memfs / new), flags)
        return ctypes.get_errno() if done else 0

    for name in ("one", "two"):
        (memfs / name).write_text(name)
    (memfs / "folder").mkdir()
    assert rename("one", "two", 1) == 17  # RENAME_NOREPLACE, EEXIST
    assert rename("one", "folder", 2) == 0  # RENAME_EXCHANGE
    assert (memfs / "folder").read_text() == "one" and (memfs / "one").is_dir()
    assert os.stat(memfs).st_nlink == 3
    os.rename(memfs / "folder", memfs / "two")
    assert sorted(os.listdir(memfs)) == ["one", "two"] and (memfs / "two").read_text() == "one"


def test_sparse_files(memfs):
    with opened(memfs / "sparse", os.O_CREAT | os.O_RDWR) as fd:
        os.ftruncate(fd, 10**15)
        assert os.fstat(fd).st_blocks == 0
        os.pwrite(fd, b"island", 10**12)
        assert os.fstat(fd).st_blocks < 1000
        data = os.lseek(fd, 0, os.SEEK_DATA)
        assert data <= 10**12 < os.lseek(fd, data, os.SEEK_HOLE) < 10**12 + 10**6
        assert os.pread(fd, 10, 10**12 - 2) == b"\0\0island\0\0"
        assert subprocess.run(["fallocate", "-p", "-o", str(10**12), "-l", "3", memfs / "sparse"]).returncode == 0
        assert os.pread(fd, 6, 10**12) == b"\0\0\0and"
        os.ftruncate(fd, 10**12 + 4)
        os.ftruncate(fd, 10**12 + 6)
        assert os.pread(fd, 10, 10**12) == b"\0\0\0a\0\0"
    with opened(memfs / "allocated", os.O_CREAT | os.O_RDWR) as fd:
        os.posix_fallocate(fd, 0, 1 << 20)
        assert os.fstat(fd).st_blocks == 2048 and os.fstat(fd).st_size == 1 << 20
        assert subprocess.run(["fallocate", "-l", "1E", memfs / "allocated"], capture_output=True).returncode != 0


def test_extended_attributes_and_times(memfs):
    file = memfs / "file"
    file.touch()
    os.setxattr(file, "user.one", b"1")
    os.setxattr(file, "user.two", b"\0" * 4000)
    assert sorted(os.listxattr(file)) == ["user.one", "user.two"] and os.getxattr(file, "user.two") == b"\0" * 4000
    with pytest.raises(FileExistsError):
        os.setxattr(file, "user.one", b"2", os.XATTR_CREATE)
    os.removexattr(file, "user.one")
    with pytest.raises(OSError, match="No data"):
        os.getxattr(file, "user.one")
    os.utime(file, ns=(-1_500_000_001, 4_000_000_000_000_000_009))
    status = os.stat(file)
    assert (status.st_atime_ns, status.st_mtime_ns) == (-1_500_000_001, 4_000_000_000_000_000_009)


def test_a_full_filesystem(folder):
    process = in_foreground(folder, "memfs.py", "-f", "-o", "size=1m")
    try:
        with opened(folder / "file", os.O_CREAT | os.O_RDWR) as fd:
            assert os.write(fd, b"x" * (1 << 19)) == 1 << 19
            written = 0
            with pytest.raises(OSError, match="No space"):
                while True:
                    written += os.write(fd, b"x" * (1 << 18))
            assert written >= 1 << 18
            assert os.fstat(fd).st_size == (1 << 19) + written
        os.unlink(folder / "file")
        until(lambda: os.statvfs(folder).f_bfree == 256)
        (folder / "again").write_bytes(b"y" * (1 << 19))
        unmount(folder)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.communicate()


def test_permissions_are_checked(memfs):
    if os.geteuid() != 0:
        pytest.skip("needs root")
    os.chmod(memfs, 0o777)
    (memfs / "secret").write_text("text")
    os.chmod(memfs / "secret", 0o600)
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    assert re.search("denied", run(*nobody, "cat", memfs / "secret").stderr)
    assert run(*nobody, "touch", memfs / "own").returncode == 0
    assert os.stat(memfs / "own").st_uid == 65534
