"""Messages to the kernel that nobody asked for, each by what it does to what a client sees."""

import errno
import signal

import pytest

from harness import PROMPT, mounts, until

EVERYTHING_CACHED = ("valid 1000", "open-flags 2")


@pytest.fixture
def caching(launch):
    """Starts a server whose names, attributes and data are cached for good."""

    def start(*options):
        server = launch(*options)
        for command in EVERYTHING_CACHED:
            assert server.do(command) == 0
        return server

    return start


def requests_of(server, action):
    """How many requests an action causes."""
    before = server.stats()["read"]
    action()
    return server.stats()["read"] - before


def keeper(client):
    """A client that has the file open, so that the kernel keeps its inode."""
    one = client(
        """
file = open(path + "/file", "rb", buffering=0)
os.pread(file.fileno(), 4096, 0)
print("opened", flush=True)
sys.stdin.readline()
return 0
"""
    )
    assert one.process.stdout.readline() == "opened\n"
    return one


def test_inval_entry(caching, stat):
    server = caching()
    assert stat().ok()
    assert requests_of(server, lambda: stat().ok()) == 0
    assert server.do("notify inval_entry 1 file") == 0
    assert until(lambda: requests_of(server, lambda: stat().ok()) > 0)
    server.settled()
    server.close()


def test_inval_entry_expire_only(caching, stat):
    server = caching()
    assert stat().ok()
    assert server.do("notify inval_entry 1 file 1") == 0
    assert until(lambda: requests_of(server, lambda: stat().ok()) > 0)
    server.settled()
    server.close()


def test_inval_inode(caching, stat):
    server = caching()
    assert stat().ok()
    assert requests_of(server, lambda: stat().ok()) == 0
    assert server.do(f"notify inval_inode {server.do('node file')} 0 0") == 0
    assert until(lambda: requests_of(server, lambda: stat().ok()) > 0)
    server.settled()
    server.close()


def test_delete(caching, stat, client):
    server = caching()
    keeper(client)
    node = server.do("node file")
    assert server.do(f"notify delete 1 file {node}") == 0
    assert until(lambda: requests_of(server, lambda: stat().ok()) > 0)
    server.settled()
    server.close()


def test_store(caching, client):
    """Stored data is read without a request."""
    server = caching()
    keeper(client)
    server.rule("READ * error 5")
    node = server.do("node file")
    assert server.do(f"notify store {node} 524288 65536") == 0
    reader = client(
        """
with open(path + "/file", "rb", buffering=0) as file:
    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
    for _ in range(1000):
        try:
            return os.pread(file.fileno(), 4096, 524288 + 8192) == pattern("file", 524288 + 8192, 4096)
        except OSError:
            time.sleep(0.005)
"""
    )
    assert reader.ok() == "True"
    server.settled()
    server.close()


def test_retrieve(caching, client):
    """Cached data comes back as a NOTIFY_REPLY; asking for what is not cached gives an empty one."""
    server = caching()
    keeper(client)
    node = server.do("node file")
    assert server.do(f"notify store {node} 0 65536") == 0
    assert server.do(f"notify retrieve {node} 0 65536 4711") == 0
    unique, offset, size, good = map(int, server.event("retrieved")[1:])
    assert (unique, offset, good) == (4711, 0, 1)
    assert size > 0
    assert server.do(f"notify retrieve {node} 786432 4096 4712") == 0
    assert list(map(int, server.event("retrieved")[1:])) == [4712, 786432, 0, 1]
    assert server.settled()["retrieved"] == 2
    server.close()


def test_poll(launch, client):
    server = launch()
    waiting = client(
        """
with open(path + "/file", "rb", buffering=0) as file:
    poller = select.poll()
    poller.register(file, select.POLLIN)
    return poller.poll(15000)[0][1]
"""
    )
    kh = server.event("poll")[1]
    assert not waiting.ended(0.05)
    server.do("revents 1")
    assert server.do(f"notify poll {kh}") == 0
    assert waiting.ok(PROMPT) == "1"
    server.settled()
    server.close()


def test_inc_epoch(caching, stat):
    """Every cached name has to be asked for again (protocol 7.44)."""
    server = caching()
    assert stat().ok()
    assert server.do("notify inc_epoch") == 0
    if server.stats()["notifications_failed"]:
        pytest.skip("the kernel does not know this notification")
    assert requests_of(server, lambda: stat().ok()) > 0
    server.settled()
    server.close()


def test_prune(caching, stat):
    """An unused inode is forgotten (protocol 7.45)."""
    server = caching()
    assert stat().ok()
    before = server.stats()["forgets"]
    assert server.do(f"notify prune {server.do('node file')}") == 0
    if until(lambda: server.stats()["notifications_failed"], 0.2):
        pytest.skip("the kernel does not know this notification")
    assert until(lambda: server.stats()["forgets"] > before)
    server.settled()
    server.close()


def test_resend_of_what_is_open(launch, stat):
    """The requests come again, marked; each of the two is answered, and only one answer counts. The kernel does not
    look for them in ring entries: there nothing happens."""
    server = launch()
    server.do("valid 100")
    server.rule("LOOKUP * hold")
    client = stat()
    first = server.held("LOOKUP")
    assert server.do("notify resend") == 0
    if launch.transport == "uring":
        assert until(lambda: server.stats()["notifications"] == 1)
        other = stat("other")
        assert server.do(f"answer {server.held('LOOKUP')}") == 0
        assert other.ok(PROMPT)
        assert not server.find("resent", "held")
        assert server.do(f"answer {first}") == 0
        assert client.ok(PROMPT)
        assert server.settled()["replies_gone"] == 0
        server.close()
        return
    again = int(server.event("resent")[1])
    assert again == server.held("LOOKUP") and again != first
    assert server.do(f"answer {again}") == 0
    assert client.ok(PROMPT)
    assert server.do(f"answer {first}") == 0  # nobody waits for it any more
    assert server.settled()["replies_gone"] == 1
    server.close()


def test_unknown_nodes_are_no_failure(launch):
    server = launch()
    for command in ("inval_inode 77 0 0", "inval_entry 1 nothing", "inval_entry 77 nothing", "delete 1 nothing 77"):
        assert server.do(f"notify {command}") == 0
    assert until(lambda: server.stats()["notifications"] == 4)
    assert server.stats()["notifications_failed"] == 0
    server.close()


def test_names_that_are_none(launch):
    server = launch()
    assert server.do("notify inval_entry 1") == -errno.EINVAL
    assert server.do(f"notify inval_entry 1 {'n' * 900} 7") == -errno.EINVAL
    assert server.stats()["notifications"] == 0
    server.close()


def test_a_lock_that_a_client_holds(launch, client, stat):
    """A client creates a file and holds its folder's lock while it waits for the answer: a notification that needs the
    lock waits for the server, which must not wait for it."""
    server = launch()
    server.rule("LOOKUP new hold")
    creator = client("return os.open(path + '/new', os.O_CREAT | os.O_RDWR)")
    id = server.held("LOOKUP")
    for _ in range(3):
        assert server.do("notify inval_entry 1 other") == 0
        assert server.do("notify inval_entry 1 new") == 0
    server.do("clear")
    assert not creator.ended(0.05)
    assert server.do(f"answer {id}") == 0
    assert creator.ok(PROMPT)
    assert stat("other").ok(PROMPT)
    server.settled()
    server.close()


def test_closing_with_a_notification_under_way(launch, client):
    """Closing answers the client whose lock the notification waits for."""
    server = launch()
    server.rule("LOOKUP new hold")
    creator = client("return os.open(path + '/new', os.O_CREAT | os.O_RDWR)")
    server.held("LOOKUP")
    for _ in range(3):
        assert server.do("notify inval_entry 1 other") == 0
    server.close()
    assert creator.error(PROMPT) in (errno.EIO, errno.ENOTCONN, errno.ECONNABORTED)


def test_killed_with_a_notification_under_way(launch, client):
    """What waits for the lock holds the device, so the kernel may keep server and client for ever: not SIGKILL but the
    abort of the connection frees them, as it frees everything."""
    server = launch()
    server.rule("LOOKUP new hold")
    creator = client("return os.open(path + '/new', os.O_CREAT | os.O_RDWR)")
    server.held("LOOKUP")
    assert server.do("notify inval_entry 1 other") == 0
    server.process.kill()
    mounts.abort(server.number)
    assert creator.error(PROMPT) in (errno.ENOTCONN, errno.ECONNABORTED)
    assert server.process.wait(PROMPT) == -signal.SIGKILL


def test_many_under_load(caching, storm, client):
    server = caching()
    keeper(client)
    callers = storm("stat", 8, 0).started()
    node = server.do("node file")
    for _ in range(200):
        assert server.do(f"notify inval_inode {node} 0 0") == 0
        assert server.do("notify inval_entry 1 file") == 0
    callers.kill()
    stats = server.settled()
    assert stats["notifications"] == 400 and stats["notifications_failed"] == 0
    server.close()
