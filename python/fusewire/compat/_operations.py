"""An operations object, as fusepy's FUSE takes one, behind the handlers that fusewire serves."""

from __future__ import annotations

import ctypes
import errno
import inspect
import itertools
import logging
import os
import stat
import sys
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from ..constants import FOPEN_DIRECT_IO, FOPEN_KEEP_CACHE, FOPEN_NONSEEKABLE
from ..paths import PathHandlers, _Node, current_request, nanoseconds
from ..request import Request
from ..types import Attr, Entry, Opened, Statfs

log = logging.getLogger("fuse")

_SECOND = 1_000_000_000

#: The operations that count only where the object has a method of its own for them: what a default would answer is what
#: the kernel assumes where there is none, without asking again.
ASSUMED = frozenset(
    (
        "access",
        "flush",
        "fsync",
        "fsyncdir",
        "getxattr",
        "init",
        "ioctl",
        "open",
        "opendir",
        "release",
        "releasedir",
        "removexattr",
        "setxattr",
        "statfs",
    )
)


class fuse_file_info:
    """An open file, with raw_fi=True: open and create get one and set `fh` and the flags."""

    def __init__(self, flags: int = 0) -> None:
        self.flags = flags
        self.fh = 0
        self.direct_io = 0
        self.keep_cache = 0
        self.nonseekable = 0
        self.flush = 0
        self.lock_owner = 0


class Settings(SimpleNamespace):
    """What libfuse does between the kernel and the operations, by its options."""

    use_ino = False
    direct_io = False
    kernel_cache = False
    hard_remove = False
    attr_timeout = 1.0
    entry_timeout = 1.0
    negative_timeout = 0.0
    uid: int | None = None
    gid: int | None = None
    umask: int | None = None


class Adapter:
    """The methods of a PathFilesystem. Those that the operations lack are None."""

    def __init__(self, fuse: Any, operations: Any, settings: Settings) -> None:
        self.settings = settings
        self.use_ino = settings.use_ino
        self._fuse = fuse
        self._operations = operations
        self._use_ns = bool(getattr(operations, "use_ns", False))
        self._own_coding = None
        if (fuse.encoding.lower().replace("_", "-"), fuse.errors) != (sys.getfilesystemencoding(), "surrogateescape"):
            self._own_coding = fuse.encoding, fuse.errors
        # What the operations' numbers and objects are known as to the kernel: theirs may be zero, or not be unique.
        self._numbers = itertools.count(1)
        self._files: dict[int, Any] = {}
        self._folders: dict[int, Any] = {}
        self._create_takes_flags = fuse.CREATE_TAKES_FLAGS and (
            not self.has("create") or len(inspect.signature(operations.create).parameters) != 2
        )
        self._lists_from = "readdir_with_offset" if self.has("readdir_with_offset") else "readdir"
        # Open and release are always there: what is open has to be known where it is unlinked.
        for name in vars(Adapter):
            if name[0] != "_" and name not in ("has", "call", "open", "release", "readdir"):
                if not self.has(name):
                    setattr(self, name, None)
        if not self.has(self._lists_from):
            self.readdir = None  # type: ignore[assignment]

    def has(self, name: str) -> bool:
        method = getattr(self._operations, name, None)
        if method is None or getattr(method, "libfuse_ignore", False):
            return False
        return not self._fuse.is_default(self._operations, name, getattr(method, "__func__", method))

    def call(self, name: str, *arguments: Any) -> Any:
        """Calls an operation. A negative result is an errno, and what cannot be one is EINVAL."""
        operations = self._operations
        through_call = self._fuse.CALLS_OPERATIONS and callable(operations)
        try:
            result = operations(name, *arguments) if through_call else getattr(operations, name)(*arguments)
            if name in ("readdir", "readdir_with_offset"):
                result = list(result)
        except OSError as error:
            if isinstance(error.errno, int) and error.errno > 0:
                log.debug("%s: %s", name, error)
                raise
            log.error("%s failed without an errno", name, exc_info=True)
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL)) from error
        except Exception as error:
            log.error("%s failed", name, exc_info=True)
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL)) from error
        if isinstance(result, int) and result < 0:
            raise OSError(-result, os.strerror(-result))
        return result

    # ---- Paths and values ----

    def _in(self, text: str) -> str:
        return text if self._own_coding is None else os.fsencode(text).decode(*self._own_coding)

    def _out(self, text: str) -> str:
        return text if self._own_coding is None else os.fsdecode(text.encode(*self._own_coding))

    def _file(self, fh: int | None) -> Any:
        return self._files.get(fh or 0, fuse_file_info() if self._fuse.raw_fi else 0)

    def _time(self, attributes: Mapping[str, Any], field: str) -> int:
        value = attributes.get(field, 0)
        return int(value) if self._use_ns else nanoseconds(value)

    def _attr(self, attributes: Mapping[str, Any]) -> Attr:
        settings = self.settings
        mode = attributes.get("st_mode", 0)
        if settings.umask is not None:
            mode = stat.S_IFMT(mode) | 0o777 & ~settings.umask
        return Attr(
            attributes.get("st_ino", 0),
            mode,
            size=attributes.get("st_size", 0),
            blocks=attributes.get("st_blocks"),
            nlink=attributes.get("st_nlink", 0),
            uid=attributes.get("st_uid", 0) if settings.uid is None else settings.uid,
            gid=attributes.get("st_gid", 0) if settings.gid is None else settings.gid,
            rdev=attributes.get("st_rdev", 0),
            blksize=attributes.get("st_blksize", 4096),
            mtime_ns=self._time(attributes, "st_mtime"),
            atime_ns=self._time(attributes, "st_atime"),
            ctime_ns=self._time(attributes, "st_ctime"),
        )

    # ---- Names ----

    def getattr(self, path: str, fh: int | None) -> Attr:
        return self._attr(self.call("getattr", self._in(path), None if fh is None else self._file(fh)))

    def readlink(self, path: str) -> str:
        return self._out(self.call("readlink", self._in(path)))

    def mkdir(self, path: str, mode: int) -> None:
        self.call("mkdir", self._in(path), mode)

    def mknod(self, path: str, mode: int, rdev: int) -> None:
        self.call("mknod", self._in(path), mode, rdev)

    def unlink(self, path: str) -> None:
        self.call("unlink", self._in(path))

    def rmdir(self, path: str) -> None:
        self.call("rmdir", self._in(path))

    def symlink(self, target: str, path: str) -> None:
        self.call("symlink", self._in(path), self._in(target))

    def link(self, source: str, path: str) -> None:
        self.call("link", self._in(path), self._in(source))

    def rename(self, old: str, new: str, flags: int) -> None:
        if flags:
            raise OSError(errno.EINVAL, "rename takes no flags there")
        self.call("rename", self._in(old), self._in(new))

    # ---- Files ----

    def _opened(self, file: Any) -> Opened:
        number = next(self._numbers)
        self._files[number] = file
        flags = 0
        if self.settings.direct_io or getattr(file, "direct_io", False):
            flags |= FOPEN_DIRECT_IO
        if self.settings.kernel_cache or getattr(file, "keep_cache", False):
            flags |= FOPEN_KEEP_CACHE
        if getattr(file, "nonseekable", False):
            flags |= FOPEN_NONSEEKABLE
        return Opened(number, flags)

    def open(self, path: str, flags: int) -> Opened:
        file: Any = fuse_file_info(flags) if self._fuse.raw_fi else 0
        if self.has("open"):
            result = self.call("open", self._in(path), file if self._fuse.raw_fi else flags)
            file = file if self._fuse.raw_fi else result or 0
        return self._opened(file)

    def create(self, path: str, mode: int, flags: int) -> Opened:
        if self._fuse.raw_fi:
            file = fuse_file_info(flags)
            self.call("create", self._in(path), mode, file)
            return self._opened(file)
        further = (flags,) if self._create_takes_flags else ()
        return self._opened(self.call("create", self._in(path), mode, *further) or 0)

    def read(self, path: str, size: int, offset: int, fh: int | None) -> Any:
        data = self.call("read", self._in(path), size, offset, self._file(fh)) or b""
        if len(data) > size:
            log.error("read of %s gave %d bytes for %d", path, len(data), size)
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return data

    def write(self, path: str, data: Any, offset: int, fh: int | None) -> int:
        return int(self.call("write", self._in(path), bytes(data), offset, self._file(fh)) or 0)

    def truncate(self, path: str, size: int, fh: int | None) -> None:
        self.call("truncate", self._in(path), size, *(() if fh is None else (self._file(fh),)))

    def flush(self, path: str, fh: int | None) -> None:
        self.call("flush", self._in(path), self._file(fh))

    def fsync(self, path: str, datasync: bool, fh: int | None) -> None:
        self.call("fsync", self._in(path), int(datasync), self._file(fh))

    def release(self, path: str, fh: int | None) -> None:
        file = self._file(fh)
        self._files.pop(fh or 0, None)
        if self.has("release"):
            self.call("release", self._in(path), file)

    def fallocate(self, path: str, mode: int, offset: int, size: int, fh: int | None) -> None:
        self.call("fallocate", self._in(path), mode, offset, size, self._file(fh))

    def ioctl(self, path: str, cmd: int, data: bytes, fh: int | None) -> tuple[int, bytes]:
        request = current_request()
        memory = ctypes.create_string_buffer(data, max(len(data), request.size, 1))
        given = ctypes.addressof(memory) if data or request.size else None
        result = self.call("ioctl", self._in(path), cmd, request.arg, self._file(fh), request.op_flags, given)
        return result or 0, memory.raw[: request.size]

    # ---- Folders ----

    def opendir(self, path: str) -> int:
        number = next(self._numbers)
        self._folders[number] = self.call("opendir", self._in(path)) or 0
        return number

    def readdir(self, path: str, fh: int | None) -> list[tuple[str, Attr | None]]:
        start = (0,) if self._lists_from == "readdir_with_offset" else ()
        listing = []
        for item in self.call(self._lists_from, self._in(path), *start, self._folders.get(fh or 0, 0)):
            name, attributes = (item, None) if isinstance(item, str) else item[:2]
            if name in (".", ".."):
                continue  # which fusewire adds
            attr = None
            if isinstance(attributes, int):
                attr = Attr(0, attributes)
            elif attributes:
                attr = Attr(attributes.get("st_ino", 0), attributes.get("st_mode", 0))
            listing.append((self._out(name), attr))
        return listing

    def fsyncdir(self, path: str, datasync: bool, fh: int | None) -> None:
        self.call("fsyncdir", self._in(path), int(datasync), self._folders.get(fh or 0, 0))

    def releasedir(self, path: str, fh: int | None) -> None:
        self.call("releasedir", self._in(path), self._folders.pop(fh or 0, 0))

    # ---- Attributes ----

    def chmod(self, path: str, mode: int) -> None:
        # With the type's bits, which libfuse leaves in.
        self.call("chmod", self._in(path), current_request().mode)

    def chown(self, path: str, uid: int, gid: int) -> None:
        self.call("chown", self._in(path), uid, gid)

    def utimens(self, path: str, atime_ns: int | None, mtime_ns: int | None) -> None:
        if atime_ns is None or mtime_ns is None:
            before = self.getattr(path, None)
            atime_ns = before.atime_ns if atime_ns is None else atime_ns
            mtime_ns = before.mtime_ns if mtime_ns is None else mtime_ns
        times = (atime_ns, mtime_ns) if self._use_ns else (atime_ns / _SECOND, mtime_ns / _SECOND)
        self.call("utimens", self._in(path), times)

    def access(self, path: str, mode: int) -> None:
        self.call("access", self._in(path), mode)

    def statfs(self, path: str) -> Statfs:
        found = self.call("statfs", self._in(path))
        known = {name: found.get(f"f_{name}", 0) for name in ("blocks", "bfree", "bavail", "files", "ffree")}
        size = found.get("f_bsize", 512)
        return Statfs(**known, bsize=size, namelen=found.get("f_namemax", 255), frsize=found.get("f_frsize", size))

    def getxattr(self, path: str, name: str) -> bytes:
        value = self.call("getxattr", self._in(path), self._in(name))
        return value.encode(self._fuse.encoding, self._fuse.errors) if isinstance(value, str) else bytes(value)

    def listxattr(self, path: str) -> list[str]:
        return [self._out(name) for name in self.call("listxattr", self._in(path)) or ()]

    def setxattr(self, path: str, name: str, value: bytes, flags: int) -> None:
        self.call("setxattr", self._in(path), self._in(name), value, flags)

    def removexattr(self, path: str, name: str) -> None:
        self.call("removexattr", self._in(path), self._in(name))


class Handlers(PathHandlers):
    """As libfuse does, a file that is removed while it is open goes by another name until it is closed: these programs
    know files by their paths alone."""

    _filesystem: Adapter

    def __init__(self, adapter: Adapter) -> None:
        super().__init__(adapter)  # type: ignore[arg-type]
        self._hidden: dict[int, _Node] = {}

    def _lookup(self, request: Request) -> Any:
        try:
            return super()._lookup(request)
        except OSError as error:
            timeout = self._filesystem.settings.negative_timeout
            if error.errno != errno.ENOENT or not timeout:
                raise
            return Entry.negative(timeout)

    def _unlink(self, request: Request) -> Any:
        node = self._nodes[request.node].children.get(request.name)
        return None if self._hide(node) else super()._unlink(request)

    def _rename(self, request: Request) -> Any:
        node = self._nodes[request.node].children.get(request.name)
        target = self._nodes[request.newnode].children.get(request.newname)
        if target is not node and not request.flags:
            self._hide(target)
        return super()._rename(request)

    def _release(self, request: Request) -> Any:
        try:
            return super()._release(request)
        finally:
            if not self._nodes[request.node].handles:
                self._unlink_hidden(self._hidden.get(request.node))

    def _hide(self, node: _Node | None) -> bool:
        filesystem = self._filesystem
        if node is None or node.parent is None or not node.handles:
            return False
        if filesystem.settings.hard_remove or not filesystem.has("rename"):
            return False
        parent = node.parent
        folder = parent.path().rstrip("/")
        try:
            for i in itertools.count():
                name = f".fuse_hidden{node.number:08x}{i:08x}"
                if not self._is_there(f"{folder}/{name}"):
                    break
            filesystem.rename(node.path(), f"{folder}/{name}", 0)
        except OSError:
            return False
        self._leave(parent, node.name)
        node.name = name
        parent.children[name] = node
        self._hidden[node.number] = node
        return True

    def _is_there(self, path: str) -> bool:
        try:
            self._filesystem.getattr(path, None)
        except OSError:
            return False
        return True

    def _unlink_hidden(self, node: _Node | None) -> None:
        if node is not None and node.parent is not None:
            del self._hidden[node.number]
            try:
                self._filesystem.unlink(node.path())
            except OSError as error:
                log.error("%s, which was removed while it was open: %s", node.path(), error)
            self._leave(node.parent, node.name)

    def finish(self) -> None:
        """Removes what was still open when the end came."""
        for node in list(self._hidden.values()):
            self._unlink_hidden(node)
