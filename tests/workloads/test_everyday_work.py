"""The work of every day, in the example filesystems: version control, compilers, databases, archives, and programs that
exist to find a filesystem's faults. What each leaves behind is looked at by the fixture `mounted`."""

import json
import os
import pathlib
import subprocess

import pytest
from workload_mount import in_a_client

from harness import sanitizers

pytestmark = pytest.mark.timeout(180)

# ---- git -----------------------------------------------------------------------------------------------------------

COMMITS = 250
FOLDERS = 20
GIT = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_COUNT": "1",  # nothing in the background
    "GIT_CONFIG_KEY_0": "gc.auto",
    "GIT_CONFIG_VALUE_0": "0",
    "GIT_AUTHOR_NAME": "author",
    "GIT_AUTHOR_EMAIL": "author@example.org",
    "GIT_COMMITTER_NAME": "author",
    "GIT_COMMITTER_EMAIL": "author@example.org",
}


def history():
    """A repository for git fast-import. Each commit makes two files and changes an old one."""

    def data(text):
        return f"data {len(text)}\n{text}\n"

    def text(commit, lines):
        return "".join(f"line {line} of commit {commit}: {line * commit % 9973}\n" for line in range(lines))

    def commit_to_main(second, message):
        return f"commit refs/heads/main\ncommitter author <author@example.org> {second} +0000\n" + data(message)

    for commit in range(1, COMMITS + 1):
        folder = f"folder{commit % FOLDERS}"
        yield commit_to_main(1_700_000_000 + commit, f"commit {commit}")
        yield f"M 100644 inline {folder}/file{commit}\n" + data(text(commit, commit % 200))
        yield f"M 100755 inline {folder}/sub{commit % 7}/tool{commit}\n" + data(text(commit, 3))
        yield "M 100644 inline often\n" + data(text(commit, 300))
    yield commit_to_main(1_800_000_000, "a link")
    yield "M 120000 inline link\n" + data("folder1/file1")


@pytest.fixture(scope="session")
def origin(tmp_path_factory):
    """A bare repository in an ordinary folder."""
    folder = tmp_path_factory.mktemp("origin") / "origin.git"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", folder], check=True, timeout=60)
    subprocess.run(["git", "-C", folder, "fast-import", "--quiet"], input="".join(history()), text=True, check=True,
                   timeout=60)
    return folder


def clone_and_check(mounted, origin):
    def git(*arguments):
        return mounted.run("git", *arguments, env=GIT)

    def check():
        git("-C", "clone", "fsck", "--full", "--strict", "--no-progress")
        assert git("-C", "clone", "status", "--porcelain", "--ignored") == ""

    git("clone", "-q", "--no-local", f"file://{origin}", "clone")
    newest = git("-C", origin, "rev-parse", "main").strip()
    assert git("-C", "clone", "rev-parse", "HEAD").strip() == newest
    assert len(git("-C", "clone", "ls-files").split()) == 2 * COMMITS + 2
    check()
    git("-C", "clone", "checkout", "-q", "HEAD~100")
    assert git("-C", "clone", "status", "--porcelain", "--ignored") == ""
    git("-C", "clone", "checkout", "-q", "main")
    mounted.run("sh", "-c", "mv clone/folder1 clone/moved && rm clone/often && echo more >>clone/folder2/file2")
    git("-C", "clone", "add", "--all")
    git("-C", "clone", "commit", "-q", "-m", "more")
    git("-C", "clone", "gc", "-q")
    check()
    git("-C", "clone", "revert", "--no-edit", "HEAD")
    assert git("-C", "clone", "diff", "--stat", newest) == ""


def test_git(mounted, origin):
    clone_and_check(mounted, origin)


# ---- A build -------------------------------------------------------------------------------------------------------

UNITS = 24


def write_project(folder):
    """A library of many files, a shared one, a program, and a test of it."""
    units = range(UNITS)
    folder.mkdir()
    sources = " ".join(f"unit{unit}.c" for unit in units)
    (folder / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.20)\n"
        "project(project C)\n"
        "enable_testing()\n"
        f"add_library(units STATIC {sources})\n"
        "add_library(sum SHARED sum.c)\n"
        "set_target_properties(units PROPERTIES POSITION_INDEPENDENT_CODE ON)\n"
        "target_link_libraries(sum PRIVATE units)\n"
        "add_executable(program main.c)\n"
        "target_link_libraries(program PRIVATE sum)\n"
        "add_test(NAME program COMMAND program)\n"
    )
    (folder / "units.h").write_text("".join(f"int unit{unit}(int x);\n" for unit in units) + "int sum(int x);\n")
    for unit in units:
        (folder / f"unit{unit}.c").write_text(
            f'#include "units.h"\n#include <stdlib.h>\nint unit{unit}(int x)\n{{\n    return abs(x) * {unit};\n}}\n'
        )
    terms = " + ".join(f"unit{unit}(x)" for unit in units)
    (folder / "sum.c").write_text(f'#include "units.h"\nint sum(int x)\n{{\n    return {terms};\n}}\n')
    (folder / "main.c").write_text(
        '#include "units.h"\n#include <stdio.h>\nint main(void)\n{\n    return printf("%d\\n", sum(2)) < 0;\n}\n'
    )


def test_cmake_build(mounted, plain):
    """Times of files are exact enough to tell what has to be built again."""
    write_project(pathlib.Path(plain) / "project")
    mounted.run("cp", "-r", f"{plain}/project", ".")
    mounted.run("cmake", "-S", "project", "-B", "build", "-G", "Ninja", "-DCMAKE_BUILD_TYPE=RelWithDebInfo")
    mounted.run("cmake", "--build", "build")
    assert int(mounted.run("build/program")) == 2 * sum(range(UNITS))
    mounted.run("ctest", "--test-dir", "build", "--no-tests=error")
    assert "no work to do" in mounted.run("cmake", "--build", "build")
    mounted.run("sh", "-c", "echo 'int more(void); int more(void) { return 0; }' >>project/unit3.c")
    compiled = [line for line in mounted.run("cmake", "--build", "build").splitlines() if "Building C" in line]
    assert len(compiled) == 1 and "unit3.c" in compiled[0]
    assert int(mounted.run("build/program")) == 2 * sum(range(UNITS))


# ---- SQLite --------------------------------------------------------------------------------------------------------

WRITERS = 4
TRANSACTIONS = 40
ROWS = 20


def sqlite_create(path):
    import sqlite3

    database = sqlite3.connect(path)
    assert database.execute("PRAGMA journal_mode=WAL").fetchone() == ("wal",)
    database.execute("CREATE TABLE row(writer INTEGER, number INTEGER, text TEXT, UNIQUE(writer, number))")
    database.execute("CREATE INDEX by_text ON row(text)")
    database.close()


def sqlite_write(path, writer, transactions, rows):
    import sqlite3

    writer, rows = int(writer), int(rows)
    database = sqlite3.connect(path, timeout=60, isolation_level=None)
    reader = sqlite3.connect(path, timeout=60, isolation_level=None)
    for connection in (database, reader):
        assert connection.execute("PRAGMA mmap_size=67108864").fetchone() == (67108864,)
        connection.execute("PRAGMA wal_autocheckpoint=50")
    for transaction in range(int(transactions)):
        database.execute("BEGIN IMMEDIATE")
        for number in range(transaction * rows, (transaction + 1) * rows):
            text = f"{writer}.{number} " * (10 + number % 40)
            database.execute("INSERT INTO row VALUES (?, ?, ?)", (writer, number, text))
        database.execute("UPDATE row SET text = text || 'x' WHERE writer = ? AND number % 7 = 0", (writer,))
        database.execute("COMMIT")
        counted = reader.execute("SELECT count(*) FROM row WHERE writer = ?", (writer,)).fetchone()
        assert counted == ((transaction + 1) * rows,), counted
    database.close()
    reader.close()


def sqlite_check(path, writers, numbers):
    import sqlite3

    writers, numbers = int(writers), int(numbers)
    database = sqlite3.connect(path, timeout=60, isolation_level=None)
    database.execute("PRAGMA mmap_size=67108864")

    def check():
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        counted = database.execute("SELECT writer, count(*), sum(number) FROM row GROUP BY writer ORDER BY writer")
        wanted = [(writer, numbers, numbers * (numbers - 1) // 2) for writer in range(writers)]
        assert counted.fetchall() == wanted

    check()
    assert database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone() == (0, 0, 0)
    check()
    database.execute("DELETE FROM row WHERE number % 2 = 1")
    database.execute("VACUUM")
    assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert database.execute("PRAGMA journal_mode=DELETE").fetchone() == ("delete",)
    assert database.execute("SELECT count(*) FROM row").fetchone() == (writers * numbers // 2,)
    database.close()


def sqlite_at_work(mounted):
    mounted.run(*in_a_client(sqlite_create), "database")
    writers = [
        mounted.start_client(*in_a_client(sqlite_write), "database", writer, TRANSACTIONS, ROWS)
        for writer in range(WRITERS)
    ]
    try:
        for writer in writers:
            output = mounted.result(writer, 60)
            assert writer.returncode == 0, output
    finally:
        for writer in writers:
            mounted.end_client(writer)
    mounted.run(*in_a_client(sqlite_check), "database", WRITERS, TRANSACTIONS * ROWS)
    assert mounted.run("ls", "-A").split() == ["database"]


def test_sqlite(mounted):
    sqlite_at_work(mounted)


# ---- Archives and copies -------------------------------------------------------------------------------------------

SPARSE_SIZE = 128 << 20
ISLAND = 70 << 20


def make_tree(top):
    """A bit of everything that tar and rsync can carry."""
    top.mkdir()
    for number in range(300):
        folder = top / f"folder{number % 15}" / f"sub{number % 4}"
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"file {number} \N{LATIN SMALL LETTER E WITH ACUTE}"
        file.write_bytes(bytes((number + i) % 251 for i in range(number * 37)))
        file.chmod((0o644, 0o600, 0o755, 0o4711)[number % 4])
        os.utime(file, ns=(10**18 + number, 10**18 - number * 1_000_003))
    (top / "empty").mkdir()
    (top / "empty").chmod(0o1777)
    (top / ("n" * 255)).write_text("a long name")
    (top / "large").write_bytes(bytes(range(256)) * (5 << 12))
    for name in ("hard one", "folder3/hard two", "folder4/sub0/hard three"):
        os.link(top / "large", top / name)
    os.symlink("folder1/sub1", top / "to a folder")
    os.symlink("x" * 4000, top / "to nowhere")
    os.link(top / "to nowhere", top / "to nowhere as well", follow_symlinks=False)
    with open(top / "sparse", "wb") as sparse:
        sparse.truncate(SPARSE_SIZE)
        os.pwrite(sparse.fileno(), b"island" * 1000, ISLAND)
    os.setxattr(top / "large", "user.one", b"\0\1\2" * 300)
    os.setxattr(top / "large", "user.two", b"")
    os.setxattr(top / "empty", "user.folder", b"value")
    os.chown(top / "sparse", 1234, 4321)


RSYNC = ["rsync", "-aHAX", "--numeric-ids", "--delete"]


@pytest.fixture
def tree(plain):
    top = pathlib.Path(plain) / "tree"
    make_tree(top)
    return top


def check_copy(mounted, tree, copy):
    """Compares names, attributes and contents, read anew."""
    mounted.forget()
    assert mounted.run(*RSYNC, "--dry-run", "--checksum", "--itemize-changes", f"{tree}/", f"{copy}/") == ""
    mounted.run("diff", "-r", "--no-dereference", tree, copy)
    assert int(mounted.run("stat", "-c", "%h", f"{copy}/large")) == 4
    assert int(mounted.run("stat", "-c", "%b", f"{copy}/sparse")) * 512 < 1 << 20


def test_tar(mounted, tree, plain):
    tar = ["tar", "--xattrs", "--sparse"]
    mounted.run(*tar, "-C", tree.parent, "-cf", f"{plain}/in.tar", tree.name)
    mounted.run("mkdir", "unpacked")
    mounted.run(*tar, "--numeric-owner", "-xpf", f"{plain}/in.tar", "-C", "unpacked")
    check_copy(mounted, tree, "unpacked/tree")
    mounted.run(*tar, "-C", "unpacked", "-cf", "out.tar", "tree")
    assert mounted.run(*tar, "--compare", "-f", "out.tar", "-C", tree.parent) == ""
    os.mkdir(f"{plain}/back")
    mounted.run(*tar, "--numeric-owner", "-xpf", "out.tar", "-C", f"{plain}/back")
    check_copy(mounted, tree, f"{plain}/back/tree")


CHANGES = """cd copy && rm -r folder2 'hard one' && mkdir -p more/folders && cp large more/large &&
    mv folder5 folder2 && ln -sfn elsewhere 'to a folder' && printf 1 >>sparse && chmod 1 empty &&
    setfattr -x user.one large && printf changed | dd of=large bs=1 seek=7000 conv=notrunc status=none"""


def test_rsync(mounted, tree):
    """Into an empty folder, then over a copy that has changed."""
    mounted.run(*RSYNC, "--sparse", "--checksum", f"{tree}/", "copy/")
    check_copy(mounted, tree, "copy")
    mounted.run("sh", "-c", CHANGES)
    mounted.run(*RSYNC, "--sparse", "--checksum", f"{tree}/", "copy/")
    check_copy(mounted, tree, "copy")
    mounted.run("rm", "-r", "copy")
    assert mounted.run("ls", "-A") == ""


# ---- Programs that look for faults ---------------------------------------------------------------------------------

FIO_SIZE = 16 << 20


@pytest.mark.parametrize(
    ("engine", "direct"),
    [("psync", 0), ("psync", 1), ("libaio", 0), ("libaio", 1), ("io_uring", 0), ("io_uring", 1), ("mmap", 0)],
)
def test_fio_verifies(mounted, engine, direct):
    arguments = ["--output-format=json", f"--ioengine={engine}", f"--direct={direct}", f"--size={FIO_SIZE}",
                 "--directory=.", "--iodepth=16", "--verify=crc32c", "--verify_fatal=1", "--end_fsync=1"]
    for name, pattern, size in [("small", "randwrite", "4k"), ("mixed", "randrw", "16k"), ("large", "write", "1m")]:
        arguments += [f"--name={name}", f"--rw={pattern}", f"--bs={size}"]
    output = mounted.run("fio", *arguments)
    jobs = json.loads(output[output.index("{") :])["jobs"]
    assert len(jobs) == 3
    for job in jobs:
        assert job["error"] == 0, job
        assert job["write"]["io_bytes"] > 0 and job["read"]["io_bytes"] >= job["write"]["io_bytes"], job


def test_dbench(mounted):
    output = mounted.run("dbench", "-t", "3", "-D", ".", "8")
    assert "Throughput" in output and "8 clients" in output
    assert not [line for line in output.splitlines() if "fail" in line.lower() or "error" in line.lower()], output


# binderfs and bind-mount make mounts of their own, the first of a kind that kernels are seldom built with; getdent
# reads /dev, /proc, /sys and /tmp, where others come and go, not the folder that it is given.
STRESS_EXCLUDED = "binderfs,bind-mount,getdent"


@pytest.mark.long
@pytest.mark.skipif(bool(sanitizers()), reason="takes too long with sanitizers")
def test_stress_ng(mounted):
    """About a minute: a second for each of its filesystem stressors."""
    output = mounted.run("stress-ng", "--class", "filesystem", "--sequential", "1", "--timeout", "1s", "--verify",
                         "--exclude", STRESS_EXCLUDED, "--temp-path", ".", seconds=150)
    assert "successful run completed" in output
    assert mounted.run("ls", "-A") == ""


# ---- The filesystem in Python --------------------------------------------------------------------------------------


def test_python_git(python_mounted, origin):
    clone_and_check(python_mounted, origin)


def test_python_sqlite(python_mounted):
    sqlite_at_work(python_mounted)
