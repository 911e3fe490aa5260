"""Mounts, seen and made by system calls: no helper program that might itself ask a server that hangs."""

import contextlib
import ctypes
import os
import pathlib
import re
import tempfile

libc = ctypes.CDLL(None, use_errno=True)

MNT_FORCE, MNT_DETACH = 1, 2
MS_NOSUID, MS_NODEV, MS_REC, MS_PRIVATE = 2, 4, 0x4000, 0x40000
CLONE_NEWNS = 0x20000


def check(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def mount(source, target, kind, flags=0, data=""):
    check(libc.mount(str(source).encode(), os.fsencode(target), kind.encode(), ctypes.c_ulong(flags), data.encode()))


def umount(target, flags=0):
    check(libc.umount2(os.fsencode(target), flags))


def mount_device(fd, target):
    """Mounts a /dev/fuse descriptor."""
    data = f"fd={fd},rootmode=40000,user_id=0,group_id=0,allow_other"
    mount("faults", target, "fuse", MS_NOSUID | MS_NODEV, data)


def table():
    """What is mounted in this namespace: (mount point, type, device number)."""
    found = []
    for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines():
        before, after = line.split(" - ", 1)
        fields = before.split()
        path = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[4])
        major, minor = fields[2].split(":")
        found.append((path, after.split()[0], int(major) << 20 | int(minor)))
    return found


def is_fuse(kind):
    return kind in ("fuse", "fuseblk") or kind.startswith(("fuse.", "fuseblk."))


def fuse_mounts():
    return [path for path, kind, _ in table() if is_fuse(kind)]


def connection_number(path):
    """The number of the FUSE connection that is mounted on a path, without asking its server."""
    numbers = [device for where, kind, device in table() if where == str(path) and is_fuse(kind)]
    return numbers[-1] if numbers else None


def detach(path):
    """Removes whatever is mounted on the path."""
    while True:
        try:
            umount(path, MNT_DETACH)
        except OSError:
            return


@contextlib.contextmanager
def control_files():
    """The folder of the fusectl filesystem."""
    usual = pathlib.Path("/sys/fs/fuse/connections")
    if os.path.ismount(usual):
        yield usual
        return
    with tempfile.TemporaryDirectory() as folder:
        mount("fusectl", folder, "fusectl")
        try:
            yield pathlib.Path(folder)
        finally:
            umount(folder, MNT_DETACH)


def abort(number):
    """Aborts a connection; it may be gone already."""
    with control_files() as folder, contextlib.suppress(FileNotFoundError):
        (folder / str(number) / "abort").write_text("1")


def waiting(number):
    """How many requests of a connection are not finished."""
    with control_files() as folder:
        return int((folder / str(number) / "waiting").read_text())


def enter_private_namespace():
    """Mounts made from here on are seen by this process and its children alone: a mount that was copied into somebody
    else's namespace would keep its server alive. For the same reason copies of mounts for other tests go at once."""
    check(libc.unshare(CLONE_NEWNS))
    mount("none", "/", "none", MS_REC | MS_PRIVATE)
    temporary = os.path.realpath(tempfile.gettempdir()) + "/"
    for path in fuse_mounts():
        if path.startswith(temporary):
            detach(path)
