"""How Connection.serve ends, and what becomes of the requests that are open then."""

import asyncio
import errno
import os
import signal
import threading

import pytest
from python_support import MNT_DETACH, opened, read_once, unmount, until
from python_filesystems import TEXT, Files, Waiting

import fusewire
from harness import mounts

pytestmark = pytest.mark.timeout(60)


def end_of(serve_and_report):
    """A body for fork: the exit status says how serve ended."""

    def body(path, mounted):
        connection = fusewire.mount(path)
        try:
            asyncio.run(serve_and_report(connection, mounted))
        finally:
            connection.close()

    return body


async def stopped_by_a_signal(connection, mounted):
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, connection.stop)
    mounted()
    await connection.serve(Files())


def test_stop_with_a_file_open(fork):
    server = fork(end_of(stopped_by_a_signal))
    with opened(server.path / "file"):
        os.kill(server.pid, signal.SIGUSR1)
        assert server.wait() == 0, server.log()


def test_stop_after_a_lazy_unmount(fork):
    server = fork(end_of(stopped_by_a_signal))
    with opened(server.path / "file") as fd:
        unmount(server.path, MNT_DETACH)
        assert os.pread(fd, 5, 0) == TEXT[:5]
        os.kill(server.pid, signal.SIGUSR1)
        assert server.wait() == 0, server.log()


def test_abort_is_raised(fork):
    async def serving(connection, mounted):
        mounted()
        with pytest.raises(fusewire.Aborted):
            await connection.serve(Files())

    server = fork(end_of(serving))
    device = os.stat(server.path).st_dev
    mounts.abort(os.minor(device))
    assert server.wait() == 0, server.log()


def test_cancelling_serve_answers_what_waits(fork):
    async def serving(connection, mounted):
        filesystem = Waiting()
        task = asyncio.create_task(connection.serve(filesystem))
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, task.cancel)
        mounted()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert filesystem.outcome == "cancelled"
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert connection.stats().open == 0

    server = fork(end_of(serving))
    results = []
    with opened(server.path / "file") as fd:
        client = threading.Thread(target=lambda: results.append(read_once(fd, 1)), daemon=True)
        client.start()
        until(lambda: (server.path / "outcome").read_bytes() == b"waiting")
        os.kill(server.pid, signal.SIGUSR1)
        client.join(10)
        assert results == [-errno.EINTR]
        assert server.wait() == 0, server.log()


def test_a_handler_that_closes_the_connection(fork):
    class Closing(Files):
        def read(self, request):
            self.connection.close()
            return b"too late"

    async def serving(connection, mounted):
        filesystem = Closing()
        filesystem.connection = connection
        mounted()
        await connection.serve(filesystem)
        assert connection.closed

    server = fork(end_of(serving))
    with opened(server.path / "file") as fd:
        with pytest.raises(OSError):
            os.read(fd, 1)
        assert server.wait() == 0, server.log()


def test_keyboard_interrupt_in_a_handler(fork):
    class Interrupting(Files):
        def read(self, request):
            raise KeyboardInterrupt

    async def serving(connection, mounted):
        mounted()
        await connection.serve(Interrupting())

    def body(path, mounted):
        with pytest.raises(KeyboardInterrupt):
            end_of(serving)(path, mounted)

    server = fork(body)
    with opened(server.path / "file") as fd:
        assert read_once(fd, 1) == -errno.EIO
    assert server.wait() == 0, server.log()


def test_two_mounts_in_one_loop(fork, tmp_path):
    second = tmp_path / "second"
    second.mkdir()

    async def both(path, mounted):
        with fusewire.mount(path) as one, fusewire.mount(second) as two:
            mounted()
            await asyncio.gather(one.serve(Files("one")), two.serve(Files("two")))

    server = fork(lambda path, mounted: asyncio.run(both(path, mounted)))
    try:
        assert os.listdir(server.path) == ["one"] and os.listdir(second) == ["two"]
        unmount(second)
        assert os.listdir(server.path) == ["one"]
        server.finish()
    finally:
        if os.path.ismount(second):
            unmount(second, MNT_DETACH)
