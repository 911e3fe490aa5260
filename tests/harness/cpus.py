"""The machine's CPUs. FUSE-over-io_uring has a queue for each, and a client's requests go to that of its CPU."""

import contextlib
import os
import pathlib


def usable():
    """Those that a test may run on."""
    return sorted(os.sched_getaffinity(0))


def possible():
    """All that the machine can have, online or not: so many queues there are."""
    numbers = set()
    for piece in pathlib.Path("/sys/devices/system/cpu/possible").read_text().strip().split(","):
        first, _, last = piece.partition("-")
        numbers.update(range(int(first), int(last or first) + 1))
    return sorted(numbers)


def every():
    """All of them as a list for a connection's `cpus`."""
    return ",".join(map(str, possible()))


@contextlib.contextmanager
def pinned(cpu):
    """Binds the test and what it starts to one CPU for as long as the block runs."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
