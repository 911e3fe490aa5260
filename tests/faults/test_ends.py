"""How a connection ends: unmount, abort and stop are told apart, and whoever waits is answered within a second."""

import errno
import os
import subprocess

import pytest

from harness import PROMPT, mounts, until


def hold_lookups(server, stat, count=4):
    """Clients that wait for a server which holds their requests; returns them and the ids."""
    server.rule("LOOKUP held* hold")
    waiting = [stat(f"held{i}") for i in range(count)]
    ids = [server.held("LOOKUP") for _ in waiting]
    return waiting, ids


def test_unmount(launch):
    server = launch()
    mounts.umount(server.mountpoint)
    assert server.end() == errno.ENODEV
    server.close()


def test_abort_with_requests_in_flight(launch, stat):
    server = launch()
    waiting, ids = hold_lookups(server, stat)
    mounts.abort(server.number)
    for client in waiting:
        assert client.error(PROMPT) == errno.ECONNABORTED
    assert server.end() == errno.ECONNABORTED
    assert server.do(f"answer {ids[0]}") == -errno.ENOTCONN
    assert server.stats()["open"] == len(ids) - 1
    mounts.detach(server.mountpoint)
    server.close()


def test_abort_under_load(launch, storm):
    server = launch()
    callers = storm("read", 8, 0).started()
    assert until(lambda: server.stats()["answered"] > 200)
    mounts.abort(server.number)
    result = callers.result()
    assert result["failed"] == 8 and result["slowest"] < 1000 * PROMPT
    assert result["errno"] in (errno.ECONNABORTED, errno.ENOTCONN)
    assert server.end() == errno.ECONNABORTED
    mounts.detach(server.mountpoint)
    server.close()


def test_forced_unmount_with_requests_in_flight(launch, stat):
    """The clients are answered as after an abort; the server is told what an unmount tells it."""
    server = launch()
    waiting, _ = hold_lookups(server, stat)
    with pytest.raises(OSError, match="busy"):
        mounts.umount(server.mountpoint, mounts.MNT_FORCE)  # it is in use; but its connection is aborted
    for client in waiting:
        assert client.error(PROMPT) == errno.ECONNABORTED
    assert server.end() == errno.ENODEV
    server.close()


def test_lazy_unmount_with_requests_in_flight(launch, stat):
    """The clients go on as if nothing had happened; the end comes when the last one has gone."""
    server = launch()
    waiting, _ = hold_lookups(server, stat)
    mounts.umount(server.mountpoint, mounts.MNT_DETACH)
    assert not server.find("end")
    server.do("clear")
    server.do("release 100")
    for client in waiting:
        assert client.ok(PROMPT)
    assert server.end() == errno.ENODEV
    server.close()


def test_lazy_unmount_with_an_open_file(launch, client):
    """A detached mount lives as long as somebody holds a file open: the server can stop all the same."""
    server = launch()
    holder = client(
        """
file = open(path + "/file", "rb", buffering=0)
print("opened", flush=True)
sys.stdin.readline()
return os.fstat(file.fileno()).st_size
"""
    )
    assert holder.process.stdout.readline() == "opened\n"
    mounts.umount(server.mountpoint, mounts.MNT_DETACH)
    stats = server.stats()
    assert not server.find("end") and stats["open"] == 0
    assert server.do("stop") == 0
    assert server.end() == errno.ESHUTDOWN
    server.close()
    holder.process.stdin.write("\n")
    holder.process.stdin.flush()
    assert holder.error(PROMPT) in (errno.ENOTCONN, errno.ECONNABORTED)


def test_stop(launch, stat):
    """Requests that were read can still be answered after a stop."""
    server = launch()
    waiting, ids = hold_lookups(server, stat)
    assert server.do("stop") == 0
    assert server.end() == errno.ESHUTDOWN
    server.do("valid 100")  # so that the client is content with the one answer
    assert server.do(f"answer {ids[0]}") == 0
    [index] = [i for i, client in enumerate(waiting) if client.ended(0.5)]
    assert waiting.pop(index).ok()
    # Closing answers the others.
    server.close()
    for client in waiting:
        assert client.error(PROMPT) in (errno.EIO, errno.ENOTCONN, errno.ECONNABORTED)


def test_stop_under_load(launch, storm):
    server = launch()
    callers = storm("read", 8, 0).started()
    assert until(lambda: server.stats()["answered"] > 200)
    assert server.do("stop") == 0
    assert server.end() == errno.ESHUTDOWN
    server.close()
    result = callers.result()
    assert result["failed"] == 8
    assert result["errno"] in (errno.EIO, *launch.gone)


def test_close_answers_what_is_open(launch, stat):
    server = launch()
    waiting, _ = hold_lookups(server, stat)
    server.close()
    for client in waiting:
        assert client.error(PROMPT) in (errno.EIO, errno.ENOTCONN, errno.ECONNABORTED)


def test_close_under_load(launch, storm):
    server = launch()
    callers = storm("stat", 16, 0).started()
    assert until(lambda: server.stats()["answered"] > 200)
    server.close()
    result = callers.result()
    assert result["failed"] == 16 and result["slowest"] < 1000 * PROMPT


def test_unmount_by_the_server_itself(launch):
    server = launch()
    assert server.do("unmount") == 0
    assert server.end() == errno.ENODEV
    assert mounts.connection_number(server.mountpoint) is None
    server.close()


def test_the_program_umount(launch, stat):
    server = launch()
    assert stat().ok()
    assert subprocess.run(["umount", server.mountpoint], timeout=10).returncode == 0
    assert server.end() == errno.ENODEV
    server.settled()
    server.close()


def test_wake_ends_a_wait_and_nothing_else(launch, stat):
    server = launch()
    for _ in range(20):
        assert server.do("wake") == 0
    assert stat().ok()
    assert not server.find("end")
    before = server.switches()
    assert not until(lambda: server.switches() > before + 2, 0.2)
    server.settled()
    server.close()


def test_a_working_directory_inside(launch, client):
    """Somebody stands in the mount: it cannot be unmounted, but the server can go."""
    server = launch()
    inside = client("os.chdir(path)\nprint('there', flush=True)\nsys.stdin.readline()\nreturn 0")
    assert inside.process.stdout.readline() == "there\n"
    with pytest.raises(OSError) as raised:
        mounts.umount(server.mountpoint)
    assert raised.value.errno == errno.EBUSY
    server.close()
    assert not os.listdir(server.mountpoint)
