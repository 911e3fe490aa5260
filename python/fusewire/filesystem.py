"""The base class that says what each handler is asked and what it returns."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterable, Awaitable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Callable, TypeVar, Union

from .request import Request
from .types import Attr, Entry, IoctlRetry, Lock, Opened, Statfs, Statx

__all__ = ["Filesystem", "handler_of"]

if TYPE_CHECKING:
    from array import array
    from mmap import mmap

    T = TypeVar("T")
    #: What a handler returns, be it plain or async.
    Reply = Union[T, Awaitable[T]]
    PathLike = os.PathLike[str]
    Buffer = Union[bytes, bytearray, memoryview, mmap, array[Any]]
    EntryLike = Union[Attr, Entry]
    OpenedLike = Union[None, int, Opened]
    Target = Union[Attr, Entry, None]
    Listed = Union[str, bytes, tuple[Union[str, bytes], Target]]
    Listing = Union[Mapping[str, Any], Mapping[bytes, Any], Iterable[Listed], Buffer]


class Filesystem:
    """An optional base class for what Connection.serve and Connection.run serve: it documents every operation, and
    lets a type checker see whether handlers return what they should.

    Override what the filesystem can do, with plain or async methods. What is not overridden counts as missing, exactly
    as in a class without this base; it is answered with ENOSYS unless its description says otherwise. The fields named
    here are those of the Request. Every handler may raise OSError with the error that the client gets."""

    # ---- Names ----

    def lookup(self, request: Request, /) -> Reply[EntryLike]:
        """Finds `name` in folder `node`. Returns an Attr (its `ino` becomes the node id) or an Entry, which also
        carries the node id, a generation and how long the kernel may rely on name and attributes; Entry.negative
        says that there is no such name, and that this may be relied on. Each answer with a node counts as one lookup
        of it, until forget takes it back. Errors: ENOENT, ENAMETOOLONG, EACCES."""
        raise _missing(request)

    def forget(self, request: Request, /) -> Reply[None]:
        """The kernel has dropped lookups: `forgets` holds (node, number) pairs. When all lookups of a node are taken
        back no request names it any more. Takes no answer; an unmount forgets everything without saying so."""
        raise _missing(request)

    def readlink(self, request: Request, /) -> Reply[str | PathLike | Buffer]:
        """Returns what the symbolic link `node` points to, up to 4095 bytes."""
        raise _missing(request)

    def symlink(self, request: Request, /) -> Reply[EntryLike]:
        """Makes `name` in folder `node`, a symbolic link to `newname`. Answered as lookup, and counts as one."""
        raise _missing(request)

    def mknod(self, request: Request, /) -> Reply[EntryLike]:
        """Makes `name` in folder `node`: a regular file, FIFO, socket or device by the type bits of `mode`; `rdev`
        for devices. The umask is applied to `mode` already. Without a create handler the kernel makes regular files
        so. Answered as lookup, and counts as one. Errors: EEXIST, ENOSPC, EPERM."""
        raise _missing(request)

    def mkdir(self, request: Request, /) -> Reply[EntryLike]:
        """Makes the folder `name` in folder `node` with the permissions `mode`, to which the umask is applied
        already. Answered as lookup, and counts as one. Errors: EEXIST, ENOSPC."""
        raise _missing(request)

    def unlink(self, request: Request, /) -> Reply[None]:
        """Removes `name`, which is no folder, from folder `node`. The file lives on while it is open or has other
        names. Errors: ENOENT, EISDIR."""
        raise _missing(request)

    def rmdir(self, request: Request, /) -> Reply[None]:
        """Removes the empty folder `name` from folder `node`. Errors: ENOENT, ENOTDIR, ENOTEMPTY."""
        raise _missing(request)

    def rename(self, request: Request, /) -> Reply[None]:
        """Moves `name` in folder `node` to `newname` in folder `newnode`, in one step; what stands there is
        replaced. `flags` are those of renameat2(2): 1 RENAME_NOREPLACE, 2 RENAME_EXCHANGE, 4 RENAME_WHITEOUT; EINVAL
        for those that are not supported. Errors: ENOENT, EEXIST, ENOTEMPTY, EISDIR, ENOTDIR. The kernel has seen to
        it that no folder is moved below itself."""
        raise _missing(request)

    def link(self, request: Request, /) -> Reply[EntryLike]:
        """Gives the file `newnode` the further name `name` in folder `node`. Answered as lookup, and counts as one.
        Errors: EEXIST, EMLINK, EPERM."""
        raise _missing(request)

    # ---- Attributes ----

    def getattr(self, request: Request, /) -> Reply[Attr | Entry]:
        """Returns the Attr of `node`; an Entry where the attributes' validity is to be another one than the mount's
        attr_timeout. With GETATTR_FH in `op_flags`, `fh` is the open file that is asked about."""
        raise _missing(request)

    def setattr(self, request: Request, /) -> Reply[Attr | Entry]:
        """Changes the attributes of `node` that `valid` names (SET_*), and returns all of them as getattr does:
        `mode`, `set_uid`, `set_gid`, `size` (truncate), `atime_ns`, `mtime_ns` (SET_ATIME_NOW, SET_MTIME_NOW: the
        present), `ctime_ns`. With SET_FH, `fh` is the open file that is meant. Errors: EPERM, EFBIG, ENOSPC."""
        raise _missing(request)

    def statx(self, request: Request, /) -> Reply[Statx | Attr]:
        """Returns what statx(2) tells about `node`, such as the time of its birth. `valid`: the fields that are
        asked for. Without it the kernel uses getattr."""
        raise _missing(request)

    def access(self, request: Request, /) -> Reply[None]:
        """May the caller (`uid`, `gid`) do with `node` what `mode` says (os.R_OK ...)? EACCES if not. Not asked
        where the kernel checks permissions (default_permissions)."""
        raise _missing(request)

    def statfs(self, request: Request, /) -> Reply[Statfs | os.statvfs_result]:
        """Returns how large and how full the filesystem is. Without it everything is said to be zero."""
        raise _missing(request)

    def setxattr(self, request: Request, /) -> Reply[None]:
        """Gives `node` the extended attribute `name` with the value `data`. `flags`: os.XATTR_CREATE (EEXIST),
        os.XATTR_REPLACE (ENODATA). Errors: ENOSPC, E2BIG, EOPNOTSUPP. Without it the kernel does not ask again."""
        raise _missing(request)

    def getxattr(self, request: Request, /) -> Reply[Buffer | int]:
        """Returns the value of the extended attribute `name` of `node`, whatever `size` is: a size of 0 asks how
        long it is, and one that is too small becomes ERANGE. Errors: ENODATA. Without it the kernel does not ask
        again."""
        raise _missing(request)

    def listxattr(self, request: Request, /) -> Reply[Iterable[str | bytes] | Buffer]:
        """Returns the names of the extended attributes of `node`, as an iterable, or as bytes with a NUL behind
        each."""
        raise _missing(request)

    def removexattr(self, request: Request, /) -> Reply[None]:
        """Takes the extended attribute `name` away from `node`. Errors: ENODATA."""
        raise _missing(request)

    # ---- Files ----

    def open(self, request: Request, /) -> Reply[OpenedLike]:
        """Opens the file `node`; `flags` are open(2)'s, without O_CREAT, O_EXCL and O_NOCTTY. Returns None, a number
        that comes back as `fh`, or an Opened with FOPEN_* flags. O_TRUNC is in `flags` only where ATOMIC_O_TRUNC was
        negotiated; else setattr follows. Without it, and without release, the kernel opens files by itself."""
        raise _missing(request)

    def create(self, request: Request, /) -> Reply[EntryLike | tuple[Attr | Entry, OpenedLike]]:
        """Makes the regular file `name` in folder `node` and opens it, in one step. Returns the entry as lookup
        does, or a pair of it and what open returns. Without it the kernel uses mknod and open."""
        raise _missing(request)

    def tmpfile(self, request: Request, /) -> Reply[EntryLike | tuple[Attr | Entry, OpenedLike]]:
        """Makes a file without a name in folder `node` and opens it (O_TMPFILE); link may name it later. Answered as
        create."""
        raise _missing(request)

    def read(self, request: Request, /) -> Reply[Buffer | int]:
        """Returns up to `size` bytes of the file `node` from `offset` on. Fewer end the file, except with
        FOPEN_DIRECT_IO. Any buffer will do; or put the data into request.borrow() and return their number, which
        saves a copy."""
        raise _missing(request)

    def write(self, request: Request, /) -> Reply[int]:
        """Writes `data` at `offset` and returns how many bytes were written. `data` is a memoryview that is valid
        until the answer: copy what is to be kept. With WRITE_CACHE in `op_flags` it comes from the page cache: the
        writer is not known and `fh` may be any handle of the file. Errors: ENOSPC, EFBIG, EDQUOT."""
        raise _missing(request)

    def flush(self, request: Request, /) -> Reply[None]:
        """A descriptor of the open file `fh` is being closed; there may be others. An error is what close(2)
        returns. `lock_owner`: whose POSIX locks go. Without it the kernel does not ask again."""
        raise _missing(request)

    def release(self, request: Request, /) -> Reply[None]:
        """The last descriptor of the open file `fh` is closed. Nobody waits for it, and an error is not reported."""
        raise _missing(request)

    def fsync(self, request: Request, /) -> Reply[None]:
        """Returns when the data of `node` are on stable storage; with FSYNC_FDATASYNC in `op_flags` attributes may
        be left out. An error is what fsync(2) returns. Without it fsync succeeds, and the kernel does not ask again."""
        raise _missing(request)

    def fallocate(self, request: Request, /) -> Reply[None]:
        """Reserves, or with the bits of `mode` frees or zeroes, `size` bytes from `offset` on: fallocate(2)'s.
        EOPNOTSUPP for modes that are not supported."""
        raise _missing(request)

    def lseek(self, request: Request, /) -> Reply[int]:
        """Returns the offset of the next data (`whence` os.SEEK_DATA) or hole (os.SEEK_HOLE) from `offset` on; ENXIO
        behind the end. Without it the kernel takes the file for one that has no holes."""
        raise _missing(request)

    def copy_file_range(self, request: Request, /) -> Reply[int]:
        """Copies up to `size` bytes from `offset` of `node` (`fh`) to `newoffset` of `newnode` (`newfh`) and returns
        their number. Without it, or with EOPNOTSUPP, the kernel reads and writes."""
        raise _missing(request)

    def ioctl(self, request: Request, /) -> Reply[int | Buffer | tuple[int, Buffer] | IoctlRetry | None]:
        """The ioctl `cmd` with the number `arg`; `data` is what the caller gives, `size` the most that may come
        back. Returns the result, the data that the caller gets, or a pair of both. Without it ENOTTY."""
        raise _missing(request)

    def poll(self, request: Request, /) -> Reply[int]:
        """Returns which of `events` (select.POLL*) are ready. With POLL_SCHEDULE_NOTIFY in `op_flags` call
        Connection.notify_poll(`kh`) when that changes. Without it the file is always ready."""
        raise _missing(request)

    def bmap(self, request: Request, /) -> Reply[int]:
        """Returns the block of the device on which block `offset` of the file lies, `size` the block size (fuseblk
        only)."""
        raise _missing(request)

    # ---- Folders ----

    def opendir(self, request: Request, /) -> Reply[OpenedLike]:
        """Opens the folder `node`. Returns as open; None gives each open folder a number of its own."""
        raise _missing(request)

    def readdir(self, request: Request, /) -> Reply[Listing] | AsyncIterable[Listed]:
        """Returns what is in the folder `node`: a mapping of names to Attr, Entry or None (kind unknown), or an
        iterable, also an asynchronous one, of such pairs or of names. It is kept for as long as the folder is open,
        so that offsets stay valid while entries come and go; the handler is called when the folder is read from its
        beginning. "." and ".." are added where they are missing. Bytes are taken for a listing that is encoded
        already, for `offset`, `size`."""
        raise _missing(request)

    def readdirplus(self, request: Request, /) -> Reply[Listing] | AsyncIterable[Listed]:
        """The same with whole entries: each Attr or Entry in the answer counts as a lookup of its node, as many as
        fit. Without it readdir answers, with the names alone."""
        raise _missing(request)

    def releasedir(self, request: Request, /) -> Reply[None]:
        """The open folder `fh` is closed."""
        raise _missing(request)

    def fsyncdir(self, request: Request, /) -> Reply[None]:
        """Returns when the entries of the folder `node` are on stable storage, as fsync does for a file."""
        raise _missing(request)

    # ---- Locks ----

    def getlk(self, request: Request, /) -> Reply[Lock | None]:
        """Returns the Lock that would be in the way of `lock_type` from `lock_start` to `lock_end`, or None. Without
        it, and without POSIX_LOCKS, locks are the kernel's: they hold on this machine."""
        raise _missing(request)

    def setlk(self, request: Request, /) -> Reply[None]:
        """Sets or removes (fcntl.F_UNLCK) a lock of `lock_owner`. EAGAIN if another one is in the way and `waits` is
        False; if it is True wait, and let the interrupt cancel that. LK_FLOCK in `op_flags`: it is flock(2)'s."""
        raise _missing(request)

    # ---- The connection ----

    def interrupt(self, request: Request, /) -> Reply[None]:
        """The client of the open request `id` no longer wants to wait. Its task is cancelled already, where it has
        one. Takes no answer."""
        raise _missing(request)

    def destroy(self, request: Request, /) -> Reply[None]:
        """The filesystem is being unmounted. Linux sends it for fuseblk and virtio-fs only: do not rely on it."""
        raise _missing(request)

    def syncfs(self, request: Request, /) -> Reply[None]:
        """Returns when everything is on stable storage: syncfs(2). Linux sends it for virtio-fs only."""
        raise _missing(request)

    def notify_reply(self, request: Request, /) -> Reply[None]:
        """Brings the cached `data` that Connection.notify_retrieve asked for, from `offset` on; `unique` is the
        number given there. Takes no answer."""
        raise _missing(request)

    def outcome(self, request: Request, /) -> Reply[None]:
        """Says what became of a reply that Connection.expect_outcome named: `error` is 0, or -ENOENT where the
        client had vanished. Takes no answer."""
        raise _missing(request)

    def setupmapping(self, request: Request, /) -> Reply[None]:
        """virtio-fs with DAX: maps a part of a file into the memory window."""
        raise _missing(request)

    def removemapping(self, request: Request, /) -> Reply[None]:
        """virtio-fs with DAX: removes the `mappings`."""
        raise _missing(request)


def _missing(request: Request) -> OSError:
    return OSError(errno.ENOSYS, f"there is no handler for {request.operation}")


def handler_of(filesystem: object, name: str) -> Callable[[Request], Any] | None:
    """The handler that a filesystem has for an operation; what Filesystem only describes is none."""
    handler: Callable[[Request], Any] | None = getattr(filesystem, name, None)
    described = getattr(Filesystem, name, None)
    return None if described is not None and getattr(handler, "__func__", None) is described else handler
