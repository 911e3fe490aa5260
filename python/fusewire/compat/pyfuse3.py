"""The interface of the package pyfuse3, for its programs: `from fusewire.compat import pyfuse3`, or unchanged

    python3 -m fusewire.compat.pyfuse3 PROGRAM ARGUMENTS...

It serves in trio or asyncio, whichever runs main. docs/python/porting-pyfuse3.md says what is different, and how to go
on from here."""

from __future__ import annotations

import errno as errors
import logging
import os
import stat
import sys
import threading
import time
import traceback
from collections.abc import Awaitable, Coroutine
from operator import attrgetter
from types import ModuleType
from typing import Any, Callable, NewType

from .._core import ffi, lib
from ..connection import Connection, mount
from ..constants import (
    FOPEN_DIRECT_IO,
    FOPEN_KEEP_CACHE,
    FOPEN_NONSEEKABLE,
    FSYNC_FDATASYNC,
    ROOT,
    SET_ATIME,
    SET_ATIME_NOW,
    SET_CTIME,
    SET_FH,
    SET_GID,
    SET_MODE,
    SET_MTIME,
    SET_MTIME_NOW,
    SET_SIZE,
    SET_UID,
    Capability,
)
from ..errors import Aborted
from ..request import Request
from ..types import Entry, Opened, Statfs, timeout_parts

__all__ = [
    "ENOATTR",
    "EntryAttributes",
    "FUSEError",
    "FileHandleT",
    "FileInfo",
    "FileNameT",
    "FlagT",
    "InodeT",
    "ModeT",
    "Operations",
    "RENAME_EXCHANGE",
    "RENAME_NOREPLACE",
    "ROOT_INODE",
    "ReaddirToken",
    "RequestContext",
    "SetattrFields",
    "StatvfsData",
    "XAttrNameT",
    "close",
    "default_options",
    "get_sup_groups",
    "getxattr",
    "init",
    "invalidate_entry",
    "invalidate_entry_async",
    "invalidate_inode",
    "listdir",
    "main",
    "notify_store",
    "readdir_reply",
    "setxattr",
    "syncfs",
    "terminate",
    "trio_token",
]

log = logging.getLogger("pyfuse3")

__version__ = "3.4.0"  # the one whose interface this is

InodeT = NewType("InodeT", int)
FileHandleT = NewType("FileHandleT", int)
FlagT = NewType("FlagT", int)
ModeT = NewType("ModeT", int)
FileNameT = NewType("FileNameT", bytes)
XAttrNameT = NewType("XAttrNameT", bytes)

ROOT_INODE = InodeT(ROOT)
ENOATTR = errors.ENODATA
RENAME_NOREPLACE = FlagT(1)
RENAME_EXCHANGE = FlagT(2)

default_options = frozenset(("default_permissions",))

#: Of the trio loop in which main runs, else None.
trio_token: Any = None

_SECOND = 1_000_000_000
_ENTRY = ffi.typeof("fusewire_entry *")


# ---- Values ----


class FUSEError(Exception):
    """An error for the client, by its errno."""

    def __init__(self, errno: int) -> None:
        super().__init__(errno)
        self.errno = self.errno_ = errno

    def __str__(self) -> str:
        return os.strerror(self.errno)


def _field(name: str) -> Any:
    def assign(self: Any, value: int) -> None:
        setattr(self._c.attr, name, value)

    return property(attrgetter(f"_c.attr.{name}"), assign)


def _time(name: str) -> Any:
    parts = attrgetter(f"_c.attr.{name}", f"_c.attr.{name}nsec")

    def read(self: Any) -> int:
        seconds, rest = parts(self)
        return int(seconds * _SECOND + rest)

    def assign(self: Any, value: int) -> None:
        attr = self._c.attr
        seconds, rest = divmod(value, _SECOND)
        setattr(attr, name, seconds)
        setattr(attr, f"{name}nsec", rest)

    return property(read, assign)


def _timeout(name: str) -> Any:
    parts = attrgetter(f"_c.{name}", f"_c.{name}_nsec")

    def read(self: Any) -> float:
        seconds, rest = parts(self)
        return float(seconds + rest / _SECOND)

    def assign(self: Any, value: float) -> None:
        seconds, rest = timeout_parts(value)
        setattr(self._c, name, seconds)
        setattr(self._c, f"{name}_nsec", rest)

    return property(read, assign)


class EntryAttributes(Entry):
    """Attributes, as stat(2) names them, and for how many seconds the kernel may rely on them and on the name."""

    __slots__ = ()

    def __init__(self) -> None:
        self._c = ffi.new(_ENTRY)
        self.entry_default = self.attr_default = False
        self.entry_timeout = self.attr_timeout = 300
        self.st_mode = stat.S_IFREG
        self.st_blksize = 4096
        self.st_nlink = 1

    @property
    def st_ino(self) -> int:
        """The inode, by which requests will name it."""
        return int(self._c.nodeid)

    @st_ino.setter
    def st_ino(self, value: int) -> None:
        self._c.nodeid = self._c.attr.ino = value

    st_mode = _field("mode")
    st_nlink = _field("nlink")
    st_uid = _field("uid")
    st_gid = _field("gid")
    st_rdev = _field("rdev")
    st_size = _field("size")
    st_blksize = _field("blksize")
    st_blocks = _field("blocks")
    st_atime_ns = _time("atime")
    st_mtime_ns = _time("mtime")
    st_ctime_ns = _time("ctime")
    entry_timeout = _timeout("entry_valid")
    attr_timeout = _timeout("attr_valid")

    @property
    def st_birthtime_ns(self) -> int:
        """Not on Linux."""
        return 0

    @st_birthtime_ns.setter
    def st_birthtime_ns(self, value: int) -> None:
        pass

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _ENTRY_STATE}

    def __reduce__(self) -> Any:
        return EntryAttributes, (), self.__getstate__()

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)


_ENTRY_STATE = (
    "st_ino generation entry_timeout attr_timeout st_mode st_nlink st_uid st_gid st_rdev st_size st_blksize st_blocks "
    "st_atime_ns st_ctime_ns st_mtime_ns st_birthtime_ns"
).split()


class FileInfo:
    """An open file: its handle, and how the kernel is to treat it."""

    def __init__(
        self, fh: int = 0, direct_io: bool = False, keep_cache: bool = True, nonseekable: bool = False
    ) -> None:
        self.fh = fh
        self.direct_io = direct_io
        self.keep_cache = keep_cache
        self.nonseekable = nonseekable

    def _opened(self) -> Opened:
        flags = FOPEN_DIRECT_IO if self.direct_io else 0
        flags |= FOPEN_KEEP_CACHE if self.keep_cache else 0
        flags |= FOPEN_NONSEEKABLE if self.nonseekable else 0
        return Opened(self.fh, flags)


class StatvfsData:
    """What statvfs(3) says."""

    def __init__(self) -> None:
        self.f_bsize = self.f_frsize = self.f_blocks = self.f_bfree = self.f_bavail = 0
        self.f_files = self.f_ffree = self.f_favail = self.f_namemax = 0


class RequestContext:
    """Who asks."""

    __slots__ = ("uid", "gid", "pid", "umask")

    def __init__(self, request: Request) -> None:
        self.uid = request.uid
        self.gid = request.gid
        self.pid = request.pid
        self.umask = request.umask


class SetattrFields:
    """Which attributes setattr is to change."""

    def __init__(self, valid: int = 0) -> None:
        self.update_atime = bool(valid & (SET_ATIME | SET_ATIME_NOW))
        self.update_mtime = bool(valid & (SET_MTIME | SET_MTIME_NOW))
        self.update_ctime = bool(valid & SET_CTIME)
        self.update_mode = bool(valid & SET_MODE)
        self.update_uid = bool(valid & SET_UID)
        self.update_gid = bool(valid & SET_GID)
        self.update_size = bool(valid & SET_SIZE)


class ReaddirToken:
    """Where readdir_reply puts entries."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._buffer: Any = ffi.new("char[]", size)
        self._used = 0


def readdir_reply(token: ReaddirToken, name: bytes, attr: EntryAttributes, next_id: int) -> bool:
    """Adds an entry to what readdir answers; `next_id` is where to go on behind it. True counts as a lookup of its
    inode; False says that it does not fit any more."""
    entry = attr._c
    if name in (b".", b".."):
        entry = ffi.new(_ENTRY, attr._c[0])
        entry.nodeid = 0  # these count no lookup
    end = lib.fusewire_direntplus(token._buffer, token._size, token._used, entry, next_id, name, len(name))
    if end == -errors.ENOBUFS:
        return False
    if end < 0:
        raise ValueError(f"{name!r} cannot be the name of a directory entry")
    token._used = end
    return True


# ---- Operations ----


def _lacking(name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
    async def method(self: Operations, *arguments: Any) -> Any:
        raise FUSEError(errors.ENOSYS)

    method.__name__ = name
    return method


class Operations:
    """The base class of a filesystem: methods that a subclass does not override are answered with ENOSYS. Names are
    bytes, `ctx` is a RequestContext, and what comes without an explanation returns nothing.

    lookup(parent_inode, name, ctx), getattr(inode, ctx), setattr(inode, attr, fields, fh, ctx),
    mknod(parent_inode, name, mode, rdev, ctx), mkdir(parent_inode, name, mode, ctx),
    symlink(parent_inode, name, target, ctx) and link(inode, new_parent_inode, new_name, ctx) return EntryAttributes;
    open(inode, flags, ctx) a FileInfo, create(parent_inode, name, mode, flags, ctx) a FileInfo and EntryAttributes;
    opendir(inode, ctx) a number; read(fh, off, size) and readlink(inode, ctx) bytes; write(fh, off, buf) a number;
    readdir(fh, start_id, token) calls readdir_reply; statfs(ctx) StatvfsData; access(inode, mode, ctx) a bool;
    getxattr(inode, name, ctx) bytes; listxattr(inode, ctx) a sequence of bytes. Further forget(inode_list),
    unlink(parent_inode, name, ctx), rmdir(parent_inode, name, ctx), rename(parent_inode_old, name_old,
    parent_inode_new, name_new, flags, ctx), flush(fh), release(fh), fsync(fh, datasync), releasedir(fh),
    fsyncdir(fh, datasync), setxattr(inode, name, value, ctx), removexattr(inode, name, ctx)."""

    supports_dot_lookup = True
    enable_writeback_cache = False
    enable_acl = False

    def init(self) -> None:
        """Called before the first request is handled."""

    async def forget(self, inode_list: Any) -> None:
        """Takes lookups back: pairs of inodes and numbers."""

    def stacktrace(self) -> None:
        """Logs what every thread is doing."""
        for number, frame in sys._current_frames().items():
            log.error("thread %d:\n%s", number, "".join(traceback.format_stack(frame)))

    lookup = _lacking("lookup")
    getattr = _lacking("getattr")
    setattr = _lacking("setattr")
    readlink = _lacking("readlink")
    mknod = _lacking("mknod")
    mkdir = _lacking("mkdir")
    unlink = _lacking("unlink")
    rmdir = _lacking("rmdir")
    symlink = _lacking("symlink")
    rename = _lacking("rename")
    link = _lacking("link")
    open = _lacking("open")
    read = _lacking("read")
    write = _lacking("write")
    flush = _lacking("flush")
    release = _lacking("release")
    fsync = _lacking("fsync")
    opendir = _lacking("opendir")
    readdir = _lacking("readdir")
    releasedir = _lacking("releasedir")
    fsyncdir = _lacking("fsyncdir")
    statfs = _lacking("statfs")
    setxattr = _lacking("setxattr")
    getxattr = _lacking("getxattr")
    listxattr = _lacking("listxattr")
    removexattr = _lacking("removexattr")
    access = _lacking("access")
    create = _lacking("create")


class _Handlers:
    """The handlers that are served, for the operations that there are."""

    def __init__(self, operations: Any) -> None:
        self._operations = operations

    def __getattr__(self, operation: str) -> Callable[[Request], Coroutine[Any, Any, Any]]:
        handler: Any = getattr(type(self), f"_{operation}", None)
        # Folders are always read with attributes.
        name = "readdir" if operation == "readdirplus" else operation
        method = getattr(self._operations, name, None)
        if handler is None or getattr(method, "__func__", method) in (None, getattr(Operations, name, None)):
            raise AttributeError(operation)
        return lambda request: _answer(handler(self, self._operations, request))

    async def _lookup(self, operations: Any, request: Request) -> Any:
        return await operations.lookup(request.node, os.fsencode(request.name), RequestContext(request))

    async def _forget(self, operations: Any, request: Request) -> None:
        await operations.forget(list(request.forgets))

    async def _getattr(self, operations: Any, request: Request) -> Any:
        return await operations.getattr(request.node, RequestContext(request))

    async def _setattr(self, operations: Any, request: Request) -> Any:
        valid, attr = request.valid, EntryAttributes()
        attr.st_ino = request.node
        attr.st_mode, attr.st_uid, attr.st_gid = request.mode, request.set_uid, request.set_gid
        attr.st_size = request.size if valid & SET_SIZE else 0
        now = time.time_ns()
        attr.st_atime_ns = now if valid & SET_ATIME_NOW else request.atime_ns
        attr.st_mtime_ns = now if valid & SET_MTIME_NOW else request.mtime_ns
        attr.st_ctime_ns = request.ctime_ns
        fh = request.fh if valid & SET_FH else None
        return await operations.setattr(request.node, attr, SetattrFields(valid), fh, RequestContext(request))

    async def _readlink(self, operations: Any, request: Request) -> Any:
        return await operations.readlink(request.node, RequestContext(request))

    async def _mknod(self, operations: Any, request: Request) -> Any:
        name, context = os.fsencode(request.name), RequestContext(request)
        return await operations.mknod(request.node, name, request.mode, request.rdev, context)

    async def _mkdir(self, operations: Any, request: Request) -> Any:
        mode = stat.S_IFDIR | stat.S_IMODE(request.mode)
        return await operations.mkdir(request.node, os.fsencode(request.name), mode, RequestContext(request))

    async def _unlink(self, operations: Any, request: Request) -> None:
        await operations.unlink(request.node, os.fsencode(request.name), RequestContext(request))

    async def _rmdir(self, operations: Any, request: Request) -> None:
        await operations.rmdir(request.node, os.fsencode(request.name), RequestContext(request))

    async def _symlink(self, operations: Any, request: Request) -> Any:
        name, target = os.fsencode(request.name), os.fsencode(request.newname)
        return await operations.symlink(request.node, name, target, RequestContext(request))

    async def _rename(self, operations: Any, request: Request) -> None:
        old, new = os.fsencode(request.name), os.fsencode(request.newname)
        await operations.rename(request.node, old, request.newnode, new, request.flags, RequestContext(request))

    async def _link(self, operations: Any, request: Request) -> Any:
        return await operations.link(request.newnode, request.node, os.fsencode(request.name), RequestContext(request))

    async def _open(self, operations: Any, request: Request) -> Opened:
        file: FileInfo = await operations.open(request.node, request.flags, RequestContext(request))
        return file._opened()

    async def _create(self, operations: Any, request: Request) -> tuple[Any, Opened]:
        name, context = os.fsencode(request.name), RequestContext(request)
        file, attr = await operations.create(request.node, name, request.mode, request.flags, context)
        return attr, file._opened()

    async def _read(self, operations: Any, request: Request) -> Any:
        return await operations.read(request.fh, request.offset, request.size)

    async def _write(self, operations: Any, request: Request) -> Any:
        return await operations.write(request.fh, request.offset, bytes(request.data))

    async def _flush(self, operations: Any, request: Request) -> None:
        await operations.flush(request.fh)

    async def _release(self, operations: Any, request: Request) -> None:
        await operations.release(request.fh)

    async def _fsync(self, operations: Any, request: Request) -> None:
        await operations.fsync(request.fh, bool(request.op_flags & FSYNC_FDATASYNC))

    async def _opendir(self, operations: Any, request: Request) -> Any:
        return await operations.opendir(request.node, RequestContext(request))

    async def _readdirplus(self, operations: Any, request: Request) -> bytes:
        token = ReaddirToken(request.size)
        await operations.readdir(request.fh, request.offset, token)
        return bytes(ffi.buffer(token._buffer, token._used))

    async def _releasedir(self, operations: Any, request: Request) -> None:
        await operations.releasedir(request.fh)

    async def _fsyncdir(self, operations: Any, request: Request) -> None:
        await operations.fsyncdir(request.fh, bool(request.op_flags & FSYNC_FDATASYNC))

    async def _statfs(self, operations: Any, request: Request) -> Statfs:
        found: StatvfsData = await operations.statfs(RequestContext(request))
        return Statfs(
            found.f_blocks,
            found.f_bfree,
            found.f_bavail,
            found.f_files,
            found.f_ffree,
            found.f_bsize,
            found.f_namemax,
            found.f_frsize,
        )

    async def _setxattr(self, operations: Any, request: Request) -> None:
        node, name, value = request.node, os.fsencode(request.name), bytes(request.data)
        context, flags = RequestContext(request), request.flags
        if flags & (os.XATTR_CREATE | os.XATTR_REPLACE):
            try:
                await operations.getxattr(node, name, context)
            except FUSEError as error:
                if error.errno != ENOATTR or flags & os.XATTR_REPLACE:
                    raise
            else:
                if flags & os.XATTR_CREATE:
                    raise FUSEError(errors.EEXIST)
        await operations.setxattr(node, name, value, context)

    async def _getxattr(self, operations: Any, request: Request) -> Any:
        return await operations.getxattr(request.node, os.fsencode(request.name), RequestContext(request))

    async def _listxattr(self, operations: Any, request: Request) -> Any:
        return await operations.listxattr(request.node, RequestContext(request))

    async def _removexattr(self, operations: Any, request: Request) -> None:
        await operations.removexattr(request.node, os.fsencode(request.name), RequestContext(request))

    async def _access(self, operations: Any, request: Request) -> None:
        if not await operations.access(request.node, request.mode, RequestContext(request)):
            raise FUSEError(errors.EACCES)


async def _answer(answering: Awaitable[Any]) -> Any:
    try:
        return await answering
    except FUSEError as error:
        raise OSError(error.errno, str(error)) from None


# ---- The mount, of which there is one ----


class _Mount:
    def __init__(self, connection: Connection, operations: Any) -> None:
        self.connection = connection
        self.operations = operations
        self.thread = 0
        #: Hands a call to the thread in which main runs.
        self.soon: Callable[..., Any] | None = None


_mounted: _Mount | None = None


def _current() -> _Mount:
    if _mounted is None:
        raise RuntimeError("init() has to be called first")
    return _mounted


def init(ops: Any, mountpoint: str, options: Any = default_options) -> None:
    """Mounts `ops` on `mountpoint`; main serves it. `options` are a set of texts, as mount(8) takes after -o."""
    global _mounted
    if not isinstance(mountpoint, str):
        raise TypeError("mountpoint has to be a str")
    if _mounted is not None:
        raise RuntimeError("there is a mount already: close() it first")
    options = set(options)
    if "debug" in options:
        options.discard("debug")
        logging.getLogger("fusewire").setLevel(logging.DEBUG)
    wanted = [Capability.DO_READDIRPLUS]
    if getattr(ops, "supports_dot_lookup", True):
        wanted.append(Capability.EXPORT_SUPPORT)
    if getattr(ops, "enable_writeback_cache", False):
        wanted.append(Capability.WRITEBACK_CACHE)
    if getattr(ops, "enable_acl", False):
        wanted.append(Capability.POSIX_ACL)
    try:
        connection = mount(os.path.abspath(mountpoint), options=",".join(sorted(options)), capabilities=wanted)
    except (OSError, ValueError) as error:
        raise RuntimeError(getattr(error, "strerror", None) or str(error)) from error
    _mounted = _Mount(connection, ops)


async def main(min_tasks: int = 1, max_tasks: int = 99) -> None:
    """Serves, in trio or asyncio, until the filesystem is unmounted or terminate is called. The numbers of tasks mean
    nothing here: each request that waits has a task."""
    global trio_token
    mounted = _current()
    mounted.thread = threading.get_ident()
    trio_token = _trio_token()
    mounted.soon = _asyncio_loop().call_soon_threadsafe if trio_token is None else trio_token.run_sync_soon
    mounted.operations.init()
    try:
        await mounted.connection.serve(_Handlers(mounted.operations))
    except Aborted:
        pass  # an unmount by force
    finally:
        trio_token = mounted.soon = None


def _trio_token() -> Any:
    trio = sys.modules.get("trio")
    if trio is not None:
        try:
            return trio.lowlevel.current_trio_token()
        except RuntimeError:
            pass
    return None


def _asyncio_loop() -> Any:
    from asyncio import get_running_loop

    return get_running_loop()


def terminate() -> None:
    """Ends main. From any thread."""
    _current().connection.stop()


def close(unmount: bool = True) -> None:
    """Unmounts, and frees everything; a mount that nobody serves is never left behind, whatever `unmount` says."""
    global _mounted
    mounted, _mounted = _mounted, None
    if mounted is not None:
        mounted.connection.close()


def _notify(name: str, *arguments: Any) -> None:
    """Calls a method of the connection in the thread to which it belongs."""
    mounted = _current()
    method = getattr(mounted.connection, name)
    if mounted.soon is None or mounted.thread == threading.get_ident():
        method(*arguments)
        return

    def later() -> None:
        try:
            method(*arguments)
        except (OSError, ValueError) as error:
            log.error("%s: %s", name, error)

    mounted.soon(later)


def invalidate_inode(inode: int, attr_only: bool = False) -> None:
    """Drops what the kernel has cached of the inode. It does not wait until that is done."""
    _notify("notify_inval_inode", inode, -1 if attr_only else 0, 0)


def invalidate_entry(inode_p: int, name: bytes, deleted: int = 0) -> None:
    """Drops a cached name; with `deleted`, its inode, those who watch it hear that it was deleted. It does not wait
    until that is done, and can be called within a request."""
    if deleted:
        _notify("notify_delete", inode_p, deleted, os.fsdecode(name))
    else:
        _notify("notify_inval_entry", inode_p, os.fsdecode(name))


def invalidate_entry_async(inode_p: int, name: bytes, deleted: int = 0, ignore_enoent: bool = False) -> None:
    """The same."""
    invalidate_entry(inode_p, name, deleted)


def notify_store(inode: int, offset: int, data: Any) -> None:
    """Puts data into the kernel's cache."""
    _notify("notify_store", inode, offset, data)


# ---- Not about FUSE ----


def listdir(path: str) -> list[str]:
    return os.listdir(path)


def syncfs(path: str) -> None:
    """syncfs(2)"""
    import ctypes

    fd = os.open(path, os.O_DIRECTORY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(fd):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), path)
    finally:
        os.close(fd)


def setxattr(path: str, name: str, value: bytes, namespace: str = "user") -> None:
    os.setxattr(path, name, value)


def getxattr(path: str, name: str, size_guess: int = 128, namespace: str = "user") -> bytes:
    return os.getxattr(path, name)


def get_sup_groups(pid: int) -> set[int]:
    """The supplementary groups of a process."""
    with open(f"/proc/{pid}/status") as status:
        for line in status:
            if line.startswith("Groups:"):
                return {int(group) for group in line.split()[1:]}
    raise RuntimeError(f"/proc/{pid}/status says nothing of groups")


def _nothing() -> None:
    """main finds out by itself what runs it."""


#: The module pyfuse3.asyncio.
asyncio = ModuleType("pyfuse3.asyncio")
asyncio.enable = asyncio.disable = _nothing  # type: ignore[attr-defined]


if __name__ == "__main__":
    from fusewire.compat import _program, pyfuse3

    _program.run(
        "fusewire.compat.pyfuse3",
        {"pyfuse3": pyfuse3, "pyfuse3.asyncio": pyfuse3.asyncio, "pyfuse3_asyncio": pyfuse3.asyncio},
    )
