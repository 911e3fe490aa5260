"""What workers need: shares of the CPUs, threads bound to them, and processes that each serve the clients of theirs."""

import asyncio
import ctypes
import errno
import os
import re
import signal
import threading
import traceback

import pytest
from python_support import MNT_DETACH, is_waiting, opened, read_once, unmount, until
from python_filesystems import Files, answer

import fusewire
from harness import cpus

pytestmark = pytest.mark.timeout(60)

PR_SET_PDEATHSIG = 1

needs_two_cpus = pytest.mark.skipif(len(cpus.usable()) < 2, reason="needs two CPUs")


def numbers(share):
    return [int(number) for number in share.split(",") if number]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 1000])
def test_shares_have_every_cpu_once(count):
    shares = [numbers(fusewire.worker_cpus(index, count)) for index in range(count)]
    assert sorted(sum(shares, [])) == cpus.possible()
    busy = [share for share in shares if set(share) & set(cpus.usable())]
    assert len(busy) == min(count, len(cpus.usable()))


def test_as_many_workers_as_usable_cpus():
    assert fusewire.worker_count() == len(cpus.usable())
    with cpus.pinned(cpus.usable()[-1]):
        assert fusewire.worker_count() == 1


@pytest.mark.parametrize(("index", "count"), [(0, 0), (2, 2)])
def test_there_is_no_such_worker(index, count):
    with pytest.raises(OSError, match="index") as caught:
        fusewire.worker_cpus(index, count)
    assert caught.value.errno == errno.EINVAL


@pytest.mark.needs_uring
def test_cpus_and_queue_depth(folder):
    last = cpus.possible()[-1]
    forms = [(f"0-{last}", last + 1), (range(last + 1), last + 1), ({last}, 1), (iter([0, 0]), 1), ("", 0), ([], 0)]
    for form, count in forms:
        with fusewire.mount(folder, transport="uring", cpus=form, queue_depth=5) as connection:
            stats = connection.stats()
            assert (stats.queues, stats.queue_depth) == (count, 5 if count else 0)
            assert stats.payload_size >= connection.negotiated().max_write
            with connection.clone(cpus=[0], queue_depth=7) as clone, connection.clone() as same:
                assert (clone.stats().queues, clone.stats().queue_depth) == (1, 7)
                assert same.stats().queues == count


@pytest.mark.parametrize(
    ("form", "error", "words"),
    [
        ("0,x", OSError, "no list of CPUs"),
        ("0,", OSError, "no list of CPUs"),
        ([cpus.possible()[-1] + 1], OSError, "no CPU"),
        ([-1], ValueError, "no CPU -1"),
        ([0.5], TypeError, "integer"),
        (5, TypeError, "iterable"),
    ],
)
def test_wrong_cpus_are_refused(folder, form, error, words):
    with pytest.raises(error, match=words):
        fusewire.mount(folder, cpus=form)
    with fusewire.mount(folder) as connection, pytest.raises(error, match=words):
        connection.clone(cpus=form)


def test_the_transport_is_described(folder, transport):
    with fusewire.mount(folder, transport=transport) as connection:
        assert connection.describe_transport() == f"transport {transport}"


@pytest.mark.needs_uring
def test_what_auto_takes_is_described(folder):
    with fusewire.mount(folder) as connection:
        assert re.match(r"transport (ring|poll) \(uring: .+\)$", connection.describe_transport())
        assert connection.stats().transport_reason in connection.describe_transport()
    with fusewire.mount(folder, cpus=cpus.possible()) as connection:
        assert connection.describe_transport() == "transport uring"


@pytest.mark.needs_uring
def test_another_thread_may_not_read(folder):
    with fusewire.mount(folder, transport="uring") as connection:
        assert connection.read(0) == []
        errors = []

        def reading():
            try:
                connection.read(0)
            except OSError as error:
                errors.append(error)

        reader = threading.Thread(target=reading)
        reader.start()
        reader.join(10)
        assert [error.errno for error in errors] == [errno.EXDEV]
        assert "thread" in errors[0].strerror
        assert connection.read(0) == []


def test_pin(folder, transport):
    """It binds the thread where the CPUs have queues of their own, and does nothing elsewhere."""
    cpu = cpus.usable()[-1]
    with fusewire.mount(folder, transport=transport, cpus="") as connection, connection.clone(cpus=[cpu]) as clone:
        found = []

        def pinning():
            clone.pin()
            found.append(sorted(os.sched_getaffinity(0)))

        thread = threading.Thread(target=pinning)
        thread.start()
        thread.join(10)
        assert found == [[cpu] if transport == "uring" else cpus.usable()]
        if transport == "uring":
            with pytest.raises(OSError, match="bind"):
                connection.pin()


# ---- Processes -----------------------------------------------------------------------------------------------------


class Who(Files):
    """Whoever reads a file learns which process answers, and on which CPUs that may run."""

    def __init__(self):
        super().__init__("file", "held")

    def read(self, request):
        return f"{os.getpid()} {sorted(os.sched_getaffinity(0))}".encode()


def in_asyncio(connection):
    asyncio.run(connection.serve(Who()))


def holding(told):
    """Serves, but never answers a read of "held"; it tells so."""

    def serving(connection):
        filesystem, held = Who(), []
        for request in connection:
            if request.operation == "read" and request.node == filesystem.files["held"].ino:
                held.append(request)
                os.write(told, b"h")
            else:
                answer(filesystem, request)

    return serving


def start_worker(clone, serving, others):
    """A process that serves with the clone: its id. It has no use for the connections of the others."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            for other in others:
                other.close()
            with clone:
                clone.pin()
                serving(clone)
            status = 0
        except BaseException:
            os.write(2, traceback.format_exc().encode())
        finally:
            os._exit(status)
    return pid


@pytest.fixture
def told():
    """A pipe on which a worker says that it holds a read."""
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


@pytest.fixture
def workers(fork):
    """Serves with a process per CPU. One that is killed is replaced; the others have to end well."""

    def body(path, mounted, transport, serving):
        options = {"transport": transport, "attr_timeout": 0, "entry_timeout": 0}
        with fusewire.mount(path, cpus="", **options) as connection:
            count = fusewire.worker_count()
            shares = [fusewire.worker_cpus(index, count) for index in range(count)]
            running = {}

            def start(clone, share):
                pid = start_worker(clone, serving, [other for other, _ in running.values()])
                running[pid] = clone, share

            for share in shares:
                start(connection.clone(cpus=share), share)
            mounted()
            while running:
                pid, status = os.wait()
                clone, share = running.pop(pid)
                killed = os.waitstatus_to_exitcode(status) == -signal.SIGKILL
                assert killed or status == 0
                successor = connection.clone(cpus=share) if killed else None
                clone.close()
                if successor:
                    start(successor, share)

    return lambda transport, serving: fork(lambda path, mounted: body(path, mounted, transport, serving))


class Reader:
    """A thread on one CPU that opens and reads a file."""

    def __init__(self, path, cpu):
        self.path = path
        self.cpu = cpu
        self.found = None
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        os.sched_setaffinity(0, {self.cpu})
        try:
            with opened(self.path) as fd:
                self.found = read_once(fd, 100)
        except OSError as error:
            self.found = -error.errno

    def is_waiting(self):
        return is_waiting(self.thread.native_id)

    def result(self):
        """What it read, or a negative errno."""
        return until(lambda: self.found)


def who(found):
    """The process that answered, and the CPUs that it is bound to."""
    pid, _, bound = found.decode().partition(" ")
    return int(pid), numbers(bound.strip("[]").replace(" ", ""))


def who_answers(server, cpu):
    return who(Reader(server.path / "file", cpu).result())


@needs_two_cpus
def test_a_process_per_cpu(workers, transport):
    server = workers(transport, in_asyncio)
    found = {cpu: {who_answers(server, cpu)[0] for _ in range(10)} for cpu in cpus.usable()}
    everybody = set().union(*found.values())
    assert server.pid not in everybody
    if transport == "uring":
        assert all(len(pids) == 1 for pids in found.values()) and len(everybody) == len(found)
        assert [who_answers(server, cpu)[1] for cpu in found] == [[cpu] for cpu in found]
    else:
        assert all(who_answers(server, cpu)[1] == cpus.usable() for cpu in found)
    server.finish()
    assert server.log() == ""


def is_dead(pid):
    """Also where nobody has waited for it yet."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


@pytest.mark.needs_uring
@needs_two_cpus
@pytest.mark.parametrize("which", [0, -1])
def test_a_killed_worker_is_replaced(workers, told, which):
    """What it held ends with EIO, and a successor serves the same clients."""
    server = workers("uring", holding(told[1]))
    cpu, other = cpus.usable()[which], cpus.usable()[which - 1]
    pid, neighbour = who_answers(server, cpu)[0], who_answers(server, other)[0]
    assert pid != neighbour
    for _ in range(3):
        held = [Reader(server.path / "held", cpu) for _ in range(5)]
        for _ in held:
            assert os.read(told[0], 1) == b"h"
        os.kill(pid, signal.SIGKILL)
        until(lambda pid=pid: is_dead(pid))
        # The kernel takes its entries away a little later; whom it gives to one of them until then ends with ECANCELED.
        found = until(lambda: (found := Reader(server.path / "file", cpu).result()) != -errno.ECANCELED and found)
        successor = who(found)[0]
        assert successor not in (pid, neighbour)
        assert who_answers(server, other)[0] == neighbour
        assert [reader.result() for reader in held] == [-errno.EIO] * len(held)
        pid = successor
    server.finish()
    assert server.log() == ""


@pytest.mark.needs_uring
@needs_two_cpus
@pytest.mark.parametrize("holds", [False, True])
def test_clients_wait_for_a_successor(workers, told, holds):
    """Who comes while a CPU has no worker; whether or not the dead one held something."""
    server = workers("uring", holding(told[1]))
    cpu, other = cpus.usable()[0], cpus.usable()[-1]
    pid, neighbour = who_answers(server, cpu)[0], who_answers(server, other)[0]
    if holds:
        held = Reader(server.path / "held", cpu)
        assert os.read(told[0], 1) == b"h"
    os.kill(server.pid, signal.SIGSTOP)
    try:
        os.kill(pid, signal.SIGKILL)
        until(lambda: is_dead(pid))
        waiting = [Reader(server.path / "file", cpu) for _ in range(5)]
        until(lambda: all(reader.is_waiting() or reader.found == -errno.ECANCELED for reader in waiting))
        assert who_answers(server, other)[0] == neighbour
    finally:
        os.kill(server.pid, signal.SIGCONT)
    found = [reader.result() for reader in waiting]
    served = {who(each)[0] for each in found if each != -errno.ECANCELED}
    assert served == {who_answers(server, cpu)[0]} and not served & {pid, neighbour}
    assert not holds or held.result() == -errno.EIO
    server.finish()
    assert server.log() == ""


@needs_two_cpus
def test_stopping_the_parent_stops_the_processes(fork, transport, told):
    """Also while one of them holds a read."""

    def body(path, mounted):
        with fusewire.mount(path, transport=transport, cpus="") as connection:
            signal.signal(signal.SIGTERM, lambda *_: connection.stop())
            count = fusewire.worker_count()
            shares = [fusewire.worker_cpus(index, count) for index in range(count)]
            running = {}
            for share in shares:
                clone = connection.clone(cpus=share)
                running[start_worker(clone, holding(told[1]), running.values())] = clone
            mounted()
            for pid, clone in running.items():
                assert os.waitpid(pid, 0)[1] == 0
                clone.close()

    server = fork(body)
    held = Reader(server.path / "held", cpus.usable()[0])
    assert os.read(told[0], 1) == b"h"
    unmount(server.path, MNT_DETACH)
    os.kill(server.pid, signal.SIGTERM)
    assert held.result() == -errno.EIO
    assert server.wait() == 0, server.log()
