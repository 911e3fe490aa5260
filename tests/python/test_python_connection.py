"""The raw connection and the iterations over requests: everything below Connection.serve."""

import asyncio
import errno
import gc
import mmap
import os
import select
import struct
import threading
import time

import pytest
from python_support import MNT_DETACH, is_mounted, opened, read_once, unmount, until
from python_filesystems import TEXT, Files, answer

import fusewire
from fusewire import Attr, Opcode
from harness import mounts

pytestmark = pytest.mark.timeout(60)


def by_polling(connection, filesystem):
    poller = select.poll()
    poller.register(connection, select.POLLIN)
    try:
        while True:
            poller.poll()
            while batch := connection.read(0):
                for request in batch:
                    answer(filesystem, request)
    except fusewire.Unmounted as end:
        assert end.errno == errno.ENODEV


def by_reading(connection, filesystem):
    with pytest.raises(fusewire.Unmounted):
        while True:
            for request in connection.read(0.5):
                answer(filesystem, request)


def by_iterating(connection, filesystem):
    for request in connection:
        answer(filesystem, request)


def by_iterating_in_a_loop(connection, filesystem):
    async def iterate():
        async for request in connection:
            answer(filesystem, request)

    asyncio.run(iterate())


@pytest.fixture
def raw(fork, transport):
    """Runs serving(connection) in a child."""

    def start(serving, **options):
        def body(path, mounted):
            with fusewire.mount(path, transport=transport, attr_timeout=0, entry_timeout=0, **options) as connection:
                assert connection.stats().transport == transport
                mounted()
                serving(connection)

        return fork(body)

    return start


@pytest.mark.parametrize("way", [by_polling, by_reading, by_iterating, by_iterating_in_a_loop])
def test_ways_to_read(raw, way):
    def serving(connection):
        way(connection, Files("one", "two"))
        stats = connection.stats()
        assert stats.read == stats.answered + stats.forgets and stats.open == 0

    server = raw(serving)
    assert sorted(os.listdir(server.path)) == ["one", "two"]
    assert (server.path / "one").read_bytes() == TEXT
    server.finish()
    assert server.log() == ""


def next_request(connection, opcode, filesystem=None):
    """Serves until there is a request of that kind, and returns it."""
    filesystem = filesystem or Files()
    for request in connection:
        if request.opcode == opcode:
            return request
        answer(filesystem, request)
    raise AssertionError("unmounted")


def serve_on(connection):
    by_iterating(connection, Files())


def test_replying_twice_raises(raw):
    def serving(connection):
        request = next_request(connection, Opcode.READ)
        assert not request.answered
        request.reply(b"once")
        assert request.answered
        for again in (lambda: request.reply(b"twice"), lambda: request.reply_error(errno.EIO)):
            with pytest.raises(fusewire.ReplyRefused) as caught:
                again()
            assert caught.value.errno == errno.EALREADY
        # What the request said stays as it was, whatever the next batches bring.
        before = request.node, request.offset, request.size, request.id
        serve_on(connection)
        assert before == (request.node, request.offset, request.size, request.id)
        assert before[0] == 2

    server = raw(serving)
    with opened(server.path / "file") as fd:
        assert os.read(fd, 10) == b"once"
    server.finish()


def test_a_reply_after_the_end_is_dropped(raw, tmp_path):
    """Nobody waits for it any more; what the program hears of the end comes from reading."""
    held = tmp_path / "held"

    def serving(connection):
        requests = [next_request(connection, Opcode.READ)]
        held.touch()
        with pytest.raises(fusewire.Aborted):
            while True:
                requests += connection.read(1)
        for request in requests:
            if request.opcode == Opcode.READ:
                request.reply(b"late")
            else:
                request.reply_error(errno.EIO)
            assert request.answered

    server = raw(serving)
    device = os.stat(server.path).st_dev
    errors = []

    def reading():
        try:
            os.read(fd, 10)
        except OSError as error:
            errors.append(error.errno)

    with opened(server.path / "file") as fd:
        client = threading.Thread(target=reading, daemon=True)
        client.start()
        until(held.exists)
        mounts.abort(os.minor(device))
        client.join(20)
    assert errors == [errno.ECONNABORTED]
    assert server.wait() == 0, server.log()


def test_a_wrong_reply_leaves_the_request_open(raw):
    def serving(connection):
        request = next_request(connection, Opcode.READ)
        with pytest.raises(TypeError, match="read returned"):
            request.reply(Attr.file(2))
        with pytest.raises(fusewire.ReplyRefused) as caught:
            request.reply(b"x" * (request.size + 1))
        assert caught.value.errno == errno.EMSGSIZE
        with pytest.raises(fusewire.ReplyRefused) as caught:
            request.reply_error(512)
        assert caught.value.errno == errno.ERANGE
        assert not request.answered
        request.reply(b"right")
        serve_on(connection)

    server = raw(serving)
    with opened(server.path / "file") as fd:
        assert os.read(fd, 10) == b"right"
    server.finish()


def test_replies_of_the_last_turn_are_sent_when_it_closes(raw):
    def serving(connection):
        request = next_request(connection, Opcode.READ)
        request.reply(b"last")

    server = raw(serving)
    with opened(server.path / "file") as fd:
        assert os.read(fd, 10) == b"last"
    assert server.wait() == 0, server.log()


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_lost_request_is_answered(raw, elsewhere):
    def serving(connection):
        requests = [next_request(connection, Opcode.READ)]
        assert requests[0].data == b""
        if elsewhere:
            thread = threading.Thread(target=requests.clear)
            thread.start()
            thread.join()
        else:
            requests.clear()
        gc.collect()
        serve_on(connection)

    server = raw(serving)
    with opened(server.path / "file") as fd:
        assert read_once(fd, 10) == -errno.EIO
        assert read_once(fd, 10) == TEXT[:10]
    server.finish()


def test_requests_left_in_a_batch_are_answered(raw):
    """A loop that is left in the middle of a batch loses no request."""
    names = [str(number) for number in range(8)]

    def serving(connection):
        filesystem = Files(*names)
        while (request := next(iter(connection), None)) is not None:
            answer(filesystem, request)
        stats = connection.stats()
        assert stats.read == stats.answered + stats.forgets and stats.open == 0

    server = raw(serving)
    errors = []
    enough = threading.Event()

    def client(name):
        try:
            while not enough.is_set():
                assert os.stat(server.path / name).st_size == len(TEXT)
        except OSError as error:
            errors.append(error.errno)

    threads = [threading.Thread(target=client, args=(name,), daemon=True) for name in names]
    for thread in threads:
        thread.start()
    try:
        until(lambda: errors)  # two were in one batch
    finally:
        enough.set()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert set(errors) == {errno.EIO}
    server.finish()


class Writable(Files):
    def getattr(self, request):
        return self.attr(request)

    def write(self, request):
        return len(request.data)


def test_data_of_an_answered_request_is_gone(raw):
    def serving(connection):
        request = next_request(connection, Opcode.WRITE)
        data = request.data
        assert data == b"hello" and data.readonly and request.data is data
        part = data[1:3]
        with pytest.raises(BufferError):
            request.reply(5)
        assert not request.answered
        del part
        request.reply(5)
        for use in (lambda: bytes(data), lambda: data[0], lambda: request.data, lambda: request.message):
            with pytest.raises(ValueError):
                use()
        # Never looked at before the reply.
        request = next_request(connection, Opcode.WRITE)
        request.reply(5)
        with pytest.raises(ValueError):
            request.data  # noqa: B018
        # Closing the connection takes it back too.
        request = next_request(connection, Opcode.WRITE)
        data = request.data
        connection.close()
        with pytest.raises(ValueError):
            bytes(data)
        with pytest.raises(ValueError):
            request.message  # noqa: B018

    server = raw(serving)
    with opened(server.path / "file", os.O_WRONLY) as fd:
        assert os.write(fd, b"hello") == 5
        assert os.write(fd, b"hello") == 5
        assert -read_error(os.write, fd, b"hello") in (errno.EIO, errno.ECONNABORTED)
    assert server.wait() == 0, server.log()


def read_error(function, *arguments):
    try:
        return function(*arguments)
    except OSError as error:
        return -error.errno


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview, "mmap"])
def test_any_buffer_is_data(raw, make):
    def serving(connection):
        data = TEXT
        if make == "mmap":
            data = mmap.mmap(-1, len(TEXT))
            data[:] = TEXT
        else:
            data = make(TEXT)
        next_request(connection, Opcode.READ).reply(data)
        serve_on(connection)

    server = raw(serving)
    with opened(server.path / "file") as fd:
        assert os.read(fd, 100) == TEXT
    server.finish()


def test_borrowed_memory(raw):
    def serving(connection):
        request = next_request(connection, Opcode.READ)
        memory = request.borrow()
        memory[:3] = b"abc"
        with pytest.raises(fusewire.ReplyRefused):
            request.reply(request.size + 1)
        request.borrow()[1:2] = b"x"
        request.reply(3)
        with pytest.raises(ValueError):
            memory[0] = 0
        serve_on(connection)

    server = raw(serving)
    with opened(server.path / "file") as fd:
        assert os.read(fd, 10) == b"axc"
    server.finish()


def test_message_and_raw_write(raw):
    def serving(connection):
        request = next_request(connection, Opcode.GETXATTR)
        size, opcode, unique, node = struct.unpack_from("IIQQ", request.message)
        assert (size, opcode, unique, node) == (len(request.message), Opcode.GETXATTR, request.unique, request.node)
        assert request.message.endswith(b"user.name\0") and request.name == "user.name"
        with pytest.raises(fusewire.ReplyRefused):
            connection.write(request, struct.pack("IiQ", 15, 0, unique))
        connection.write(request, struct.pack("IiQ", 21, 0, unique), b"value")
        serve_on(connection)

    server = raw(serving)
    assert os.getxattr(server.path / "file", "user.name") == b"value"
    server.finish()


def test_outcome_of_a_reply(raw):
    def serving(connection):
        request = next_request(connection, Opcode.READ)
        connection.expect_outcome(request)
        request.reply(b"")
        outcome = next_request(connection, Opcode.OUTCOME)
        assert (outcome.unique, outcome.error, outcome.answered) == (request.unique, 0, True)
        serve_on(connection)

    server = raw(serving)
    with opened(server.path / "file") as fd:
        assert os.read(fd, 10) == b""
    server.finish()


def test_waiting_and_waking(raw):
    def serving(connection):
        assert connection.read(0) == []
        begin = time.monotonic()
        assert connection.read(0.05) == []
        assert time.monotonic() - begin >= 0.04
        threading.Timer(0.05, connection.wake).start()
        assert connection.read() == []
        connection.stop()
        for _ in range(2):
            with pytest.raises(fusewire.Stopped) as caught:
                connection.read()
            assert caught.value.errno == errno.ESHUTDOWN
        assert list(connection) == []

    server = raw(serving)
    assert server.wait() == 0, server.log()


def test_closing_while_another_thread_reads(raw):
    def serving(connection):
        reader = threading.Thread(target=connection.read, daemon=True)
        reader.start()
        until(lambda: connection._waiting)
        with pytest.raises(RuntimeError, match="reading"):
            connection.close()
        connection.wake()
        reader.join(10)
        assert not reader.is_alive()

    server = raw(serving)
    assert server.wait() == 0, server.log()


def test_stop_from_another_thread(raw):
    def serving(connection):
        threading.Timer(0.05, connection.stop).start()
        assert list(connection.requests()) == []

    server = raw(serving)
    assert server.wait() == 0, server.log()


def test_clone(raw):
    """Two channels of one mount, each served by a thread of its own."""

    def serving(connection):
        with connection.clone() as clone:
            thread = threading.Thread(target=serve_on, args=(clone,))
            thread.start()
            serve_on(connection)
            thread.join(10)
            assert not thread.is_alive()
            assert clone.negotiated() == connection.negotiated()

    server = raw(serving)
    for _ in range(50):
        assert (server.path / "file").read_bytes() == TEXT
    server.finish()


def test_a_clone_in_a_forked_child(raw):
    def serving(connection):
        clone = connection.clone()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                with pytest.raises(OSError):
                    connection.read(0)
                serve_on(clone)
                status = 0
            finally:
                os._exit(status)
        clone.close()
        serve_on(connection)
        assert os.waitpid(child, 0)[1] == 0

    server = raw(serving)
    for _ in range(50):
        assert (server.path / "file").read_bytes() == TEXT
    server.finish()


def test_session_and_statistics(raw):
    def serving(connection):
        session = connection.negotiated()
        assert session.major == 7 and session.minor >= 31
        assert session.max_write == 64 * 1024
        assert session.has(fusewire.Capability.WRITEBACK_CACHE)
        assert not session.has(fusewire.Capability.ASYNC_READ)
        serve_on(connection)
        stats = connection.stats()
        assert stats.read == stats.answered + stats.forgets and stats.open == 0 and stats.batches > 0

    server = raw(
        serving,
        max_write=64 * 1024,
        capabilities=[fusewire.Capability.WRITEBACK_CACHE],
        without_capabilities=[fusewire.Capability.ASYNC_READ],
    )
    assert (server.path / "file").read_bytes() == TEXT
    server.finish()


class Cached(Files):
    """The kernel may keep everything; what is asked is counted."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def open(self, request):
        return fusewire.Opened(flags=fusewire.FOPEN_KEEP_CACHE)

    def read(self, request):
        self.asked.append("read")
        return super().read(request)

    def lookup(self, request):
        self.asked.append("lookup")
        return fusewire.Entry(super().lookup(request), entry_timeout=1000, attr_timeout=1000)


def test_notifications(raw):
    """The client signals through file names what to drop; the server says through their absence that it has."""

    def serving(connection):
        filesystem = Cached()
        names = {
            "inode": lambda: connection.notify_inval_inode(2),
            "entry": lambda: connection.notify_inval_entry(fusewire.ROOT, "file"),
            "expire": lambda: connection.notify_inval_entry(fusewire.ROOT, "file", expire_only=True),
            "store": lambda: connection.notify_store(2, 4, b"QUICK"),
            "delete": lambda: connection.notify_delete(fusewire.ROOT, 2, "file"),
            "count": lambda: None,
        }
        for request in connection:
            if request.opcode == Opcode.LOOKUP and request.name in names:
                name = request.name
                request.reply_error(100 + len(filesystem.asked) if name == "count" else errno.ENOENT)
                names[name]()
            else:
                answer(filesystem, request)

    server = raw(serving)
    file = server.path / "file"

    def asked():
        return read_error(os.stat, server.path / "count") * -1 - 100

    def tell(name):
        assert read_error(os.stat, server.path / name) == -errno.ENOENT

    assert file.read_bytes() == TEXT
    before = asked()
    assert file.read_bytes() == TEXT
    assert asked() == before, "nothing is asked again"
    tell("store")
    assert until(lambda: file.read_bytes() == TEXT.replace(b"quick", b"QUICK"))
    tell("inode")
    assert until(lambda: file.read_bytes() == TEXT)
    for name in ("entry", "expire", "delete"):
        before = asked()
        tell(name)
        until(lambda before=before: os.stat(file) and asked() > before)
    server.finish()


def test_retrieve(raw):
    def serving(connection):
        filesystem = Files()
        filesystem.open = lambda request: None
        for request in connection:
            if request.opcode == Opcode.NOTIFY_REPLY:
                assert (request.unique, request.offset, bytes(request.data)) == (77, 4, b"quick")
                connection.stop()
            elif request.opcode == Opcode.GETXATTR:
                request.reply_error(errno.ENODATA)
                connection.notify_retrieve(2, 4, 5, 77)
            else:
                answer(filesystem, request)
        assert connection.stats().retrieved == 1

    server = raw(serving)
    with opened(server.path / "file") as fd:
        assert os.read(fd, 100) == TEXT
        assert read_error(os.getxattr, server.path / "file", "user.x") == -errno.ENODATA
        assert server.wait() == 0, server.log()


def test_mount_failures_have_words(folder):
    missing = folder / "missing"
    with pytest.raises(FileNotFoundError) as caught:
        fusewire.mount(missing)
    assert caught.value.filename == str(missing) and caught.value.strerror
    with pytest.raises(OSError, match="no_such_option") as caught:
        fusewire.mount(folder, options="no_such_option")
    assert caught.value.errno == errno.EINVAL


def test_fsname_and_subtype(raw):
    server = raw(serve_on, fsname="na,me\\x", subtype="kind", read_only=True)
    line = next(line for line in open("/proc/self/mounts") if f" {server.path} " in line)
    assert line.startswith("na,me\\134x ") and " fuse.kind ro," in line
    server.finish()


def test_a_closed_connection(folder):
    connection = fusewire.mount(folder)
    assert is_mounted(folder) and "fd=" in repr(connection)
    connection.close()
    assert not is_mounted(folder) and "closed" in repr(connection)
    connection.close()
    for use in (connection.fileno, connection.stats, connection.stop, lambda: connection.read(0)):
        with pytest.raises(ValueError, match="closed"):
            use()


def test_a_connection_that_is_forgotten_warns_and_unmounts(folder):
    with pytest.warns(ResourceWarning, match="not closed"):
        fusewire.mount(folder)
        gc.collect()
    assert not is_mounted(folder)


def test_adopting_a_descriptor(fork):
    """A parent mounts, and hands the descriptor to a successor together with what INIT agreed upon."""

    def body(path, mounted):
        first = fusewire.mount(path)
        session, fd = first.negotiated(), os.dup(first.device_fd())
        with fusewire.adopt(fd, session=session, attr_timeout=0) as second:
            os.close(fd)
            assert second.negotiated() == session
            mounted()
            serve_on(second)
        first.close()

    server = fork(body)
    assert (server.path / "file").read_bytes() == TEXT
    unmount(server.path, MNT_DETACH)
    assert server.wait() == 0, server.log()
