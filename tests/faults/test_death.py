"""Servers and clients that die in the middle of something."""

import errno
import os
import signal

from harness import PROMPT, until
from harness.client import Timer

GONE = (errno.ECONNABORTED, errno.ENOTCONN)


def test_kill_while_clients_wait(launch, stat):
    server = launch()
    server.rule("LOOKUP * hold")
    waiting = [stat(f"file{i}") for i in range(8)]
    for _ in waiting:
        server.held("LOOKUP")
    with Timer() as timer:
        server.kill()
        for client in waiting:
            assert client.error() in GONE
    assert timer.seconds < PROMPT
    assert stat().error(PROMPT) in GONE


def test_kill_under_load(launch, storm, stat):
    server = launch()
    callers = storm("read", 8, 0).started()
    others = storm("write", 4, 0).started()
    assert until(lambda: server.stats()["answered"] > 400)
    server.kill()
    for result in (callers.result(PROMPT * 3), others.result(PROMPT * 3)):
        assert result["failed"] in (4, 8) and result["errno"] in launch.gone
        assert result["slowest"] < 1000 * PROMPT
    assert stat().error(PROMPT) in GONE


def test_a_forked_child_does_not_keep_the_mount_alive(launch, stat):
    """Without exec it has every descriptor of its parent, unless the library sees to it."""
    server = launch()
    server.rule("LOOKUP * hold")
    waiting = stat()
    server.held("LOOKUP")
    child = server.fork()
    server.kill()
    assert waiting.error(PROMPT) in GONE
    os.kill(child, 0)


def test_a_forked_child_does_not_disturb(launch, storm):
    server = launch()
    callers = storm("read", 4, 0).started()
    for _ in range(5):
        os.kill(server.fork(), signal.SIGKILL)
        before = server.stats()["answered"]
        assert until(lambda: server.stats()["answered"] > before + 50)
    callers.kill()
    server.settled()
    server.close()


def test_a_client_is_killed_while_its_request_waits_here(launch, stat):
    """It leaves with the answer to its request. The interrupt tells that nobody wants it any more."""
    server = launch()
    server.rule("LOOKUP * hold")
    doomed = stat()
    id = server.held("LOOKUP")
    doomed.signal(signal.SIGKILL)
    server.interrupted(id)
    assert doomed.ended(PROMPT)
    server.settled()
    server.close()


def test_a_killed_client_whose_interrupt_is_ignored(launch, stat):
    """It cannot die before it is answered; a late answer finds it there or gone, and is no failure."""
    server = launch()
    server.do("ignore-interrupts 1")
    server.rule("LOOKUP * hold")
    doomed = stat()
    id = server.held("LOOKUP")
    doomed.signal(signal.SIGKILL)
    server.interrupted(id)
    assert not doomed.ended(0.1)
    assert server.do(f"answer {id}") == 0
    assert doomed.ended(PROMPT)
    server.settled()
    server.close()


def test_clients_are_killed_before_their_requests_are_read(launch, stat):
    """What the kernel had announced is gone when it is read (ENOENT): the next one is read instead. A request that the
    kernel has given to a ring entry cannot be taken back: its client stays until it is answered."""
    server = launch()
    assert stat("first").ok()  # so it has given its ring entries to the kernel
    os.kill(server.pid, signal.SIGSTOP)
    doomed = [stat(f"file{i}") for i in range(6)]
    for client in doomed:
        assert client.waits()
    for client in doomed:
        client.signal(signal.SIGKILL)
        assert client.ended(0.1 if launch.transport == "uring" else PROMPT) == (launch.transport != "uring")
    last = stat("last")
    assert last.waits()
    os.kill(server.pid, signal.SIGCONT)
    assert last.ok()
    for client in doomed:
        assert client.ended(PROMPT)
    server.settled()
    server.close()
