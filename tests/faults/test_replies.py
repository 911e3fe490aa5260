"""Replies that come late, twice, to the wrong place, or in borrowed memory; and what happens when there is no room."""

import errno
import os
import signal

import pytest

from harness import PROMPT, mounts, until


def test_late_replies(launch, stat):
    """Answered from the loop later, all at once or in another order than they came."""
    server = launch()
    server.do("valid 100")
    server.rule("LOOKUP * hold")
    waiting = [stat(f"file{i}") for i in range(5)]
    ids = [server.held("LOOKUP") for _ in waiting]
    for id in reversed(ids):
        assert server.do(f"answer {id}") == 0
    for client in waiting:
        assert client.ok(PROMPT)
    server.settled()
    server.close()


def test_late_replies_by_a_timer(launch, storm):
    server = launch()
    server.rule("GETATTR * delay 20")
    result = storm("stat", 20, 10).result()
    assert result["done"] == 200 and result["failed"] == 0
    assert server.settled()["open_peak"] >= 10
    server.close()


def test_a_second_reply(launch, stat):
    server = launch()
    server.do("valid 100")
    server.rule("LOOKUP * hold")
    client = stat()
    id = server.held("LOOKUP")
    assert server.do(f"answer {id}") == 0
    assert server.do(f"answer {id} error -5") == -errno.EALREADY
    assert "answered before" in server.words
    assert client.ok()
    # The request that has its place now is another one.
    other = stat("other")
    next_id = server.held("LOOKUP")
    assert next_id != id
    assert server.do(f"answer {id} error -5") == -errno.EALREADY
    assert server.do(f"answer {next_id}") == 0
    assert other.ok()
    server.settled()
    server.close()


@pytest.mark.parametrize("id", [0, 1, 0xFFFFFFFF, 1 << 48, (1 << 64) - 1])
def test_ids_that_are_none(launch, stat, id):
    server = launch()
    server.rule("LOOKUP * hold")
    stat()
    real = server.held("LOOKUP")
    assert server.do(f"answer {id} error -5") in (-errno.EINVAL, -errno.EXDEV)
    assert server.do(f"answer {real + (1 << 40)} error -5") == -errno.EINVAL  # a generation that is still to come
    assert server.do(f"answer {real ^ 0x4000} error -5") == -errno.EINVAL  # a slot that was never used
    assert server.do(f"answer {real} error -5") == 0
    server.settled()
    server.close()


@pytest.mark.parametrize("error", [5, 0, -512, -600, -(2**31)])
def test_errors_that_are_none(launch, stat, error):
    """The kernel would refuse them and leave the client waiting."""
    server = launch()
    server.rule("LOOKUP * hold")
    client = stat()
    id = server.held("LOOKUP")
    assert server.do(f"answer {id} error {error}") == -errno.ERANGE
    assert server.do(f"answer {id} error -{errno.EUCLEAN}") == 0
    assert client.error(PROMPT) == errno.EUCLEAN
    server.settled()
    server.close()


@pytest.mark.parametrize("transport", ["poll", "ring", "uring"])
def test_the_wrong_channel(serve, stat, transport):
    server = serve(f"--transport={transport}", "--channels=3")
    server.do("valid 100")
    server.rule("LOOKUP * hold")
    client = stat()
    event = server.event("held")
    id, channel = int(event[1]), int(event[4])
    for other in {0, 1, 2} - {channel}:
        assert server.do(f"answer {id} {other}") == -errno.EXDEV
        assert "another connection" in server.words
    assert not client.ended(0.05)
    assert server.do(f"answer {id}") == 0
    assert client.ok()
    server.close()


def test_after_the_unmount(launch, stat):
    server = launch()
    server.rule("LOOKUP * hold")
    client = stat()
    id = server.held("LOOKUP")
    mounts.abort(server.number)
    assert client.error(PROMPT) == errno.ECONNABORTED
    assert server.end() == errno.ECONNABORTED
    assert server.do(f"answer {id}") == -errno.ENOTCONN
    assert server.do(f"answer {id}") == -errno.EALREADY
    assert server.settled()["replies_gone"] == 1
    assert server.do("notify inval_inode 1 0 0") == -errno.ENOTCONN
    mounts.detach(server.mountpoint)
    server.close()


def test_before_the_end_is_noticed(launch, stat):
    """The client has its answer from the kernel already; ours finds nobody, and is no failure."""
    server = launch()
    server.rule("LOOKUP * hold")
    client = stat()
    id = server.held("LOOKUP")
    os.kill(server.pid, signal.SIGSTOP)
    server.tell(f"answer {id}")
    mounts.abort(server.number)
    assert client.error(PROMPT) == errno.ECONNABORTED
    os.kill(server.pid, signal.SIGCONT)
    assert server.answer().split()[0] in ("0", str(-errno.ENOTCONN))
    server.end()
    assert server.settled()["replies_gone"] == 1
    mounts.detach(server.mountpoint)
    server.close()


# ---- Outcomes --------------------------------------------------------------------------------------------------------


def test_an_outcome_that_is_good(launch, stat):
    server = launch()
    server.do("valid 100")
    server.rule("LOOKUP file outcome")
    assert stat().ok()
    _, id, error, nodeid = server.event("outcome")
    assert int(id) != 0 and error == "0" and nodeid == "1"
    server.settled()
    server.close()


def test_outcomes_of_many(launch, storm):
    server = launch()
    server.rule("GETATTR * outcome")
    assert storm("stat", 10, 50).result()["done"] == 500
    assert until(lambda: server.count("outcome") == 500)
    outcomes = server.find("outcome")
    assert {event[2] for event in outcomes} == {"0"}
    assert len({event[1] for event in outcomes}) == 500
    server.settled()
    server.close()


def test_the_outcome_of_a_reply_to_nobody(launch, stat):
    """What the reply carried never reached the kernel. Here it was a copy that came after a resend."""
    if launch.transport == "uring":
        pytest.skip("the kernel keeps a client until its ring entry is answered, and sends nothing again")
    server = launch("--report")
    server.do("valid 100")
    server.rule("LOOKUP * hold")
    client = stat()
    first = server.held("LOOKUP")
    assert server.do("notify resend") == 0
    again = server.held("LOOKUP")
    assert server.do(f"answer {again}") == 0
    assert client.ok(PROMPT)
    assert server.do(f"answer {first}") == 0
    assert server.event("outcome")[1:3] == [str(first), str(-errno.ENOENT)]
    assert server.settled()["replies_gone"] == 1
    server.close()


def test_the_outcome_of_a_notification(launch):
    server = launch()
    assert server.do("write-notification") == 0
    _, id, error, _ = server.event("outcome")
    assert (id, error) == ("0", "0")  # nothing was cached: what was asked for is so already
    assert server.stats()["notifications"] == 1
    server.close()


# ---- Data ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("manner", ["borrow", "vector 1000", "vector 100000", "vector 1048576"])
def test_data_in_every_manner(launch, storm, client, manner):
    server = launch()
    server.rule(f"READ * {manner}")
    reader = client(
        """
with open(path + "/file", "rb", buffering=0) as file:
    for offset, size in ((0, 1), (0, 4096), (4095, 3), (1, 1 << 20), ((1 << 20) - 5, 100), (1 << 20, 10)):
        assert os.pread(file.fileno(), size, offset) == pattern("file", offset, min(size, (1 << 20) - offset))
return 0
"""
    )
    assert reader.ok() == "0"
    result = storm("read", 8, 40).result()
    assert result["done"] == 320 and result["failed"] == 0
    assert server.settled()["buffers_used"] <= 16  # those that are offered to the kernel
    server.close()


def test_more_borrowers_than_buffers(launch, storm):
    """Who gets no memory lent answers from its own."""
    server = launch(f"--buffers={8 if launch.busy else 2}")
    server.rule("READ * borrow")
    result = storm("read", 16, 20).result()
    assert result["done"] == 320 and result["failed"] == 0
    server.settled()
    server.close()


# ---- Backpressure ----------------------------------------------------------------------------------------------------


def test_one_buffer_and_two_slots(tight, storm):
    """The kernel keeps what there is no room for; the descriptor is readable again when a late reply makes room."""
    server, depth = tight()
    server.rule("GETATTR * delay 2")
    result = storm("stat", 16, 10).result()
    assert result["done"] == 160 and result["failed"] == 0
    assert server.settled()["open_peak"] <= depth
    server.close()


def test_large_writes_without_room(tight, storm):
    server, _ = tight()
    server.rule("WRITE * delay 1")
    result = storm("write", 16, 5).result()
    assert result["done"] == 80 and result["failed"] == 0
    server.settled()
    server.close()


def test_no_room_is_no_reason_to_spin(tight, stat):
    server, depth = tight()
    server.do("valid 100")
    server.rule("LOOKUP * hold")
    waiting = [stat(f"file{i}") for i in range(depth + 4)]
    for client in waiting:
        assert client.waits()
    assert until(lambda: server.count("held") == depth)
    assert server.rests(server.rest(), 0.3)
    for _ in waiting:
        assert server.do(f"answer {server.held('LOOKUP')}") == 0
    for client in waiting:
        assert client.ok(PROMPT)
    assert server.settled()["open_peak"] <= depth
    server.close()


def test_stop_without_room(tight, stat):
    """It is heard although nothing more can be read."""
    server, depth = tight()
    server.rule("LOOKUP * hold")
    waiting = [stat(f"file{i}") for i in range(depth + 2)]
    for client in waiting:
        assert client.waits()
    assert until(lambda: server.count("held") == depth)
    assert server.do("stop") == 0
    assert server.end() == errno.ESHUTDOWN
    server.close()
    for client in waiting:
        assert client.error(PROMPT)


def test_abort_without_room(tight, stat):
    """So is this, although no answer makes room."""
    server, depth = tight()
    server.rule("LOOKUP * hold")
    waiting = [stat(f"file{i}") for i in range(depth + 2)]
    for client in waiting:
        assert client.waits()
    assert until(lambda: server.count("held") == depth)
    mounts.abort(server.number)
    for client in waiting:
        assert client.error(PROMPT) == errno.ECONNABORTED
    assert server.end() == errno.ECONNABORTED
    mounts.detach(server.mountpoint)
    server.close()


@pytest.mark.long
def test_ten_thousand_requests_and_a_slow_handler(launch, storm):
    server = launch()
    server.rule("GETATTR * delay 50")
    result = storm("stat", 10000, 1).result(60)
    assert result["done"] == 10000 and result["failed"] == 0
    stats = server.settled()
    if server.transport == "uring":  # as many as there are ring entries; the kernel keeps the others
        assert stats["open_peak"] <= stats["queues"] * stats["queue_depth"]
    else:
        assert 1000 < stats["open_peak"] <= 4096
        assert stats["memory"] < 64 << 20
    server.close()
