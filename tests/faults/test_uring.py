"""What is FUSE-over-io_uring's own: a queue for each CPU, requests in ring entries, and the thread that owns them."""

import errno
import pathlib
import signal

import pytest

from harness import PROMPT, cpus, mounts, until
from harness.faults import STRACE, Injection, inject

pytestmark = pytest.mark.needs_uring

POSIX_LOCKS, FLOCK_LOCKS = 1, 10  # capabilities
DEPTH = 4  # entries of a queue, where few are wanted

MAX_PAGES = pathlib.Path("/proc/sys/fs/fuse/max_pages_limit")
CPU = pathlib.Path("/sys/devices/system/cpu")

# What a client may be told whose server has gone; see the fixture `launch`.
GONE = (errno.ECONNABORTED, errno.ENOTCONN, errno.ECANCELED)


@pytest.fixture(params=["epoll", "block"])
def launch(request, serve):
    """Starts servers that serve all CPUs in one thread."""

    def start(*options, **keywords):
        return serve("--transport=uring", f"--loop={request.param}", *options, **keywords)

    return start


@pytest.fixture
def two_cpus():
    if len(cpus.usable()) < 2:
        pytest.skip("there is only one CPU to run on")
    return cpus.usable()[:2]


@pytest.fixture
def few_entries(launch):
    """Starts servers with so few entries in each queue that a handful of clients uses them up."""

    def start(*options):
        server = launch(f"--queue-depth={DEPTH}", *options)
        stats = server.stats()
        assert (stats["queues"], stats["queue_depth"]) == (len(cpus.possible()), DEPTH)
        return server

    return start


def fill(server, client, cpu, more=0):
    """Clients whose requests use up the entries of their CPU's queue, and some more that wait in the kernel."""
    server.rule("READ held hold")
    body = "fd = os.open(path + '/held', os.O_RDONLY)\nreturn len(os.pread(fd, 1, 0))"
    waiting = [client(body, cpu=cpu) for _ in range(DEPTH)]
    ids = [server.held("READ") for _ in waiting]
    waiting += [client(body, cpu=cpu) for _ in range(more)]
    for one in waiting:
        assert one.waits()
    assert not server.find("held")
    return waiting, ids


# ---- Queues ----------------------------------------------------------------------------------------------------------


def test_one_thread_serves_every_cpu(launch, stat, storm):
    server = launch()
    for cpu in cpus.usable():
        assert stat(cpu=cpu).ok(PROMPT)
        assert storm("read", 4, 20, cpu=cpu).result()["failed"] == 0
    assert server.threads() == 1
    server.settled()
    server.close()


def test_a_full_queue_holds_up_no_other_cpu(few_entries, client, stat, two_cpus):
    here, there = two_cpus
    server = few_entries()
    waiting, ids = fill(server, client, here, more=2)
    for i in range(2 * DEPTH):
        assert stat(f"file{i}", cpu=there).ok(PROMPT)
    server.do("clear")
    for id in ids:
        assert server.do(f"answer {id}") == 0
    for one in waiting:
        assert one.ok(PROMPT)
    assert server.settled()["open_peak"] <= DEPTH + 1
    server.close()


def test_a_full_queue_holds_up_no_interrupt(few_entries, client):
    server = few_entries()
    waiting, ids = fill(server, client, cpus.usable()[0])
    waiting[0].signal(signal.SIGKILL)
    event = server.event("interrupt")
    assert int(event[1]) in ids
    assert waiting[0].ended(PROMPT)
    server.close()


def test_full_queues_hold_up_no_forget_and_no_notification(few_entries, client, stat):
    """All queues are full, and these need none."""
    server = few_entries()
    server.do("valid 1000")
    names = [f"known{i}" for i in range(4)]
    for name in names:
        assert stat(name).ok()
    for cpu in cpus.usable():
        fill(server, client, cpu)
    forgets = server.stats()["forgets"]
    for name in names:
        assert server.do(f"notify inval_entry 1 {name}") == 0
    assert until(lambda: server.stats()["forgets"] > forgets)
    assert until(lambda: server.stats()["notifications"] == len(names))
    assert server.stats()["notifications_failed"] == 0
    server.close()


def test_who_waits_for_a_lock_keeps_an_entry(few_entries, client, stat):
    """As many as there are entries hold up their CPU's clients, one fewer does not; the unlocking that ends their wait
    may come from there as well."""
    cpu = cpus.usable()[0]
    server = few_entries(f"--capabilities={1 << POSIX_LOCKS | 1 << FLOCK_LOCKS}")
    server.rule("SETLKW * hold")
    body = "fd = os.open(path + '/file', os.O_RDWR)\nfcntl.flock(fd, fcntl.LOCK_EX)\nreturn 0"
    waiting = []
    for _ in range(DEPTH - 1):
        waiting.append(client(body, cpu=cpu))
        server.held("SETLKW")
    assert stat(cpu=cpu).ok(PROMPT)
    waiting.append(client(body, cpu=cpu))
    server.held("SETLKW")
    late = stat(cpu=cpu)
    assert late.waits() and not late.ended(0.1)
    server.do("clear")
    assert server.do("release 1") == 1
    assert late.ok(PROMPT)
    assert server.do("release 100") == DEPTH - 1
    for one in waiting:
        assert one.ok(PROMPT)
    server.settled()
    server.close()


# ---- Data ------------------------------------------------------------------------------------------------------------

LARGEST = 4 << 20
RETRIEVE_HEADER = 40

# From and to whole pages, since a request can hold no more pages than its size needs.
COPY = """
import mmap
memory = mmap.mmap(-1, %d)
fd = os.open(path + "/file", os.O_RDWR)
print("opened", flush=True)
sys.stdin.readline()
for offset, size in %r:
    piece = memoryview(memory)[:size]
    piece[:] = pattern("file", offset, size)
    assert os.pwritev(fd, [piece], offset) == size, (offset, size)
    piece[:] = bytes(size)
    assert os.preadv(fd, [piece], offset) == size, (offset, size)
    assert piece == pattern("file", offset, size), (offset, size)
print("done", flush=True)
sys.stdin.readline()
return 0
"""


def requests_of_copy(server, client, pieces):
    """How many requests it takes to write these (offset, size) of a file and read them again."""
    copier = client(COPY % (LARGEST, pieces))
    assert copier.process.stdout.readline() == "opened\n"
    before = server.stats()["read"]
    copier.process.stdin.write("\n")
    copier.process.stdin.flush()
    assert copier.process.stdout.readline() == "done\n"
    after = server.stats()["read"]
    copier.process.stdin.write("\n")
    copier.process.stdin.flush()
    assert copier.ok() == "0"
    return after - before


@pytest.mark.parametrize("manner", ["answer", "borrow", "vector 70000"])
def test_up_to_a_mebibyte(launch, client, manner):
    """In requests of one piece, byte for byte."""
    server = launch()
    server.rule(f"READ * {manner}")
    assert server.stats()["payload_size"] >= 1 << 20
    pieces = [(0, 1), (1, 4095), (4096, 4096), (4095, 4098), (5000, 128 << 10), (0, (1 << 20) - 4096), (0, 1 << 20)]
    assert requests_of_copy(server, client, pieces) == 2 * len(pieces)
    server.settled()
    server.close()


@pytest.fixture
def more_pages():
    """The kernel's limit on the size of a request, raised while the test runs."""
    if not MAX_PAGES.exists():
        pytest.skip("this kernel has no sysctl fs.fuse.max_pages_limit")
    before = MAX_PAGES.read_text()
    MAX_PAGES.write_text(str(max(int(before), LARGEST // 4096)))
    yield
    MAX_PAGES.write_text(before)


def test_beyond_a_mebibyte(more_pages, launch, client):
    server = launch(f"--max-write={LARGEST}", f"--file-size={2 * LARGEST}", "--queue-depth=4")
    assert server.stats()["payload_size"] >= LARGEST
    pieces = [(0, (1 << 20) + 1), (4095, 2 << 20), (0, LARGEST - 1), (8192, LARGEST)]
    assert requests_of_copy(server, client, pieces) == 2 * len(pieces)
    server.settled()
    server.close()


@pytest.mark.parametrize("manner", ["swap", "shift 1", "shift 100", "shift 4096"])
def test_replies_from_the_entry_itself(launch, client, manner):
    """The data lies in the memory that the kernel takes it from, but not where it takes it."""
    server = launch()
    server.rule(f"READ * {manner}")
    reader = client(
        """
fd = os.open(path + "/file", os.O_RDONLY)
for offset, size in ((0, 1), (0, 2), (1, 100), (4095, 8192), (0, 200000), (7, 1 << 20)):
    data = os.pread(fd, size, offset)
    assert data == pattern("file", offset, len(data)), (offset, size)
    assert len(data) >= min(size, (1 << 20) - offset) - 4096, (offset, size)
return 0
"""
    )
    assert reader.ok() == "0"
    server.settled()
    server.close()


def test_an_ioctl_that_echoes(launch, client):
    """The reply is the request's own data, behind a head that has to stand before it."""
    server = launch()
    server.rule("IOCTL * echo")
    echo = client(
        """
fd = os.open(path + "/file", os.O_RDWR)
for size in (1, 8, 100, 4000, 16383):
    request = 3 << 30 | size << 16 | ord("f") << 8 | 1
    data = bytearray(pattern("file", size, size))
    assert fcntl.ioctl(fd, request, data) == 0
    assert data == pattern("file", size, size), size
return 0
"""
    )
    assert echo.ok() == "0"
    server.settled()
    server.close()


def test_an_extended_attribute_larger_than_a_write(launch, client):
    """64 KiB have to fit into an entry however small max_write is, or they bring the server down in the kernel."""
    server = launch("--max-write=4096")
    if server.stats()["payload_size"] < 65536 + 4096:
        pytest.fail("the entries are too small: this would be a BUG in Linux 6.18")
    setter = client("os.setxattr(path + '/file', 'user.large', pattern('file', 0, 65536))\nreturn 0")
    assert setter.error() == errno.ENOTSUP  # so much for the server's opinion
    server.settled()
    server.close()


def test_retrieved_data(launch, client):
    """A NOTIFY_REPLY has no fixed part in its entry: its header lies with the data, and takes of their room. Linux 6.18
    does not look whether there is enough, and brings the server down (a BUG in fuse_copy_fill)."""
    server = launch("--max-background=4")
    server.do("valid 1000")
    server.do("open-flags 2")
    keeper = client(
        """
fd = os.open(path + "/file", os.O_RDONLY)
os.pread(fd, 1 << 20, 0)
print("read", flush=True)
sys.stdin.readline()
return 0
"""
    )
    assert keeper.process.stdout.readline() == "read\n"
    node = server.do("node file")
    most = server.stats()["payload_size"] - RETRIEVE_HEADER
    ranges = [(0, 1), (0, 4096), (100, 5000), (4096, 65536), (3, most // 2), (0, most), (0, most + 1), (0, 1 << 20)]
    for number, (offset, size) in enumerate(ranges, 1):
        unique = number << 50
        assert server.do(f"notify retrieve {node} {offset} {size} {unique}") == 0
        assert list(map(int, server.event("retrieved")[1:])) == [unique, offset, min(size, most), 1]
    assert server.do(f"notify retrieve {node} 0 4096 {1 << 60}") == -errno.ERANGE
    stats = server.settled()
    assert stats["retrieved"] == len(ranges)
    server.close()


# ---- io_uring that fails ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", ["EAGAIN", "EINTR", "EBUSY", "ENOMEM"])
def test_entering_fails_once(launch, stat, storm, error):
    """Nothing is lost, be it at rest or at work."""
    server = launch(traced=True)
    assert stat().ok()
    with Injection(server.pid, "io_uring_enter", error, "1"):
        assert stat("other").ok()
    with Injection(server.pid, "io_uring_enter", error, "1..1000+7"):
        assert storm("stat", 8, 20).result()["failed"] == 0
        assert storm("write", 8, 5).result()["failed"] == 0
    assert not server.find("end")
    assert storm("read", 8, 20).result()["failed"] == 0
    server.settled()
    server.close()


@pytest.mark.parametrize("error", ["EPERM", "EINVAL", "EBADF", "ENXIO", "EBUSY", "ENOMEM"])
def test_entering_fails_for_good(launch, stat, error):
    """The connection ends, without spinning; closing it lets the kernel answer every client."""
    server = launch(traced=True)
    server.rule("LOOKUP held* hold")
    waiting = [stat(f"held{i}") for i in range(4)]
    for _ in waiting:
        server.held("LOOKUP")
    with Injection(server.pid, "io_uring_enter", error):
        waiting.append(stat("late"))
        assert server.end() == getattr(errno, error)
        before = server.cpu()
        assert not until(lambda: server.cpu() > before + 0.05, 0.2)
        server.tell("quit")
        for client in waiting:
            assert client.error() in (errno.EIO, *GONE)
    server.ended()
    assert mounts.connection_number(server.mountpoint) is None


def test_entering_fails_under_load(launch, storm):
    server = launch(traced=True)
    callers = storm("read", 8, 0).started()
    assert until(lambda: server.stats()["answered"] > 200)
    with Injection(server.pid, "io_uring_enter", "EPERM"):
        assert server.end() == errno.EPERM
        server.tell("quit")
        result = callers.result()
    assert result["failed"] == 8 and result["errno"] in (errno.EIO, *GONE)
    server.ended()


@pytest.mark.parametrize("call", ["io_uring_enter", "io_uring_register"])
@pytest.mark.parametrize("error", ["EPERM", "ENOMEM", "EINVAL"])
def test_registering_fails(launch, stat, call, error):
    """It is not mounted, or ends at its first read; no client hangs."""
    server = launch(prefix=[*STRACE, *inject(call, error)], wait=False)
    if server.event("ready", "failed")[0] == "ready":
        client = stat()
        assert client.waits()
        assert server.end() == getattr(errno, error)
        server.tell("quit")
        assert client.error() in GONE
        server.ended()
    assert mounts.connection_number(server.mountpoint) is None


@pytest.mark.parametrize("call", ["io_uring_enter", "io_uring_register"])
@pytest.mark.parametrize("error", ["EPERM", "ENOMEM", "EINVAL"])
def test_registering_fails_where_another_transport_would_do(serve, storm, call, error):
    """`auto` goes on with that, and without what it could not have."""
    server = serve("--loop=block", f"--cpus={cpus.every()}", prefix=[*STRACE, *inject(call, error, "1")])
    assert storm("read", 8, 20).result()["failed"] == 0
    server.settled()
    server.close()


def test_entering_fails_once_when_it_registers(launch, stat):
    """What passes does not end it."""
    for error in ("EINTR", "EAGAIN", "EBUSY"):
        server = launch(prefix=[*STRACE, *inject("io_uring_enter", error, "1")])
        assert stat().ok()
        server.settled()
        server.close()


# ---- Life and death, with a full queue -------------------------------------------------------------------------------


def test_killed_with_a_full_queue(few_entries, client):
    server = few_entries()
    waiting, _ = fill(server, client, cpus.usable()[0], more=3)
    server.kill()
    for one in waiting:
        assert one.error(PROMPT) in GONE


def test_aborted_with_a_full_queue(few_entries, client):
    server = few_entries()
    waiting, _ = fill(server, client, cpus.usable()[0], more=3)
    mounts.abort(server.number)
    for one in waiting:
        assert one.error(PROMPT) in GONE
    assert server.end() == errno.ECONNABORTED
    mounts.detach(server.mountpoint)
    server.close()


def test_unmounted_by_force_with_a_full_queue(few_entries, client):
    server = few_entries()
    waiting, _ = fill(server, client, cpus.usable()[0], more=3)
    with pytest.raises(OSError, match="busy"):
        mounts.umount(server.mountpoint, mounts.MNT_FORCE)  # it is in use; but its connection is aborted
    for one in waiting:
        assert one.error(PROMPT) in GONE
    assert server.end() == errno.ENODEV
    server.close()


def test_detached_with_a_full_queue(few_entries, client):
    """The clients go on as if nothing had happened."""
    server = few_entries()
    waiting, ids = fill(server, client, cpus.usable()[0], more=3)
    mounts.umount(server.mountpoint, mounts.MNT_DETACH)
    server.do("clear")
    for id in ids:
        assert server.do(f"answer {id}") == 0
    for one in waiting:
        assert one.ok(PROMPT)
    assert server.end() == errno.ENODEV
    server.close()


def test_closed_with_a_full_queue(few_entries, client):
    """Also those are answered whose requests had not come yet."""
    server = few_entries()
    waiting, _ = fill(server, client, cpus.usable()[0], more=3)
    server.close()
    for one in waiting:
        assert one.error(PROMPT) in (errno.EIO, *GONE)


@pytest.mark.long
def test_a_cpu_goes_and_comes_back(launch, storm, stat):
    """Its queue stays: the kernel has one for each possible CPU."""
    switches = [CPU / f"cpu{number}" / "online" for number in cpus.usable()[1:]]
    switches = [switch for switch in switches if switch.exists()]
    if not switches:
        pytest.skip("no CPU of this machine can be taken offline")
    server = launch()
    callers = storm("stat", 8, 0).started()
    try:
        switches[0].write_text("0")
        answered = server.stats()["answered"]
        assert until(lambda: server.stats()["answered"] > answered + 200)
    finally:
        switches[0].write_text("1")
    answered = server.stats()["answered"]
    assert until(lambda: server.stats()["answered"] > answered + 200)
    for cpu in cpus.usable():
        assert stat(cpu=cpu).ok(PROMPT)
    callers.kill()
    server.settled()
    server.close()
