"""Connection.run, Connection.serving and what ends them: signals, the end of the program, a busy mount."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap

import pytest
import trio
from python_filesystems import TEXT, Files, sleep
from python_support import is_mounted, opened, until

import fusewire

pytestmark = pytest.mark.timeout(60)

HERE = os.path.dirname(os.path.abspath(__file__))


class AsyncFiles(Files):
    async def read(self, request):
        await sleep(0)
        return Files.read(self, request)


# Whoever runs the tests may ignore signals, as nohup does, and programs inherit that.
START = """
import asyncio, os, signal, sys, trio, fusewire
from python_filesystems import Files
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGTERM, signal.SIG_DFL)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
"""


def program(folder, text, *arguments):
    """A program of its own, mounted on the folder."""
    text = START + textwrap.dedent(text)
    paths = os.pathsep.join([HERE, *sys.path])
    return subprocess.Popen(
        [sys.executable, "-c", text, str(folder), *arguments],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
    )


def ended(process):
    words = process.communicate(timeout=20)[1]
    return process.returncode, words


RUN = """
    with fusewire.mount(sys.argv[1]) as connection:
        connection.run(Files(), loop=sys.argv[2])
    assert connection.closed
"""


@pytest.mark.parametrize("loop", ["blocking", "asyncio", "trio"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("busy", [False, True])
def test_signals_end_run(folder, loop, number, busy):
    process = program(folder, RUN, loop)
    try:
        until(lambda: is_mounted(folder))
        assert (folder / "file").read_bytes() == TEXT
        if busy:
            with opened(folder / "file"):
                process.send_signal(number)
                until(lambda: not is_mounted(folder))
                process.send_signal(number)
                assert ended(process) == (0, "")
        else:
            process.send_signal(number)
            assert ended(process) == (0, "")
        assert not is_mounted(folder)
    finally:
        process.kill()
        process.communicate()


def test_run_lets_the_program_handle_its_signals(folder):
    process = program(
        folder,
        """
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
        with fusewire.mount(sys.argv[1]) as connection:
            connection.run(Files())
        """,
    )
    try:
        until(lambda: is_mounted(folder))
        assert (folder / "file").read_bytes() == TEXT
        process.send_signal(signal.SIGTERM)
        assert ended(process) == (7, "")
        assert not is_mounted(folder)
    finally:
        process.kill()
        process.communicate()


def test_run_takes_asyncio_where_a_handler_is_async(fork, transport):
    def body(path, mounted):
        with fusewire.mount(path, transport=transport) as connection:
            mounted()
            connection.run(AsyncFiles())

    server = fork(body)
    assert (server.path / "file").read_bytes() == TEXT
    server.finish()


def test_there_is_no_such_loop(folder):
    with fusewire.mount(folder) as connection, pytest.raises(ValueError, match="blocking, asyncio, trio"):
        connection.run(Files(), loop="gevent")


def test_what_is_open_when_the_program_ends_is_unmounted(folder):
    process = program(
        folder,
        """
        connection = fusewire.mount(sys.argv[1])
        sys.exit(3)
        """,
    )
    assert ended(process)[0] == 3
    assert not is_mounted(folder)


def test_an_uncaught_exception_unmounts(folder):
    process = program(
        folder,
        """
        connection = fusewire.mount(sys.argv[1])
        async def main():
            connection.serve(Files())
            raise ZeroDivisionError
        asyncio.run(main())
        """,
    )
    status, words = ended(process)
    assert status == 1 and "ZeroDivisionError" in words
    assert not is_mounted(folder)


# ---- serving ----


async def reading(path):
    """A client of one's own mount: in a thread, since the loop has to serve it."""
    read = (path / "file").read_bytes
    try:
        trio.lowlevel.current_task()
    except RuntimeError:
        return await asyncio.get_running_loop().run_in_executor(None, read)
    return await trio.to_thread.run_sync(read)


def in_asyncio(main, *arguments):
    asyncio.run(main(*arguments))


def in_trio(main, *arguments):
    trio.run(main, *arguments)


def own_client(folder, runner, transport, body):
    """The tests' own process touches the mount, in a child that is bounded in time."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            signal.alarm(30)
            runner(body, folder, transport)
            status = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert not is_mounted(folder)


@pytest.mark.parametrize("runner", [in_asyncio, in_trio])
def test_serving_in_the_background(folder, runner, transport):
    async def main(path, transport):
        async with fusewire.mount(path, transport=transport) as connection, connection.serving(AsyncFiles()):
            assert await reading(path) == TEXT
        assert not is_mounted(path) and connection.closed

    own_client(folder, runner, transport, main)


@pytest.mark.parametrize("runner", [in_asyncio, in_trio])
def test_serving_ends_where_the_mount_stays_busy(folder, runner, transport):
    async def main(path, transport):
        async with fusewire.mount(path, transport=transport) as connection:
            async with connection.serving(Files()):
                # Popen's own cwd would wait for this very process: until its child is where it was told to be.
                busy = subprocess.Popen(["env", f"--chdir={path}", "sleep", "30"])
                while os.readlink(f"/proc/{busy.pid}/cwd") != str(path):
                    await sleep(0.01)
            busy.kill()
            busy.wait()

    own_client(folder, runner, transport, main)


@pytest.mark.parametrize("runner", [in_asyncio, in_trio])
def test_an_exception_of_the_block_is_raised(folder, runner, transport):
    async def main(path, transport):
        with pytest.raises(BaseException) as caught:
            async with fusewire.mount(path, transport=transport) as connection, connection.serving(Files()):
                assert await reading(path) == TEXT
                raise ZeroDivisionError
        error = caught.value
        while not isinstance(error, ZeroDivisionError):  # some versions of trio make a group of it
            (error,) = error.exceptions

    own_client(folder, runner, transport, main)


@pytest.mark.parametrize("runner", [in_asyncio, in_trio])
def test_two_mounts_in_one_loop(folder, runner, transport):
    async def main(path, transport):
        paths = [path / "one", path / "two"]
        for each in paths:
            each.mkdir()
        try:
            async with fusewire.mount(paths[0], transport=transport) as one, one.serving(Files()):
                async with fusewire.mount(paths[1], transport=transport) as two, two.serving(AsyncFiles()):
                    assert await reading(paths[0]) == await reading(paths[1]) == TEXT
                assert await reading(paths[0]) == TEXT
        finally:
            for each in paths:
                each.rmdir()

    own_client(folder, runner, transport, main)


def test_a_timeout_around_serving(folder, transport):
    async def main(path, transport):
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(inner(path, transport), 0.3)

    async def inner(path, transport):
        async with fusewire.mount(path, transport=transport) as connection, connection.serving(Files()):
            await asyncio.sleep(60)

    own_client(folder, in_asyncio, transport, main)


# ---- workers ----


class Who(Files):
    """Files whose contents are the process that serves them."""

    def read(self, request):
        if request.node == 3:
            os._exit(9)
        return b"" if request.offset else b"%d" % os.getpid()


class AsyncWho(Who):
    async def read(self, request):
        await asyncio.sleep(0)
        return Who.read(self, request)


@pytest.fixture(params=[Who, AsyncWho])
def workers(fork, transport, request):
    def body(path, mounted):
        with fusewire.mount(path, transport=transport, workers=2) as connection:
            mounted()
            connection.run(request.param("file", "deadly"))

    return fork(body)


def children_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(word) for word in file.read().split()]


def test_workers_serve(workers):
    assert int((workers.path / "file").read_bytes()) in until(lambda: children_of(workers.pid))
    workers.finish()
    assert workers.log() == ""


def test_a_worker_that_dies_is_replaced(workers):
    until(lambda: len(children_of(workers.pid)) == 2)
    before = set(children_of(workers.pid))
    with opened(workers.path / "deadly") as fd, pytest.raises(OSError):
        os.read(fd, 10)
    until(lambda: len(set(children_of(workers.pid)) - before) == 1 and len(children_of(workers.pid)) == 2)
    for _ in range(20):
        assert int((workers.path / "file").read_bytes()) in children_of(workers.pid)
    workers.finish()
    assert "exit status 9" in workers.log()


def test_a_killed_worker_is_replaced(workers):
    victims = until(lambda: len(children_of(workers.pid)) == 2 and children_of(workers.pid))
    for victim in victims:
        os.kill(victim, signal.SIGKILL)
    until(lambda: len(set(children_of(workers.pid)) - set(victims)) == 2)
    assert int((workers.path / "file").read_bytes()) in children_of(workers.pid)
    workers.finish()
    assert "signal 9" in workers.log()


def test_a_signal_ends_all_workers(workers):
    children = until(lambda: len(children_of(workers.pid)) == 2 and children_of(workers.pid))
    os.kill(workers.pid, signal.SIGTERM)
    assert workers.wait() == 0, workers.log()
    assert not [pid for pid in children if os.path.exists(f"/proc/{pid}")]
    assert not is_mounted(workers.path)


def test_serve_does_not_take_workers(folder):
    async def main():
        with fusewire.mount(folder, workers="cpus") as connection, pytest.raises(RuntimeError, match="run"):
            assert connection.workers == fusewire.worker_count()
            await connection.serve(Files())

    asyncio.run(main())


@pytest.mark.parametrize("number", [0, -1, "many", 1.5])
def test_there_cannot_be_so_many_workers(folder, number):
    with pytest.raises(ValueError, match="workers="):
        fusewire.mount(folder, workers=number)
