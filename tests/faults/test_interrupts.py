"""INTERRUPT is delivered, and names its request, whichever comes first and on whatever channel."""

import errno
import signal

import pytest

from harness import PROMPT, cpus, until


def interruptible(client):
    """A client whose call ends with EINTR when it gets SIGUSR1."""
    return client(
        """
signal.signal(signal.SIGUSR1, lambda *_: (_ for _ in ()).throw(InterruptedError(errno.EINTR, "interrupted")))
return os.stat(f"{path}/file{os.getpid()}").st_size
"""
    )


def test_the_client_gets_eintr(launch, client):
    server = launch()
    server.rule("LOOKUP * hold")
    waiting = interruptible(client)
    id = server.held("LOOKUP")
    waiting.signal(signal.SIGUSR1)
    server.interrupted(id)
    assert waiting.error(PROMPT) == errno.EINTR
    assert server.settled()["interrupts"] >= 1
    server.close()


def test_the_result_instead(launch, client):
    server = launch()
    server.do("valid 100")
    server.do("ignore-interrupts 1")
    server.rule("LOOKUP * hold")
    waiting = client("signal.signal(signal.SIGUSR1, lambda *_: None)\nreturn os.stat(path + '/file').st_size")
    id = server.held("LOOKUP")
    waiting.signal(signal.SIGUSR1)
    server.interrupted(id)
    assert server.do(f"answer {id}") == 0
    assert waiting.ok(PROMPT) == str(1 << 20)
    server.settled()
    server.close()


def test_without_a_free_slot(tight, launch, client):
    """All slots are taken by requests, so the interrupt stays with the kernel until one of them is answered. With
    `uring` there are no ring entries left, but an interrupt needs none."""
    server, depth = tight()
    server.rule("LOOKUP * hold")
    waiting = [interruptible(client) for _ in range(depth)]
    for _ in waiting:
        server.held("LOOKUP")
    for one in waiting:
        one.signal(signal.SIGUSR1)
    if launch.transport != "uring":
        assert server.do("release 1") == 1
    for one in waiting:
        one.result(PROMPT)
    assert server.settled()["interrupts"] > 0
    server.close()


@pytest.mark.parametrize("transport", ["poll", "ring", "uring"])
@pytest.mark.parametrize("reader", [0, 1, 2])
def test_read_on_another_channel(serve, client, transport, reader):
    """The request is held on one channel; its INTERRUPT is read on another, and handed out where the request is."""
    holder = (reader + 1) % 3
    # Requests come where their queue is served, whoever reads.
    lists = [f"--cpus={cpus.every()}" if channel == holder else "--cpus=" for channel in range(3)]
    server = serve(f"--transport={transport}", "--channels=3", *lists)
    server.rule("LOOKUP * hold")
    assert server.do(f"only {holder}") == 0
    waiting = interruptible(client)
    event = server.event("held")
    assert int(event[4]) == holder
    assert server.do(f"only {reader}") == 0
    waiting.signal(signal.SIGUSR1)
    assert until(lambda: server.stats(reader)["interrupts"] == 1)
    assert not server.find("interrupt")
    assert server.do("only -1") == 0
    assert server.interrupted(int(event[1])) == holder
    assert waiting.error(PROMPT) == errno.EINTR
    server.close()


def test_many(launch, client):
    """Signals that come at any moment: before the request is read, while it is held, after it is answered. With `uring`
    the kernel tells of none that comes between its giving the request to a ring entry and the server's thread fetching
    it there: what is not interrupted then has to be answered."""
    server = launch()
    server.rule("LOOKUP * delay 50" if launch.transport == "uring" else "LOOKUP * hold")
    body = """
import random
class Interrupted(Exception):
    pass
armed = False
def handler(*_):
    nonlocal armed
    if armed:
        armed = False
        raise Interrupted
signal.signal(signal.SIGALRM, handler)
interrupted = 0
for i in range(100):
    try:
        try:
            armed = True
            # Again and again: a signal between the interpreter's last look and the system call interrupts nothing.
            signal.setitimer(signal.ITIMER_REAL, random.uniform(0.00002, 0.002), 0.01)
            os.stat(path + "/file")
        except InterruptedError:
            interrupted += 1
        while True:
            time.sleep(1)
    except Interrupted:
        interrupted += 1
signal.setitimer(signal.ITIMER_REAL, 0)
return interrupted
"""
    clients = [client(body) for _ in range(6)]
    for one in clients:
        assert one.ok() == "100"
    stats = server.settled()
    assert stats["interrupts"] > 0
    server.close()


def test_many_that_are_held(launch, client):
    """While its request is held here no client's interrupt is lost, on any transport."""
    server = launch()
    server.rule("LOOKUP * hold")
    body = """
class Interrupted(Exception):
    pass
def handler(*_):
    raise Interrupted
signal.signal(signal.SIGUSR1, handler)
for i in range(30):
    try:
        os.stat(f"{path}/file{os.getpid()}")
    except Interrupted:
        continue
    return "not interrupted"
return "interrupted"
"""
    clients = [client(body) for _ in range(6)]
    processes = {f"file{one.process.pid}": one for one in clients}
    for _ in range(30 * len(clients)):
        held = server.event("held")
        processes[held[3]].signal(signal.SIGUSR1)
        server.interrupted(int(held[1]))
    for one in clients:
        assert one.ok() == "interrupted"
    assert server.settled()["interrupts"] >= 30 * len(clients)
    server.close()
