"""Results into replies: for each opcode the function that turns what a handler returned into the reply that the kernel
expects. A result of the wrong kind raises TypeError or ValueError, and the request stays open."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Callable

from ._core import ffi, lib
from .constants import FOPEN_PASSTHROUGH, IOCTL_UNRESTRICTED, Opcode
from .directory import Listing
from .errors import refused
from .request import Request
from .types import Attr, Entry, IoctlRetry, Lock, Opened, Statfs, Statx

if TYPE_CHECKING:
    from .connection import Connection

Encoder = Callable[["Connection", Request, Any], None]

_STATFS = ffi.typeof("fusewire_statfs *")
_LOCK = ffi.typeof("fusewire_lock *")
_PIECES = ffi.typeof("fusewire_iovec[]")
_UNLOCKED = Lock(fcntl.F_UNLCK)


def nonsense(request: Request, result: object, wanted: str) -> TypeError:
    return TypeError(f"{request.operation} returned {result!r}; it has to be {wanted}")


def entry_of(connection: Connection, target: Attr | Entry) -> Any:
    """The C entry of an Attr or Entry, with the connection's timeouts where the entry has none of its own. It is valid
    until the next call."""
    if target.__class__ is Attr:
        entry = connection._entry
        entry.nodeid = target._c.ino
        entry.attr = target._c[0]
        return entry
    entry = target._c
    defaults = connection._entry
    if target.entry_default:  # type: ignore[union-attr]
        entry.entry_valid, entry.entry_valid_nsec = defaults.entry_valid, defaults.entry_valid_nsec
    if target.attr_default:  # type: ignore[union-attr]
        entry.attr_valid, entry.attr_valid_nsec = defaults.attr_valid, defaults.attr_valid_nsec
    return entry


def reply_none(connection: Connection, request: Request, result: Any) -> None:
    """Of messages that take no answer."""
    if result is not None:
        raise nonsense(request, result, "None")
    request._open = False


def reply_ok(connection: Connection, request: Request, result: Any) -> None:
    if result is not None:
        raise nonsense(request, result, "None")
    if request._views is not None:
        request._release()
    code = lib.fusewire_reply_ok(connection._handle, request._record.id)
    if code:
        raise refused(code)
    request._open = False


def reply_attr(connection: Connection, request: Request, result: Any) -> None:
    if result.__class__ is Attr:
        defaults = connection._entry
        code = lib.fusewire_reply_attr(
            connection._handle, request._record.id, defaults.attr_valid, defaults.attr_valid_nsec, result._c
        )
    elif isinstance(result, (Attr, Entry)):
        entry = entry_of(connection, result if isinstance(result, Entry) else Entry(result))
        attr = ffi.addressof(entry, "attr")
        code = lib.fusewire_reply_attr(
            connection._handle, request._record.id, entry.attr_valid, entry.attr_valid_nsec, attr
        )
    else:
        raise nonsense(request, result, "an Attr, or an Entry with an attr_timeout")
    if code:
        raise refused(code)
    request._open = False


def reply_entry(connection: Connection, request: Request, result: Any) -> None:
    if not isinstance(result, (Attr, Entry)):
        raise nonsense(request, result, "an Attr or an Entry")
    code = lib.fusewire_reply_entry(connection._handle, request._record.id, entry_of(connection, result))
    if code:
        raise refused(code)
    request._open = False


def _opened(request: Request, result: Any) -> tuple[int, int, int]:
    if result is None:
        return 0, 0, 0
    if isinstance(result, int):
        return result, 0, 0
    if isinstance(result, tuple) and 1 <= len(result) <= 3:
        fh, flags, backing_id = Opened(*result)
        # A backing id without the flag would be forgotten silently, and the file's data with it.
        return fh, flags | FOPEN_PASSTHROUGH if backing_id else flags, backing_id
    raise nonsense(request, result, "a file handle, an Opened or None")


def reply_open(connection: Connection, request: Request, result: Any) -> None:
    fh, flags, backing_id = _opened(request, result)
    code = lib.fusewire_reply_open(connection._handle, request._record.id, fh, flags, backing_id)
    if code:
        raise refused(code)
    request._open = False


def reply_create(connection: Connection, request: Request, result: Any) -> None:
    target, opened = result if isinstance(result, tuple) and len(result) == 2 else (result, None)
    if not isinstance(target, (Attr, Entry)):
        raise nonsense(request, result, "an Attr or Entry, or a pair of it and what open returns")
    fh, flags, backing_id = _opened(request, opened)
    entry = entry_of(connection, target)
    code = lib.fusewire_reply_create(connection._handle, request._record.id, entry, fh, flags, backing_id)
    if code:
        raise refused(code)
    request._open = False


def _is_borrowed(request: Request, data: Any) -> bool:
    """Is it a slice of request.borrow() that begins where that memory begins?"""
    if not isinstance(data, memoryview):
        return False
    buffers = [buffer for view, buffer in request._views or () if not view.readonly and buffer is data.obj]
    return bool(buffers) and ffi.from_buffer(data) == ffi.from_buffer(buffers[0])


def _send_data(connection: Connection, request: Request, data: Any) -> None:
    """Bytes, or the number of bytes that were put into request.borrow()."""
    record = request._record
    if data.__class__ is bytes:
        if request._views is not None:
            request._release()
        code = lib.fusewire_reply_data(connection._handle, record.id, data, len(data))
    elif request._views is not None and (isinstance(data, int) or _is_borrowed(request, data)):
        if not isinstance(data, int):
            size = data.nbytes
            data.release()
            data = size
        request._release()
        code = lib.fusewire_reply_borrowed(connection._handle, record.id, data)
    else:
        try:
            buffer = ffi.from_buffer(data)
        except TypeError:
            raise nonsense(request, data, "bytes or another buffer") from None
        if request._views is not None:
            request._release()
        code = lib.fusewire_reply_data(connection._handle, record.id, buffer, len(buffer))
    if code:
        raise refused(code)
    request._open = False


def reply_text(connection: Connection, request: Request, result: Any) -> None:
    if isinstance(result, (str, os.PathLike)):
        result = os.fsencode(result)
    _send_data(connection, request, result)


def _send_value(connection: Connection, request: Request, value: Any) -> None:
    """An extended attribute, or its size where that is what is asked for."""
    if request._record.length == 0:
        size = value if isinstance(value, int) else memoryview(value).nbytes
        code = lib.fusewire_reply_xattr_size(connection._handle, request._record.id, size)
        if code:
            raise refused(code)
        request._open = False
    else:
        if not isinstance(value, int) and memoryview(value).nbytes > request._record.length:
            connection.reply_error(request, errno.ERANGE)
            return
        _send_data(connection, request, value)


def reply_getxattr(connection: Connection, request: Request, result: Any) -> None:
    _send_value(connection, request, result)


def reply_listxattr(connection: Connection, request: Request, result: Any) -> None:
    if not isinstance(result, (bytes, bytearray, memoryview, int)):
        if isinstance(result, str) or not isinstance(result, Iterable):
            raise nonsense(request, result, "an iterable of names, or bytes")
        result = b"".join([os.fsencode(name) + b"\0" for name in result])
    _send_value(connection, request, result)


def reply_write(connection: Connection, request: Request, result: Any) -> None:
    if not isinstance(result, int):
        raise nonsense(request, result, "the number of bytes")
    if request._views is not None:
        request._release()
    code = lib.fusewire_reply_write(connection._handle, request._record.id, result)
    if code:
        raise refused(code)
    request._open = False


def reply_statfs(connection: Connection, request: Request, result: Any) -> None:
    if isinstance(result, os.statvfs_result):
        s = result
        result = Statfs(s.f_blocks, s.f_bfree, s.f_bavail, s.f_files, s.f_ffree, s.f_bsize, s.f_namemax, s.f_frsize)
    if not isinstance(result, Statfs):
        raise nonsense(request, result, "a Statfs or an os.statvfs_result")
    code = lib.fusewire_reply_statfs(connection._handle, request._record.id, ffi.new(_STATFS, (*result, 0)))
    if code:
        raise refused(code)
    request._open = False


def reply_lock(connection: Connection, request: Request, result: Any) -> None:
    lock = _UNLOCKED if result is None else result
    if not isinstance(lock, Lock):
        raise nonsense(request, result, "the Lock that is in the way, or None")
    value = ffi.new(_LOCK, (lock.start, lock.end, lock.type, lock.pid))
    code = lib.fusewire_reply_lock(connection._handle, request._record.id, value)
    if code:
        raise refused(code)
    request._open = False


def _reply_number(function: Any, wanted: str) -> Encoder:
    def encode(connection: Connection, request: Request, result: Any) -> None:
        if not isinstance(result, int):
            raise nonsense(request, result, wanted)
        code = function(connection._handle, request._record.id, result)
        if code:
            raise refused(code)
        request._open = False

    return encode


def reply_ioctl(connection: Connection, request: Request, result: Any) -> None:
    if isinstance(result, IoctlRetry):
        if not request.op_flags & IOCTL_UNRESTRICTED:
            raise nonsense(request, result, "no IoctlRetry, since it is not an unrestricted one")
        read = ffi.new(_PIECES, [(ffi.cast("void *", address), size) for address, size in result.read])
        write = ffi.new(_PIECES, [(ffi.cast("void *", address), size) for address, size in result.write])
        if request._views is not None:
            request._release()
        code = lib.fusewire_reply_ioctl_retry(
            connection._handle, request._record.id, read, len(result.read), write, len(result.write)
        )
    else:
        number, data = (0, b"") if result is None else (result, b"") if isinstance(result, int) else (0, result)
        if isinstance(result, tuple) and len(result) == 2:
            number, data = result
        try:
            data = bytes(memoryview(data))
        except TypeError:
            raise nonsense(request, result, "the result, bytes, a pair of both, or an IoctlRetry") from None
        if request._views is not None:
            request._release()
        code = lib.fusewire_reply_ioctl(connection._handle, request._record.id, number, data, len(data))
    if code:
        raise refused(code)
    request._open = False


def reply_statx(connection: Connection, request: Request, result: Any) -> None:
    if isinstance(result, Attr):
        result = Statx(result)
    if not isinstance(result, Statx):
        raise nonsense(request, result, "a Statx or an Attr")
    defaults = connection._entry
    code = lib.fusewire_reply_statx(
        connection._handle, request._record.id, defaults.attr_valid, defaults.attr_valid_nsec, result._c
    )
    if code:
        raise refused(code)
    request._open = False


def reply_readdir(connection: Connection, request: Request, result: Any) -> None:
    """A Listing, or what one is made from; bytes are a listing that is encoded already."""
    if isinstance(result, (bytes, bytearray, memoryview)):
        _send_data(connection, request, result)
        return
    listing = result if isinstance(result, Listing) else Listing(result, request.node)
    size = request._record.length
    buffer = connection._directory_buffer(size)
    _send_listing(connection, request, buffer, listing.pack(buffer, size, request._record.offset))


def _reply_readdirplus(connection: Connection, request: Request, result: Any, counted: bool) -> None:
    if isinstance(result, (bytes, bytearray, memoryview)):
        _send_data(connection, request, result)
        return
    listing = result if isinstance(result, Listing) else Listing(result, request.node)
    size = request._record.length
    buffer = connection._directory_buffer(size)
    entry = (lambda target: entry_of(connection, target)) if counted else None
    _send_listing(connection, request, buffer, listing.pack_plus(buffer, size, request._record.offset, entry))


def reply_readdirplus(connection: Connection, request: Request, result: Any) -> None:
    _reply_readdirplus(connection, request, result, True)


def reply_readdirplus_bare(connection: Connection, request: Request, result: Any) -> None:
    """READDIRPLUS answered by a readdir handler: the names alone, since each full entry would be a lookup."""
    _reply_readdirplus(connection, request, result, False)


def _send_listing(connection: Connection, request: Request, buffer: Any, used: int) -> None:
    code = lib.fusewire_reply_data(connection._handle, request._record.id, buffer, used)
    if code:
        raise refused(code)
    request._open = False


#: For each opcode the encoder of its handler's result.
ENCODERS: dict[int, Encoder] = {
    int(opcode): encoder
    for opcode, encoder in {
        Opcode.LOOKUP: reply_entry,
        Opcode.FORGET: reply_none,
        Opcode.GETATTR: reply_attr,
        Opcode.SETATTR: reply_attr,
        Opcode.READLINK: reply_text,
        Opcode.SYMLINK: reply_entry,
        Opcode.MKNOD: reply_entry,
        Opcode.MKDIR: reply_entry,
        Opcode.UNLINK: reply_ok,
        Opcode.RMDIR: reply_ok,
        Opcode.RENAME: reply_ok,
        Opcode.LINK: reply_entry,
        Opcode.OPEN: reply_open,
        Opcode.READ: _send_data,
        Opcode.WRITE: reply_write,
        Opcode.STATFS: reply_statfs,
        Opcode.RELEASE: reply_ok,
        Opcode.FSYNC: reply_ok,
        Opcode.SETXATTR: reply_ok,
        Opcode.GETXATTR: reply_getxattr,
        Opcode.LISTXATTR: reply_listxattr,
        Opcode.REMOVEXATTR: reply_ok,
        Opcode.FLUSH: reply_ok,
        Opcode.OPENDIR: reply_open,
        Opcode.READDIR: reply_readdir,
        Opcode.RELEASEDIR: reply_ok,
        Opcode.FSYNCDIR: reply_ok,
        Opcode.GETLK: reply_lock,
        Opcode.SETLK: reply_ok,
        Opcode.SETLKW: reply_ok,
        Opcode.ACCESS: reply_ok,
        Opcode.CREATE: reply_create,
        Opcode.INTERRUPT: reply_none,
        Opcode.BMAP: _reply_number(lib.fusewire_reply_bmap, "a block number"),
        Opcode.DESTROY: reply_ok,
        Opcode.IOCTL: reply_ioctl,
        Opcode.POLL: _reply_number(lib.fusewire_reply_poll, "the events that are ready"),
        Opcode.NOTIFY_REPLY: reply_none,
        Opcode.BATCH_FORGET: reply_none,
        Opcode.FALLOCATE: reply_ok,
        Opcode.READDIRPLUS: reply_readdirplus,
        Opcode.RENAME2: reply_ok,
        Opcode.LSEEK: _reply_number(lib.fusewire_reply_lseek, "an offset"),
        Opcode.COPY_FILE_RANGE: reply_write,
        Opcode.SETUPMAPPING: reply_ok,
        Opcode.REMOVEMAPPING: reply_ok,
        Opcode.SYNCFS: reply_ok,
        Opcode.TMPFILE: reply_create,
        Opcode.STATX: reply_statx,
        Opcode.COPY_FILE_RANGE_64: reply_write,
        Opcode.OUTCOME: reply_none,
    }.items()
}
