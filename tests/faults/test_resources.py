"""What a machine may refuse: descriptors, memory, io_uring. Opening says so in words, or goes on with less."""

import errno

import pytest

from harness import mounts, sanitizers
from harness.faults import STRACE, inject
from harness.server import failure


def test_io_uring_forbidden(no_io_uring, serve, storm):
    """`auto` takes the other transport, says which and why, and serves as ever."""
    server = serve("--loop=block")
    assert server.transport == "poll"
    assert "ring: io_uring is not to be had" in server.stats()["reason"]
    assert "io_uring_disabled" in server.stats()["reason"]
    assert storm("read", 8, 20).result()["failed"] == 0
    server.settled()
    server.close()


def test_io_uring_becomes_forbidden(serve, stat, make_busy, request):
    """The sysctl forbids new rings; one that is there goes on."""
    server = serve("--transport=ring", "--loop=block")
    make_busy(server)
    request.getfixturevalue("no_io_uring")
    for i in range(5):
        assert stat(f"file{i}").ok()
    assert server.do("notify inval_entry 1 file") == 0
    assert stat().ok()
    server.settled()
    server.close()


def test_notifications_without_io_uring(serve, stat):
    """They are written directly then."""
    server = serve("--transport=poll", prefix=[*STRACE, *inject("io_uring_setup", "EPERM")])
    server.do("valid 1000")
    assert stat().ok()
    before = server.stats()["read"]
    assert stat().ok()
    assert server.stats()["read"] == before
    assert server.do("notify inval_entry 1 file") == 0
    assert stat().ok()
    assert server.stats()["read"] > before
    server.settled()
    server.close()


def limited(serve, kind, value, *options):
    """A server that opens under a limit, and exits."""
    return serve("--open-only", *options, prefix=["prlimit", f"--{kind}={value}"], traced=True, wait=False)


@pytest.mark.parametrize("transport", ["poll", "ring", "uring"])
def test_too_few_descriptors(serve, mountpoint, transport):
    """However many there are, it works or says EMFILE; nothing stays mounted."""
    results = []
    for count in range(4, 24):
        server = limited(serve, "nofile", count, f"--transport={transport}")
        number, words = 0, ""
        if event := server.event("failed", "gone"):
            number, words = (int(event[1]), " ".join(event[2:])) if event[0] == "failed" else (0, "")
        server.ended()
        assert mounts.connection_number(mountpoint) is None
        if number:
            assert number == errno.EMFILE, words
            assert words
        results.append(number)
    assert results[0] == errno.EMFILE and results[-1] == 0
    assert results == sorted(results, reverse=True)  # more of them never hurts


@pytest.mark.skipif("address" in sanitizers(), reason="the sanitizer itself needs the address space")
def test_too_little_memory(serve, mountpoint):
    """Depth and buffers that do not fit are refused in words; smaller ones work."""
    server = limited(serve, "as", 100 << 20, "--depth=65536", "--buffers=4096")
    number, words = failure(server)
    assert number == errno.ENOMEM
    assert "smaller depth" in words
    server.ended()
    server = limited(serve, "as", 100 << 20, "--depth=64", "--buffers=2")
    assert server.event("gone", "failed")[0] == "gone"
    server.ended()
    assert mounts.connection_number(mountpoint) is None


@pytest.mark.parametrize(
    "option",
    [
        "--depth=65537",
        "--max-write=4095",
        "--max-write=16777216",
        "--max-background=65536",
        "--mount=no_such_option",
        "--mount=max_read=many",
    ],
)
def test_options_that_are_none(serve, mountpoint, option):
    number, words = failure(serve(option, wait=False))
    assert number == errno.EINVAL
    assert words
    assert mounts.connection_number(mountpoint) is None


def test_smallest_and_largest_options(serve, storm):
    smallest = ["--depth=1", "--buffers=1", "--max-write=4096"]
    largest = ["--depth=65536", "--buffers=64", "--max-write=16773120"]
    for options in (smallest, largest):
        server = serve(*options)
        assert storm("write", 4, 4).result()["failed"] == 0
        assert storm("read", 4, 4).result()["failed"] == 0
        server.settled()
        server.close()


def test_locked_memory_is_not_needed(serve, storm):
    server = serve("--transport=ring", "--loop=block", prefix=["prlimit", "--memlock=0"])
    assert storm("read", 8, 20).result()["failed"] == 0
    server.settled()
    server.close()
