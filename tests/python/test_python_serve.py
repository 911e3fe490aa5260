"""Connection.serve on each event loop, and without any: handlers of every kind, what they return and raise, and how serving ends."""

import asyncio
import contextvars
import errno
import os
import signal
import stat
import subprocess
import threading
import types

import pytest
from python_support import opened, read_once, until
from python_filesystems import TEXT, Files, Waiting, event, sleep

import fusewire
from fusewire import Attr, Entry

pytestmark = pytest.mark.timeout(60)


def errno_of(function, *arguments):
    with pytest.raises(OSError) as caught:
        function(*arguments)
    return caught.value.errno


class AsyncFiles(Files):
    """The same with handlers that do not suspend."""

    async def getattr(self, request):
        return self.attr(request)

    async def lookup(self, request):
        return Files.lookup(self, request)

    async def readdir(self, request):
        return self.files

    async def read(self, request):
        return Files.read(self, request)


class SuspendingFiles(Files):
    async def getattr(self, request):
        await sleep(0)
        return self.attr(request)

    async def lookup(self, request):
        await sleep(0.001)
        return Files.lookup(self, request)

    async def readdir(self, request):
        await sleep(0)
        return self.files

    async def read(self, request):
        # Its fields and names outlive the batch in which it came.
        before = request.node, request.offset, request.size, request.pid
        await sleep(0.005)
        assert before == (request.node, request.offset, request.size, request.pid)
        return Files.read(self, request)


class GeneratorFiles(Files):
    """Other awaitables than coroutines, and an asynchronous generator."""

    def getattr(self, request):
        attr = self.attr(request)

        class Later:
            def __await__(self):
                yield from sleep(0).__await__()
                return attr

        return Later()

    async def readdir(self, request):
        for entry in self.files.items():
            await sleep(0)
            yield entry


@pytest.mark.parametrize("kind", [Files, AsyncFiles])
def test_handlers_that_do_not_suspend(serve_anyhow, kind):
    names_and_contents_are_there(serve_anyhow(kind("one", "two")))


@pytest.mark.parametrize("kind", [SuspendingFiles, GeneratorFiles])
def test_handlers_that_suspend(serve_async, kind):
    names_and_contents_are_there(serve_async(kind("one", "two")))


def names_and_contents_are_there(server):
    assert sorted(os.listdir(server.path)) == ["one", "two"]
    assert (server.path / "one").read_bytes() == TEXT
    assert os.stat(server.path / "two").st_size == len(TEXT)
    assert errno_of(os.stat, server.path / "three") == errno.ENOENT
    with os.scandir(server.path) as entries:
        assert {(entry.name, entry.inode(), entry.is_file()) for entry in entries} == {
            ("one", 2, True),
            ("two", 3, True),
        }
    server.finish()
    assert server.log() == ""


def test_names_round_trip(serve_anyhow):
    name = os.fsdecode(b"caf\xc3\xa9 \xff\xfe")
    server = serve_anyhow(Files(name))
    assert os.listdir(os.fsencode(server.path)) == [b"caf\xc3\xa9 \xff\xfe"]
    assert os.stat(server.path / name).st_ino == 2
    server.finish()


class Failing(Files):
    def __init__(self, failure):
        super().__init__()
        self.failure = failure

    def read(self, request):
        raise self.failure


class FailingLater(Failing):
    async def read(self, request):
        await sleep(0)
        raise self.failure


FAILURES = [
    (OSError(errno.EDQUOT, "full"), errno.EDQUOT, False),
    (PermissionError("no errno of its own"), errno.EACCES, False),
    (OSError(4000, "no errno of the kernel's"), errno.EIO, True),
    (OSError("none at all"), errno.EIO, True),
    (ZeroDivisionError("oops"), errno.EIO, True),
]


def client_gets(server, failure, code, logged):
    with opened(server.path / "file") as fd:
        assert read_once(fd, 5) == -code
    server.finish()
    assert ("Traceback" in server.log()) is logged
    if logged:
        assert "<Request read node=2" in server.log() and str(failure) in server.log()
        assert server.log().count("Traceback") == 1


@pytest.mark.parametrize(("failure", "code", "logged"), FAILURES)
def test_what_a_handler_raises_is_what_the_client_gets(serve_anyhow, failure, code, logged):
    client_gets(serve_anyhow(Failing(failure)), failure, code, logged)


@pytest.mark.parametrize(("failure", "code", "logged"), FAILURES)
def test_what_a_handler_raises_later(serve_async, failure, code, logged):
    client_gets(serve_async(FailingLater(failure)), failure, code, logged)


@pytest.mark.parametrize("kind", [Failing, FailingLater])
def test_a_handler_that_says_it_was_cancelled(serve, kind):
    client_gets(serve(kind(asyncio.CancelledError())), None, errno.EINTR, False)


class NonsenseGetattr(Files):
    answer = None

    def lookup(self, request):
        return self.answer


@pytest.mark.parametrize("answer", [None, 7, b"x", (1, 2), "file", Attr, Attr(9, 0), object()])
def test_nonsense_is_an_error_and_logged(serve_anyhow, answer):
    filesystem = NonsenseGetattr()
    filesystem.answer = answer
    server = serve_anyhow(filesystem)
    assert errno_of(os.stat, server.path / "file") == errno.EIO
    assert os.stat(server.path).st_ino == 1
    server.finish()
    assert "Traceback" in server.log()


class NonsenseRead(Files):
    def read(self, request):
        return [None, 5, "text", b"x" * (request.size + 1)][request.offset]


def test_nonsense_of_a_read(serve_anyhow):
    server = serve_anyhow(NonsenseRead())
    with opened(server.path / "file") as fd:
        for offset in range(4):
            assert errno_of(os.pread, fd, 4, offset) == errno.EIO
    server.finish()
    assert server.log().count("Traceback") >= 4


VARIABLE = contextvars.ContextVar("variable", default="unset")


class Contexts(Files):
    """Reports, as a file's contents, what a handler sees around a suspension."""

    def __init__(self):
        super().__init__("timeout", "current", "context", "task", "gather", "cancel-self")
        self.seen = set()

    async def read(self, request):
        if request.offset:
            return b""
        name = next(name for name, attr in self.files.items() if attr.ino == request.node)
        return (await getattr(self, name.replace("-", "_"))()).encode()

    async def timeout(self):
        # Entered before the first suspension, when the handler has no task of its own yet.
        try:
            await asyncio.wait_for(asyncio.Event().wait(), 0.01)
        except asyncio.TimeoutError:
            pass
        if not hasattr(asyncio, "timeout"):
            return "timed out"
        try:
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        except TimeoutError:
            return "timed out"

    async def current(self):
        before = asyncio.current_task()
        await asyncio.sleep(0)
        assert before is asyncio.current_task() and before in asyncio.all_tasks()
        assert before not in self.seen
        self.seen.add(before)
        return "same"

    async def context(self):
        before = VARIABLE.get()
        VARIABLE.set("set")
        await asyncio.sleep(0)
        return f"{before} {VARIABLE.get()}"

    async def task(self):
        async def child():
            await asyncio.sleep(0)
            return VARIABLE.get()

        VARIABLE.set("inherited")
        return await asyncio.create_task(child())

    async def gather(self):
        return " ".join(await asyncio.gather(*(asyncio.sleep(0.001, word) for word in ("a", "b"))))

    async def cancel_self(self):
        asyncio.current_task().cancel()
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            return "cancelled later"
        return "not cancelled"


def test_tasks_timeouts_and_context_variables(serve):
    server = serve(Contexts())
    for _ in range(3):
        assert (server.path / "timeout").read_text() == "timed out"
        assert (server.path / "current").read_text() == "same"
        assert (server.path / "context").read_text() == "unset set"
        assert (server.path / "task").read_text() == "inherited"
        assert (server.path / "gather").read_text() == "a b"
        assert (server.path / "cancel-self").read_text() == "cancelled later"
    server.finish()
    assert server.log() == ""


class Leaking(Files):
    """Handlers that do not suspend, and leave traces that the next one must not find."""

    def __init__(self):
        super().__init__()
        self.kept = []

    async def read(self, request):
        if request.offset == 0:
            VARIABLE.set("left behind")
        elif request.offset == 1:
            self.kept.append(asyncio.current_task())
        elif request.offset == 2:
            asyncio.current_task().cancel()
        else:
            task = asyncio.current_task()
            assert task not in self.kept and VARIABLE.get() == "unset"
            # A cancellation left behind would strike here.
            await asyncio.sleep(0)
            return b"clean"
        return b"done"


def test_a_handler_meets_no_traces_of_another(serve):
    server = serve(Leaking())
    with opened(server.path / "file") as fd:
        for trace in (0, 1, 2, 0, 2, 1):
            assert os.pread(fd, 10, trace) == b"done"
            assert os.pread(fd, 10, 3) == b"clean"
    server.finish()
    assert server.log() == ""


class CountingTasks(AsyncFiles):
    tasks = 0

    async def readdir(self, request):
        return {f"{self.tasks}": self.root}

    async def getattr(self, request):
        asyncio.get_running_loop().set_task_factory(self.factory)
        return self.attr(request)

    def factory(self, loop, coroutine, **arguments):
        CountingTasks.tasks += 1
        return asyncio.Task(coroutine, loop=loop, **arguments)


def test_a_handler_that_does_not_suspend_costs_no_task(serve):
    server = serve(CountingTasks(), attr_timeout=0, entry_timeout=0)
    for _ in range(100):
        os.stat(server.path / "file")
    assert os.listdir(server.path) == ["0"]
    server.finish()


def test_interrupt_cancels_the_handler(serve_async):
    server = serve_async(Waiting())
    client = subprocess.Popen(["cat", str(server.path / "file")])
    try:
        until(lambda: (server.path / "outcome").read_bytes() == b"waiting")
        client.send_signal(signal.SIGINT)
        assert client.wait(5) == -signal.SIGINT
    finally:
        client.kill()
        client.wait()
    until(lambda: (server.path / "outcome").read_bytes() == b"cancelled")
    server.finish()
    assert server.log() == ""


class Slow(Files):
    """Answers a read only when a hundred of them are waiting."""

    CLIENTS = 100

    def __init__(self):
        super().__init__()
        self.waiting = 0
        self.event = None

    async def read(self, request):
        self.event = self.event or event()
        self.waiting += 1
        if self.waiting == self.CLIENTS:
            self.event.set()
        await self.event.wait()
        return b"together"


def test_many_handlers_wait_at_once(serve_async):
    server = serve_async(Slow(), max_background=200, queue_depth=Slow.CLIENTS)
    results = []

    def client():
        with opened(server.path / "file") as fd:
            results.append(os.read(fd, 100))

    threads = [threading.Thread(target=client, daemon=True) for _ in range(Slow.CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert results == [b"together"] * Slow.CLIENTS
    server.finish()


class Growing(Files):
    """A folder that changes while it is read."""

    def __init__(self):
        super().__init__(*(f"{number:04}" for number in range(1000)))
        self.removed = 0

    def unlink(self, request):
        del self.files[request.name]
        self.files[f"new-{request.name}"] = Attr.file(5000 + self.removed)
        self.removed += 1


def test_a_listing_stays_stable_while_entries_come_and_go(serve_anyhow):
    server = serve_anyhow(Growing())
    names = [f"{number:04}" for number in range(1000)]
    seen = []
    with os.scandir(server.path) as entries:
        for entry in entries:
            seen.append(entry.name)
            if len(seen) % 100 == 0:
                os.unlink(server.path / seen[-1])
    assert seen == names
    # A new look, and one from the beginning through the same descriptor, see what is there now.
    assert len([name for name in os.listdir(server.path) if name.startswith("new-")]) == 10
    with opened(server.path) as fd:
        first = os.listdir(fd)
        os.unlink(server.path / first[0])
        assert set(os.listdir(fd)) == set(first) - {first[0]} | {f"new-{first[0]}"}
    server.finish()


def test_dots_are_there_once(serve_anyhow):
    class Dotted(Files):
        def readdir(self, request):
            return [("..", Attr.dir(1)), "bare", (b"pair", None), (".", Attr.dir(1))]

    server = serve_anyhow(Dotted())
    listed = subprocess.run(["ls", "-fa", server.path], capture_output=True, text=True, timeout=10).stdout.split()
    assert listed == ["..", "bare", "pair", "."]
    server.finish()


class Everything:
    """Keeps what each handler was asked and answers with the simplest thing."""

    def __init__(self):
        self.attrs = {
            1: Attr.dir(1),
            2: Attr.file(2, 0o666, size=100),
            3: Attr.symlink(3, "target"),
            4: Attr.dir(4),
            5: Attr(5, stat.S_IFCHR | 0o600, rdev=os.makedev(7, 9)),
        }
        self.names = {"file": 2, "link": 3, "folder": 4, "device": 5}
        self.asked = []
        self.stored = b""

    def note(self, request, *values):
        self.asked.append(" ".join([request.operation, *(str(value) for value in values)]))

    def lookup(self, request):
        if request.name == "asked":
            self.attrs[9] = Attr.file(9, size=len("\n".join(self.asked)))
            return self.attrs[9]
        number = self.names.get(request.name)
        return Entry.negative() if number is None else Entry(self.attrs[number], generation=3, attr_timeout=0)

    def getattr(self, request):
        return self.attrs[request.node]

    def setattr(self, request):
        self.note(request, request.valid & 0x3F, oct(request.mode), request.size, request.mtime_ns)
        return self.attrs[request.node]

    def readlink(self, request):
        return "target"

    def open(self, request):
        return fusewire.Opened(33, fusewire.FOPEN_DIRECT_IO)

    def create(self, request):
        self.note(request, request.name, oct(request.mode), request.flags & os.O_ACCMODE)
        return self.attrs[2], fusewire.Opened(33)

    def mkdir(self, request):
        self.note(request, request.name, oct(stat.S_IMODE(request.mode)))
        return self.attrs[4]

    def mknod(self, request):
        self.note(request, request.name, os.major(request.rdev), os.minor(request.rdev))
        return self.attrs[5]

    def symlink(self, request):
        self.note(request, request.name, request.newname)
        return self.attrs[3]

    def link(self, request):
        self.note(request, request.newnode, request.node, request.name)
        return self.attrs[2]

    def rename(self, request):
        self.note(request, request.node, request.name, request.newnode, request.newname, request.flags)

    def unlink(self, request):
        self.note(request, request.name)

    def rmdir(self, request):
        self.note(request, request.name)

    def read(self, request):
        if request.node == 9:
            return "\n".join(self.asked).encode()[request.offset :]
        return memoryview(b"x" * request.size)

    def write(self, request):
        assert request.data.readonly
        self.note(request, request.fh, request.offset, bytes(request.data))
        return request.size

    def flush(self, request):
        self.note(request, request.fh)

    def release(self, request):
        self.note(request, request.fh)

    def fsync(self, request):
        self.note(request, request.op_flags & fusewire.FSYNC_FDATASYNC)

    def statfs(self, request):
        return fusewire.Statfs(blocks=10, bfree=5, bavail=4, files=3, ffree=2, namelen=77)

    def setxattr(self, request):
        self.note(request, request.name, bytes(request.data), request.flags)

    def getxattr(self, request):
        return b"value"

    def listxattr(self, request):
        return ["user.a", b"user.b"]

    def removexattr(self, request):
        self.note(request, request.name)

    def access(self, request):
        if request.mode & os.W_OK:
            raise PermissionError

    def fallocate(self, request):
        self.note(request, request.mode, request.offset, request.size)

    def lseek(self, request):
        return 42

    def copy_file_range(self, request):
        self.note(request, request.newnode, request.offset, request.newoffset, request.size)
        return 3

    def poll(self, request):
        return request.events & 1

    def ioctl(self, request):
        return (5, bytes(request.data)[::-1])

    def tmpfile(self, request):
        return Attr.file(2, nlink=0)


def test_every_operation(serve_anyhow):
    import fcntl
    import select

    server = serve_anyhow(Everything(), attr_timeout=0, entry_timeout=0)
    path = server.path
    file = path / "file"
    os.chmod(file, 0o640)
    os.utime(file, ns=(1, 1_000_000_002))
    os.truncate(file, 50)
    os.mkdir(path / "made", 0o711)
    os.mknod(path / "null", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.symlink("somewhere", path / "sym")
    os.link(file, path / "hard")
    os.rename(file, path / "folder" / "moved")
    os.unlink(file)
    os.rmdir(path / "folder")
    assert os.readlink(path / "link") == "target"
    assert os.stat(path / "device").st_rdev == os.makedev(7, 9)
    os.setxattr(file, "user.x", b"data", os.XATTR_CREATE)
    assert os.getxattr(file, "user.a") == b"value"
    assert os.listxattr(file) == ["user.a", "user.b"]
    os.removexattr(file, "user.x")
    assert os.access(file, os.R_OK) and not os.access(file, os.W_OK)
    status = os.statvfs(path)
    assert (status.f_blocks, status.f_bavail, status.f_namemax) == (10, 4, 77)
    with opened(file, os.O_RDWR) as fd:
        assert os.pread(fd, 7, 0) == b"xxxxxxx"
        assert os.pwrite(fd, b"hello", 3) == 5
        os.fdatasync(fd)
        os.posix_fallocate(fd, 1, 9)
        assert os.lseek(fd, 1, os.SEEK_DATA) == 42
        assert os.copy_file_range(fd, fd, 3, 10, 20) == 3
        poller = select.poll()
        poller.register(fd, select.POLLIN | select.POLLOUT)
        assert poller.poll(1000) == [(fd, select.POLLIN)]
        command = 3 << 30 | 4 << 16 | ord("f") << 8 | 9  # _IOWR('f', 9, int)
        argument = bytearray(b"abcd")
        assert fcntl.ioctl(fd, command, argument) == 5 and argument == b"dcba"
    os.close(os.open(path / "fresh", os.O_CREAT | os.O_WRONLY, 0o604))
    os.close(os.open(path, os.O_TMPFILE | os.O_RDWR))
    asked = (path / "asked").read_text().splitlines()
    for line in (
        "setattr 1 0o100640 0 0",
        "setattr 48 0o0 0 1000000002",
        "mkdir made 0o711",
        "mknod null 1 3",
        "symlink sym somewhere",
        "link 2 1 hard",
        "rename 1 file 4 moved 0",
        "unlink file",
        "rmdir folder",
        "setxattr user.x b'data' 1",
        "removexattr user.x",
        "write 33 3 b'hello'",
        "fsync 1",
        "fallocate 0 1 9",
        "copy_file_range 2 10 20 3",
        "flush 33",
        "create fresh 0o100604 1",
    ):
        assert line in asked, (line, asked)
    assert any(line.startswith("setattr 8 ") and " 50 " in line for line in asked), asked
    until(lambda: "release 33" in (path / "asked").read_text())
    server.finish()
    assert server.log() == ""


def test_a_filesystem_without_handlers(serve_anyhow):
    server = serve_anyhow(object.__new__(type("Empty", (), {})))
    assert errno_of(os.stat, server.path / "file") == errno.ENOSYS
    assert os.statvfs(server.path).f_namemax == 255
    server.finish()


class Writes(Files):
    """Keeps hold of written data beyond the reply in the wrong ways."""

    def __init__(self):
        super().__init__()
        self.kept = None

    def getattr(self, request):
        if request.node != 1 and self.kept is not None:
            try:
                bytes(self.kept)
            except ValueError:
                return Attr.file(2, size=1)
            return Attr.file(2, size=2)
        return self.attr(request)

    def write(self, request):
        self.kept = request.data if request.offset == 0 else request.data[1:]
        return len(request.data)


def test_written_data_cannot_be_used_after_the_reply(serve_anyhow):
    server = serve_anyhow(Writes(), attr_timeout=0)
    with opened(server.path / "file", os.O_WRONLY) as fd:
        assert os.pwrite(fd, b"hello", 0) == 5
        assert os.fstat(fd).st_size == 1, "a view of answered data was readable"
        # A slice would read what comes next into the buffer, so that the write fails.
        assert errno_of(os.pwrite, fd, b"hello", 10) == errno.EIO
    server.finish()
    assert "BufferError" in server.log()


class Borrowing(Files):
    def read(self, request):
        memory = request.borrow()
        assert len(memory) >= request.size
        piece = TEXT[request.offset : request.offset + request.size]
        memory[: len(piece)] = piece
        return len(piece) if request.offset else memory[: len(piece)]


def test_reading_into_borrowed_memory(serve_anyhow):
    server = serve_anyhow(Borrowing())
    with opened(server.path / "file") as fd:
        for offset in (0, 4):
            assert os.pread(fd, 100, offset) == TEXT[offset:]
    server.finish()
    assert server.log() == ""


def test_uvloop(fork, transport):
    uvloop = pytest.importorskip("uvloop")

    def body(path, mounted):
        async def main():
            with fusewire.mount(path, transport=transport) as connection:
                mounted()
                await connection.serve(SuspendingFiles("one"))

        uvloop.new_event_loop().run_until_complete(main())

    server = fork(body)
    assert (server.path / "one").read_bytes() == TEXT
    server.finish()
    assert server.log() == ""


class Yielding(Files):
    async def lookup(self, request):
        await self.pause()
        return Files.lookup(self, request)

    @types.coroutine
    def pause(self):
        yield


def test_a_handler_that_suspends_needs_a_loop(fork, transport):
    def body(path, mounted):
        with fusewire.mount(path, transport=transport) as connection:
            mounted()
            connection.run(Yielding(), loop="blocking")

    server = fork(body)
    assert errno_of(os.stat, server.path / "file") == errno.EIO
    server.finish()
    assert "there is no event loop" in server.log()
