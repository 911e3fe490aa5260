"""Which transport a connection takes: each rung of the ladder, with those above it forbidden in one way or another."""

import errno

import pytest

from harness import PROMPT, child_environment, cpus, mounts, sanitizers, uring
from harness.faults import STRACE, inject, record
from harness.server import FAULT_SERVER, failure

# What `auto` takes where everything is allowed: a connection that serves chosen CPUs is one of several, and uring is
# what they gain by; for one thread that serves all of them ring is faster.
WORKERS = f"--cpus={cpus.every()}"
BEST = {"one thread": ("ring", []), "workers": ("uring", [WORKERS])}

ADDRESS_SPACE = 160 << 20  # too little for the ring entries of uring, enough for all else

NO_SUCH_KERNEL = inject("openat,open", "ENOENT", path=uring.PARAMETER)

# Ways to forbid uring, each as the beginning of a command.
WAYS = {
    "no such kernel": [*STRACE, *NO_SUCH_KERNEL],
    "no io_uring: EPERM": [*STRACE, *inject("io_uring_setup", "EPERM")],
    "no io_uring: ENOSYS": [*STRACE, *inject("io_uring_setup", "ENOSYS")],
    "no io_uring: ENOMEM": [*STRACE, *inject("io_uring_setup", "ENOMEM", "1")],
    "address space": ["prlimit", f"--as={ADDRESS_SPACE}"],
}


def serves(server, storm):
    """Whatever it took, it works."""
    assert storm("read", 4, 20).result()["failed"] == 0
    server.settled()
    server.close()


# ---- Each rung -------------------------------------------------------------------------------------------------------


@pytest.mark.needs_uring
@pytest.mark.parametrize("use", BEST)
def test_everything_is_allowed(serve, storm, use):
    best, options = BEST[use]
    server = serve(*options)
    stats = server.stats()
    assert server.transport == best
    assert stats["reason"].startswith("uring: one thread") if best == "ring" else stats["reason"] == ""
    assert stats["queues"] == (len(cpus.possible()) if best == "uring" else 0)
    serves(server, storm)


@pytest.mark.needs_uring
def test_the_parameter_is_off(serve, storm):
    with uring.switched_off():
        server = serve(WORKERS)
    assert server.transport == "ring"
    assert server.stats()["reason"].startswith("uring: ") and "enable_uring" in server.stats()["reason"]
    serves(server, storm)


@pytest.mark.needs_uring
@pytest.mark.parametrize("error", ["ENOMEM", "EINVAL", "EPERM"])
def test_the_first_ring_cannot_be_had(serve, storm, error):
    """That is the one for commands; the one for reads and writes can."""
    server = serve(WORKERS, prefix=[*STRACE, *inject("io_uring_setup", error, "1")])
    assert server.transport == "ring"
    assert server.stats()["reason"].startswith("uring: io_uring is not to be had")
    serves(server, storm)


@pytest.mark.needs_uring
def test_the_kernel_lacks_it(serve, storm):
    server = serve(WORKERS, prefix=[*STRACE, *NO_SUCH_KERNEL])
    assert server.transport == "ring"
    assert server.stats()["reason"] == "uring: this kernel has no FUSE-over-io_uring"
    serves(server, storm)


@pytest.mark.needs_uring
@pytest.mark.skipif("address" in sanitizers(), reason="the sanitizer itself needs the address space")
def test_no_address_space_for_its_entries(serve, storm):
    server = serve(WORKERS, prefix=["prlimit", f"--as={ADDRESS_SPACE}"])
    assert server.transport == "ring"
    assert server.stats()["reason"].startswith("uring: ") and "queue_depth" in server.stats()["reason"]
    serves(server, storm)
    server = serve(WORKERS, "--queue-depth=4", prefix=["prlimit", f"--as={ADDRESS_SPACE}"])
    assert server.transport == "uring"
    serves(server, storm)


@pytest.mark.parametrize("options", [[], [WORKERS]], ids=["one-thread", "workers"])
@pytest.mark.parametrize("error", ["EPERM", "ENOSYS"])
def test_no_io_uring_at_all(serve, storm, options, error):
    server = serve(*options, prefix=[*STRACE, *inject("io_uring_setup", error)])
    assert server.transport == "poll"
    above = server.stats()["reason"].split("; ")
    assert [reason.split(":")[0] for reason in above] == ["uring", "ring"]
    assert "io_uring is not to be had" in above[1]
    serves(server, storm)


def test_the_sysctl_forbids_io_uring(no_io_uring, serve, storm):
    server = serve(WORKERS)
    assert server.transport == "poll"
    assert "uring: " in server.stats()["reason"] and "; ring: " in server.stats()["reason"]
    assert "io_uring_disabled" in server.stats()["reason"]
    serves(server, storm)


# ---- Asked for by name -----------------------------------------------------------------------------------------------


def refused(serve, mountpoint, prefix=()):
    """uring alone will do, and is not to be had: words, and nothing mounted."""
    server = serve("--transport=uring", WORKERS, prefix=prefix, wait=False)
    number, words = failure(server)
    server.ended()
    assert number > 0 and words
    assert mounts.connection_number(mountpoint) is None
    return number, words


@pytest.mark.parametrize("way", WAYS)
def test_asked_for_and_forbidden(serve, mountpoint, way):
    if "address" in sanitizers() and way == "address space":
        pytest.skip("the sanitizer itself needs the address space")
    refused(serve, mountpoint, WAYS[way])


def test_asked_for_and_the_sysctl_forbids_io_uring(no_io_uring, serve, mountpoint):
    number, words = refused(serve, mountpoint)
    assert number == errno.EPERM and "io_uring_disabled" in words


@pytest.mark.needs_uring
def test_asked_for_and_the_parameter_is_off(serve, mountpoint):
    with uring.switched_off():
        number, words = refused(serve, mountpoint)
    assert number == errno.ENOTSUP and "echo Y > /sys/module/fuse/parameters/enable_uring" in words


# ---- When it is decided ----------------------------------------------------------------------------------------------

MOUNTING = ("mount", "fsopen", "fsmount", "move_mount")


@pytest.mark.needs_uring
def test_it_falls_back_before_it_mounts(mountpoint, tmp_path):
    """Nobody ever sees a mount that has still to change its transport, or that goes at once."""
    command = [FAULT_SERVER, "--open-only", WORKERS, mountpoint]
    environment = child_environment(traced=True)
    for error in ("EPERM", "ENOMEM"):
        faults = ["-e", f"inject=io_uring_setup:error={error}:when=1"]
        names = record(command, environment, tmp_path / "log", faults)
        first = min(names.index(name) for name in MOUNTING if name in names)
        assert "io_uring_setup" in names[:first] and "io_uring_setup" not in names[first:]
        names = record([*command[:-1], "--transport=uring", mountpoint], environment, tmp_path / "log", faults)
        assert "io_uring_setup" in names and not set(names) & set(MOUNTING)
        assert mounts.connection_number(mountpoint) is None


@pytest.fixture
def elsewhere(tmp_path):
    """Another mount point."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    yield folder
    mounts.detach(folder)


@pytest.mark.needs_uring
def test_the_parameter_is_turned_off_later(serve, stat, storm, elsewhere):
    """What is mounted goes on, also with new clones; the next mount takes ring."""
    server = serve(WORKERS)
    assert server.transport == "uring"
    assert stat().ok()
    with uring.switched_off():
        assert stat("another").ok()
        assert server.do(f"clone {cpus.every()}") == 0
        for i in range(10):
            assert stat(f"more{i}").ok(PROMPT)
        later = serve(WORKERS, on=elsewhere)
    assert later.transport == "ring"
    assert server.stats(1)["transport"] == server.stats(0)["transport"]
    later.close()
    serves(server, storm)
