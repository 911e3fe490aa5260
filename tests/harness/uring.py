"""FUSE-over-io_uring's switch. It is the whole machine's, so whoever turns it puts it back, soon."""

import contextlib
import fcntl
import pathlib
import tempfile

LOCK = pathlib.Path(tempfile.gettempdir()) / "fusewire-enable_uring.lock"
PARAMETER = pathlib.Path("/sys/module/fuse/parameters/enable_uring")


def value():
    """Y or N; None where the kernel has no such parameter."""
    try:
        return PARAMETER.read_text().strip()
    except OSError:
        return None


def why_not():
    """What keeps tests from using it."""
    if value() is None:
        return "this kernel has no FUSE-over-io_uring (parameter enable_uring of the module fuse)"
    return None if value() == "Y" else "FUSE-over-io_uring is switched off (parameter enable_uring of the module fuse)"


@contextlib.contextmanager
def alone():
    """Test runs turn the switch one after the other, so that none takes for its setting what another has made of it."""
    with open(LOCK, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def turn(wanted):
    """As far as this machine has the switch and lets us. Returns how it stood."""
    before = value()
    if before not in (None, wanted):
        with contextlib.suppress(OSError):
            PARAMETER.write_text(wanted)
    return before


@contextlib.contextmanager
def switched_on():
    """For a test run."""
    with alone():
        before = turn("Y")
    try:
        yield
    finally:
        with alone():
            turn(before)


@contextlib.contextmanager
def switched_off():
    """For as little of a test as possible, since it is off for all other processes as well."""
    with alone():
        before = turn("N")
        try:
            yield
        finally:
            turn(before)
