"""The values that handlers return: small, mutable where that helps, and kept in the form in which the library takes
them, so that an Attr that a filesystem keeps is sent without being converted."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Sequence
from operator import attrgetter
from typing import Any, NamedTuple

from ._core import ffi

__all__ = ["Attr", "Entry", "IoctlRetry", "Lock", "Opened", "Statfs", "Statistics", "Statx", "Session"]

_ATTR = ffi.typeof("fusewire_attr *")
_ENTRY = ffi.typeof("fusewire_entry *")
_STATX = ffi.typeof("fusewire_statx *")

# Longer than any kernel keeps anything, and small enough for every kernel's arithmetic.
_FOREVER = 1 << 32
_SECOND = 1_000_000_000


def timeout_parts(timeout: float) -> tuple[int, int]:
    """A validity in seconds (math.inf for ever) as whole seconds and nanoseconds."""
    if timeout >= _FOREVER:
        return _FOREVER, 0
    if not timeout >= 0:
        raise ValueError(f"a timeout cannot be {timeout!r}")
    seconds = int(timeout)
    return seconds, int((timeout - seconds) * _SECOND)


def _number(field: str, doc: str) -> Any:
    """An integer that lives in the C structure `_c`; cffi refuses what does not fit."""

    def assign(self: Any, value: int) -> None:
        setattr(self._c, field, value)

    return property(attrgetter("_c." + field), assign, doc=doc)


def _time(seconds: str, nanoseconds: str, doc: str) -> Any:
    """A time in nanoseconds since the epoch, kept as seconds and nanoseconds."""
    parts = attrgetter("_c." + seconds, "_c." + nanoseconds)

    def read(self: Any) -> int:
        whole, rest = parts(self)
        return int(whole * _SECOND + rest)

    def assign(self: Any, value: int) -> None:
        whole, rest = divmod(value, _SECOND)
        structure = self._c
        setattr(structure, seconds, whole)
        setattr(structure, nanoseconds, rest)

    return property(read, assign, doc=doc)


class Attr:
    """What stat(2) says about a file. `mode` holds type and permissions; times are nanoseconds since the epoch. Unless
    given, the times are the present, the owner is the server's, and `blocks` (of 512 bytes) are what `size` needs."""

    __slots__ = ("_c",)

    def __init__(
        self,
        ino: int,
        mode: int,
        *,
        size: int = 0,
        blocks: int | None = None,
        nlink: int = 1,
        uid: int | None = None,
        gid: int | None = None,
        rdev: int = 0,
        blksize: int = 4096,
        mtime_ns: int | None = None,
        atime_ns: int | None = None,
        ctime_ns: int | None = None,
        flags: int = 0,
    ) -> None:
        if mtime_ns is None:
            mtime_ns = time.time_ns()
        mtime, mtimensec = divmod(mtime_ns, _SECOND)
        atime, atimensec = (mtime, mtimensec) if atime_ns is None else divmod(atime_ns, _SECOND)
        ctime, ctimensec = (mtime, mtimensec) if ctime_ns is None else divmod(ctime_ns, _SECOND)
        self._c = ffi.new(
            _ATTR,
            (
                ino,
                size,
                (size + 511) >> 9 if blocks is None else blocks,
                atime,
                mtime,
                ctime,
                atimensec,
                mtimensec,
                ctimensec,
                mode,
                nlink,
                os.geteuid() if uid is None else uid,
                os.getegid() if gid is None else gid,
                rdev,
                blksize,
                flags,
            ),
        )

    ino: int = _number("ino", "The inode number. Where an Attr stands for an entry, the node id too.")
    mode: int = _number("mode", "File type and permissions.")
    size: int = _number("size", "In bytes.")
    blocks: int = _number("blocks", "Space in use, in units of 512 bytes.")
    nlink: int = _number("nlink", "Number of hard links.")
    uid: int = _number("uid", "The owner.")
    gid: int = _number("gid", "The owner's group.")
    rdev: int = _number("rdev", "Device number of a special file, as os.makedev makes it.")
    blksize: int = _number("blksize", "The size of block that suits I/O.")
    flags: int = _number("flags", "ATTR_SUBMOUNT, ATTR_DAX.")
    atime_ns: int = _time("atime", "atimensec", "Last access.")
    mtime_ns: int = _time("mtime", "mtimensec", "Last change of the contents.")
    ctime_ns: int = _time("ctime", "ctimensec", "Last change of contents or attributes.")

    @classmethod
    def file(cls, ino: int, mode: int = 0o644, **fields: Any) -> Attr:
        """A regular file with these permissions."""
        return cls(ino, stat.S_IFREG | mode, **fields)

    @classmethod
    def dir(cls, ino: int, mode: int = 0o755, **fields: Any) -> Attr:
        """A folder with these permissions."""
        fields.setdefault("nlink", 2)
        return cls(ino, stat.S_IFDIR | mode, **fields)

    @classmethod
    def symlink(cls, ino: int, target: str, **fields: Any) -> Attr:
        """A symbolic link to `target`, whose length is its size."""
        fields.setdefault("size", len(os.fsencode(target)))
        return cls(ino, stat.S_IFLNK | 0o777, **fields)

    @classmethod
    def from_stat(cls, status: os.stat_result, ino: int | None = None) -> Attr:
        """What os.stat said, under its own inode number or another one."""
        return cls(
            status.st_ino if ino is None else ino,
            status.st_mode,
            size=status.st_size,
            blocks=status.st_blocks,
            nlink=status.st_nlink,
            uid=status.st_uid,
            gid=status.st_gid,
            rdev=status.st_rdev,
            blksize=status.st_blksize,
            mtime_ns=status.st_mtime_ns,
            atime_ns=status.st_atime_ns,
            ctime_ns=status.st_ctime_ns,
        )

    def copy(self) -> Attr:
        other = Attr.__new__(type(self))
        other._c = ffi.new(_ATTR, self._c[0])
        return other

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Attr):
            return NotImplemented
        return bytes(ffi.buffer(self._c)) == bytes(ffi.buffer(other._c))

    __hash__ = None  # type: ignore[assignment]  # it is mutable

    def __repr__(self) -> str:
        return (
            f"<Attr {self.ino} {stat.filemode(self.mode)} nlink={self.nlink} uid={self.uid} gid={self.gid} "
            f"size={self.size}>"
        )


class Entry:
    """A name's target: attributes, the node id that later requests will give for it, and for how many seconds the
    kernel may rely on name and attributes (None: as long as the connection says)."""

    __slots__ = ("_c", "attr_default", "entry_default")

    def __init__(
        self,
        attr: Attr,
        *,
        node: int | None = None,
        generation: int = 0,
        entry_timeout: float | None = None,
        attr_timeout: float | None = None,
    ) -> None:
        self._c = ffi.new(_ENTRY)
        self._c.attr = attr._c[0]
        self._c.nodeid = attr._c.ino if node is None else node
        self._c.generation = generation
        self.entry_default = entry_timeout is None
        self.attr_default = attr_timeout is None
        if entry_timeout is not None:
            self._c.entry_valid, self._c.entry_valid_nsec = timeout_parts(entry_timeout)
        if attr_timeout is not None:
            self._c.attr_valid, self._c.attr_valid_nsec = timeout_parts(attr_timeout)

    node: int = _number("nodeid", "The node id; 0: there is no such name.")
    generation: int = _number("generation", "Tells uses of one node id apart, where the filesystem is exported.")

    @classmethod
    def negative(cls, entry_timeout: float | None = None) -> Entry:
        """Says that there is no such name, and that the kernel may rely on that."""
        return cls(Attr(0, 0, mtime_ns=0, uid=0, gid=0), entry_timeout=entry_timeout, attr_timeout=0)

    def __repr__(self) -> str:
        return f"<Entry node={self.node} {stat.filemode(self._c.attr.mode)}>"


class Opened(NamedTuple):
    """What open, opendir, create and tmpfile may return in place of a bare file handle."""

    fh: int = 0  #: given back in each request on the open file
    flags: int = 0  #: FOPEN_*
    backing_id: int = 0  #: with FOPEN_PASSTHROUGH, from Connection.backing_open


class Statfs(NamedTuple):
    """What statvfs(3) says. Counts of blocks are in units of `frsize`."""

    blocks: int = 0
    bfree: int = 0
    bavail: int = 0
    files: int = 0
    ffree: int = 0
    bsize: int = 4096
    namelen: int = 255
    frsize: int = 4096


class Lock(NamedTuple):
    """A record lock, as fcntl(2) has it: `end` is its last byte."""

    type: int
    start: int = 0
    end: int = (1 << 63) - 1
    pid: int = 0


class IoctlRetry(NamedTuple):
    """Asks the kernel to make an unrestricted ioctl again with these (address, size) pieces of the caller's memory."""

    read: Sequence[tuple[int, int]] = ()
    write: Sequence[tuple[int, int]] = ()


class Statx:
    """What statx(2) says: an Attr, and what only statx has. `mask` says which fields mean something."""

    __slots__ = ("_c",)

    def __init__(
        self,
        attr: Attr,
        *,
        btime_ns: int | None = None,
        attributes: int = 0,
        attributes_mask: int = 0,
    ) -> None:
        self._c = c = ffi.new(_STATX)
        a = attr._c
        c.mask = 0x7FF  # STATX_BASIC_STATS
        for name in ("blksize", "nlink", "uid", "gid", "mode", "ino", "size", "blocks"):
            setattr(c, name, getattr(a, name))
        for name in ("atime", "mtime", "ctime"):
            moment = getattr(c, name)
            moment.tv_sec, moment.tv_nsec = getattr(a, name), getattr(a, name + "nsec")
        if btime_ns is not None:
            c.btime.tv_sec, c.btime.tv_nsec = divmod(btime_ns, _SECOND)
            c.mask |= 0x800  # STATX_BTIME
        c.rdev_major, c.rdev_minor = os.major(a.rdev), os.minor(a.rdev)
        c.attributes, c.attributes_mask = attributes, attributes_mask

    mask: int = _number("mask", "STATX_*: the fields that are given.")
    attributes: int = _number("attributes", "STATX_ATTR_*.")


class Session(NamedTuple):
    """What INIT agreed upon (Connection.negotiated); given to adopt, it lets a successor take over the mount."""

    offered: int  #: the kernel's capabilities, bits by Capability
    capabilities: int  #: those in force
    major: int
    minor: int
    max_readahead: int
    max_write: int
    max_background: int
    congestion_threshold: int
    time_gran: int
    max_pages: int
    max_stack_depth: int
    request_timeout: int

    def has(self, capability: int) -> bool:
        """Is this Capability in force?"""
        return bool(self.capabilities >> capability & 1)


class Statistics(NamedTuple):
    """Counts since the connection was opened (Connection.stats); fusewire_abi.h describes each of them."""

    read: int
    answered: int
    forgets: int
    interrupts: int
    retrieved: int
    notifications: int
    replies_gone: int
    replies_failed: int
    notifications_failed: int
    malformed: int
    batches: int
    system_calls: int
    open: int
    open_peak: int
    transport: str  #: the one in use: "poll", "ring" or "uring"
    buffers_used: int
    memory: int
    transport_reason: str  #: why the transports above it were not taken
    queues: int  #: over uring: CPUs that this connection serves
    queue_depth: int  #: over uring: requests of one CPU that can be open
    payload_size: int  #: over uring: bytes of the largest request or reply
