"""What is trio's own in serving: tasks, cancel scopes and context variables of handlers, and how serving ends."""

import contextvars
import errno
import os
import threading

import pytest
import trio
from python_filesystems import TEXT, Files, Waiting
from python_support import opened, read_once, serving, until

import fusewire

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def serve(fork, transport):
    return serving(fork, transport, "trio")


VARIABLE = contextvars.ContextVar("variable", default="unset")


class Contexts(Files):
    """Reports, as a file's contents, what a handler sees around a suspension."""

    def __init__(self):
        super().__init__("timeout", "expired", "current", "context", "nursery", "thread", "scope")
        self.seen = set()

    async def read(self, request):
        if request.offset:
            return b""
        name = next(name for name, attr in self.files.items() if attr.ino == request.node)
        return (await getattr(self, name)()).encode()

    async def timeout(self):
        # Entered before the first suspension, when the handler may be over at once.
        with trio.move_on_after(0.01) as scope:
            await trio.sleep_forever()
        return f"timed out {scope.cancelled_caught}"

    async def expired(self):
        with trio.move_on_after(0) as scope:
            await trio.sleep_forever()
        await trio.sleep(0)
        return f"timed out {scope.cancelled_caught}"

    async def current(self):
        before = trio.lowlevel.current_task()
        await trio.sleep(0)
        assert before is trio.lowlevel.current_task() and before not in self.seen
        self.seen.add(before)
        return "same"

    async def context(self):
        before = VARIABLE.get()
        VARIABLE.set("set")
        await trio.sleep(0)
        return f"{before} {VARIABLE.get()}"

    async def nursery(self):
        words = []

        async def child(word):
            await trio.sleep(0)
            words.append(f"{word} {VARIABLE.get()}")

        VARIABLE.set("inherited")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child, "child")
        return words[0]

    async def thread(self):
        return await trio.to_thread.run_sync(lambda: "from a thread")

    async def scope(self):
        VARIABLE.set("left behind")
        return "not suspended"


def test_tasks_timeouts_and_context_variables(serve):
    server = serve(Contexts())
    for _ in range(3):
        assert (server.path / "timeout").read_text() == "timed out True"
        assert (server.path / "expired").read_text() == "timed out True"
        assert (server.path / "current").read_text() == "same"
        assert (server.path / "scope").read_text() == "not suspended"
        assert (server.path / "context").read_text() == "unset set"
        assert (server.path / "nursery").read_text() == "child inherited"
        assert (server.path / "thread").read_text() == "from a thread"
    server.finish()
    assert server.log() == ""


class Bell(Files):
    """Reads of one file wait until the other one is read; the bell rings from a plain handler too."""

    def __init__(self):
        super().__init__("bell", *(str(number) for number in range(8)))
        self.event = None

    async def read(self, request):
        self.event = self.event or trio.Event()
        if request.node == self.files["bell"].ino:
            self.event.set()
            return b"rung"
        await self.event.wait()
        return TEXT


def test_handlers_wake_each_other_within_a_batch(serve):
    server = serve(Bell(), queue_depth=16)
    results = []

    def client(name):
        with opened(server.path / name) as fd:
            results.append(os.read(fd, 100))

    threads = [threading.Thread(target=client, args=(str(number),), daemon=True) for number in range(8)]
    for thread in threads:
        thread.start()
    with opened(server.path / "bell") as fd:
        assert os.read(fd, 10) == b"rung"
    for thread in threads:
        thread.join(20)
    assert results == [TEXT] * 8
    server.finish()


class CountingTasks(Files):
    async def getattr(self, request):
        return self.attr(request)

    async def readdir(self, request):
        return {f"{trio.lowlevel.current_statistics().tasks_living}": self.root}

    async def lookup(self, request):
        return Files.lookup(self, request)


def test_a_handler_that_does_not_suspend_costs_no_task(fork, transport):
    made = []

    class Instrument(trio.abc.Instrument):
        def task_spawned(self, task):
            made.append(task.name)

    def body(path, mounted):
        async def main():
            with fusewire.mount(path, transport=transport, attr_timeout=0, entry_timeout=0) as connection:
                mounted()
                await connection.serve(CountingTasks())

        trio.run(main, instruments=[Instrument()])
        assert len([name for name in made if name.endswith("lead")]) == 1, made

    server = fork(body)
    for _ in range(100):
        os.stat(server.path / "file")
    server.finish()


def test_cancelling_serve_answers_what_waits(fork, transport):
    filesystem = Waiting()

    def body(path, mounted):
        async def main():
            with fusewire.mount(path, transport=transport) as connection:
                mounted()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(connection.serve, filesystem)
                    while filesystem.outcome != "waiting":
                        await trio.sleep(0.001)
                    nursery.cancel_scope.cancel()
                assert filesystem.outcome == "cancelled"

        trio.run(main)

    server = fork(body)
    with opened(server.path / "file") as fd:
        assert read_once(fd, 10) == -errno.EINTR
    assert server.wait() == 0, server.log()


class Leaving(Waiting):
    def readdir(self, request):
        raise SystemExit("leaving")


def test_the_program_ends_in_a_handler(serve):
    """Who waits then is answered, and nothing stays mounted."""
    server = serve(Leaving())
    results = []

    def client():
        with opened(server.path / "file") as fd:
            results.append(read_once(fd, 10))

    thread = threading.Thread(target=client, daemon=True)
    thread.start()
    until(lambda: (server.path / "outcome").read_bytes() == b"waiting")
    with pytest.raises(OSError):
        os.listdir(server.path)
    thread.join(20)
    assert results == [-errno.EINTR]
    assert server.wait() == 1 and "leaving" in server.log()
    assert not os.path.ismount(server.path)


def test_requests_in_a_trio_loop(fork, transport):
    from python_filesystems import answer

    def body(path, mounted):
        async def main():
            async with fusewire.mount(path, transport=transport) as connection:
                mounted()
                async for request in connection:
                    answer(Files("one"), request)

        trio.run(main)

    server = fork(body)
    assert os.listdir(server.path) == ["one"]
    server.finish()
