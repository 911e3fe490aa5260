"""A request as its handler sees it."""

from __future__ import annotations

import os
import struct
import sys
import threading
import weakref
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from ._core import ffi, lib
from .constants import Opcode

if TYPE_CHECKING:
    from .connection import Connection

__all__ = ["Request"]

_RECORD = ffi.typeof("fusewire_request *")
_FORGET = ffi.typeof("fusewire_forget *")
_MAPPING = ffi.typeof("fusewire_mapping *")
_GROUP = ffi.typeof("uint32_t *")

_ENCODING = sys.getfilesystemencoding()
_ERRORS = sys.getfilesystemencodeerrors()
_SECOND = 1_000_000_000

#: The operations by opcode, as handlers are named. Several opcodes share a handler where one is a newer form of
#: another.
OPERATIONS = {
    **{int(opcode): opcode.name.lower() for opcode in Opcode},
    int(Opcode.BATCH_FORGET): "forget",
    int(Opcode.RENAME2): "rename",
    int(Opcode.SETLKW): "setlk",
    int(Opcode.COPY_FILE_RANGE_64): "copy_file_range",
}

#: The opcodes whose requests carry names.
NAMED = frozenset(
    int(opcode)
    for opcode in (
        Opcode.LOOKUP,
        Opcode.SYMLINK,
        Opcode.MKNOD,
        Opcode.MKDIR,
        Opcode.UNLINK,
        Opcode.RMDIR,
        Opcode.RENAME,
        Opcode.RENAME2,
        Opcode.LINK,
        Opcode.CREATE,
        Opcode.SETXATTR,
        Opcode.GETXATTR,
        Opcode.REMOVEXATTR,
    )
)

#: The opcodes of messages that take no answer. What id they have is that of another request.
UNANSWERED = frozenset(
    int(opcode)
    for opcode in (Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.INTERRUPT, Opcode.NOTIFY_REPLY, Opcode.OUTCOME)
)


def _references(views: list[tuple[Any, Any]]) -> int:
    """The most references that a buffer of these has (interpreters without such counts: 0)."""
    count = getattr(sys, "getrefcount", None)
    if count is None:
        return 0
    return max((count(buffer) for _, buffer in views if buffer), default=0)


_UNSHARED = _references([(None, bytearray(1))])


def _field(name: str, doc: str) -> Any:
    return property(attrgetter("_record." + name), doc=doc)


def _time(seconds: str, nanoseconds: str, doc: str) -> Any:
    parts = attrgetter("_record." + seconds, "_record." + nanoseconds)

    def read(self: Request) -> int:
        whole, rest = parts(self)
        return int(whole * _SECOND + rest)

    return property(read, doc=doc)


class Request:
    """What the kernel asks for. A field that the operation does not use is zero (names: empty).

    Numbers and names stay as they are for as long as the object lives. What refers to the library's memory (`data`,
    `borrow`) is released by the reply: using it later raises ValueError. A reply is refused with BufferError while
    something made from that memory (a slice, a numpy array) is still alive: copy what is to be kept."""

    # _batch owns the memory that _record points into.
    __slots__ = ("connection", "_batch", "_record", "_open", "_views", "name", "newname", "__weakref__")

    connection: Connection
    name: str  #: of the entry or of the extended attribute; rename: the old one
    newname: str  #: rename: the new name; symlink: what the link points to

    def __init__(self, connection: Connection, batch: Any, record: Any) -> None:
        self.connection = connection
        self._batch = batch
        self._record = record
        self._open = True
        self._views: list[tuple[memoryview, Any]] | None = None

    id: int = _field("id", "Names the request in replies; 0 where none is taken.")
    opcode: int = _field("opcode", "An Opcode, or the number of one that this version does not know.")
    marks: int = _field("marks", "REQUEST_RESENT.")
    unique: int = _field("unique", "The kernel's own number of it.")
    node: int = _field("nodeid", "What it is about; where a name is given: the folder.")
    uid: int = _field("uid", "Of the caller.")
    gid: int = _field("gid", "Of the caller.")
    pid: int = _field("pid", "Of the caller's thread; 0 where this pid namespace has none for it.")
    fh: int = _field("fh", "Of the open file, as open returned it.")
    offset: int = _field("offset", "In the file; readdir: where to go on; bmap: the block.")
    size: int = _field("length", "read, write, getxattr ...: bytes wanted or given; setattr: the new size.")
    nlookup: int = _field("length", "forget of a single node: how many lookups.")
    flags: int = _field("flags", "open(2)'s, or those of the call (rename, setxattr, copy_file_range, statx).")
    op_flags: int = _field("op_flags", "The operation's own: GETATTR_FH, WRITE_CACHE, FSYNC_FDATASYNC ...")
    mode: int = _field("mode", "create, mknod, mkdir, tmpfile, setattr; access: the mask; fallocate: its mode.")
    umask: int = _field("umask", "create, mknod, mkdir, tmpfile: the caller's, applied to mode already by default.")
    rdev: int = _field("rdev", "mknod: the device number, as os.makedev makes it.")
    newnode: int = _field("newnodeid", "rename: the new folder; link: the file; copy_file_range: the target.")
    newfh: int = _field("newfh", "copy_file_range: of the target.")
    newoffset: int = _field("newoffset", "copy_file_range: in the target.")
    lock_owner: int = _field("lock_owner", "Who locks; given to getlk, setlk, flush, release and others.")
    lock_start: int = _field("lock_start", "getlk, setlk.")
    lock_end: int = _field("lock_end", "getlk, setlk: the last byte.")
    lock_type: int = _field("lock_type", "getlk, setlk: fcntl.F_RDLCK, F_WRLCK, F_UNLCK.")
    lock_pid: int = _field("lock_pid", "getlk, setlk.")
    valid: int = _field("valid", "setattr: SET_*; statx: the fields asked for.")
    set_uid: int = _field("set_uid", "setattr: the new owner.")
    set_gid: int = _field("set_gid", "setattr: the new group.")
    whence: int = _field("whence", "lseek: os.SEEK_DATA or os.SEEK_HOLE.")
    cmd: int = _field("cmd", "ioctl.")
    arg: int = _field("arg", "ioctl: the argument, as a number.")
    kh: int = _field("kh", "poll: for Connection.notify_poll.")
    events: int = _field("events", "poll: select.POLL*.")
    error: int = _field("error", "outcome: 0, or a negative errno.")
    atime_ns: int = _time("atime", "atimensec", "setattr, with SET_ATIME and without SET_ATIME_NOW.")
    mtime_ns: int = _time("mtime", "mtimensec", "setattr, with SET_MTIME and without SET_MTIME_NOW.")
    ctime_ns: int = _time("ctime", "ctimensec", "setattr, with SET_CTIME.")

    if not TYPE_CHECKING:

        def __getattr__(self, attribute):
            # Only reached where a slot is unset: the request has no names.
            if attribute in ("name", "newname"):
                return ""
            raise AttributeError(f"a Request has no {attribute!r}")

    @property
    def operation(self) -> str:
        """The name of its handler: "lookup", "read" ..."""
        opcode = self._record.opcode
        return OPERATIONS.get(opcode) or f"opcode {opcode}"

    @property
    def waits(self) -> bool:
        """setlk: is the lock to be waited for?"""
        return bool(self._record.opcode == Opcode.SETLKW)

    @property
    def answered(self) -> bool:
        """Was it answered? True also of what takes no answer."""
        return not self._open or self._record.opcode in UNANSWERED

    @property
    def data(self) -> memoryview:
        """write, setxattr, ioctl, notify_reply: the bytes, without a copy; valid until the reply."""
        if self._views is not None:
            for view, _buffer in self._views:
                if view.readonly:
                    return view
        self._need_open("data")
        record = self._record
        return self._keep(ffi.buffer(record.data, record.data_size) if record.data_size else b"", True)

    def borrow(self) -> memoryview:
        """read, readdir, readlink, getxattr, listxattr: the library's own memory to put the answer in, at least `size`
        bytes; valid until the reply. Fill it and reply with the number of bytes: nothing is copied. Raises OSError
        with ENOBUFS while all of the library's buffers are in use: then reply with data of your own."""
        self._need_open("memory")
        place, capacity = ffi.new("void **"), ffi.new("size_t *")
        code = lib.fusewire_borrow(self.connection._handle, self._record.id, place, capacity)
        if code < 0:
            raise OSError(-code, ffi.string(lib.fusewire_last_error()).decode("utf-8", "replace"))
        return self._keep(ffi.buffer(place[0], capacity[0]), False)

    @property
    def message(self) -> bytes:
        """A copy of the message as the kernel sent it, its header included."""
        self._need_open("message")
        return bytes(ffi.buffer(self._record.message, self._record.message_size))

    @property
    def forgets(self) -> tuple[tuple[int, int], ...]:
        """forget: the node ids, each with the number of lookups to be taken back."""
        record = self._record
        if record.opcode != Opcode.BATCH_FORGET:
            return ((record.nodeid, record.length),)
        self._need_open("list")
        items = ffi.cast(_FORGET, record.data)
        return tuple((items[i].nodeid, items[i].nlookup) for i in range(record.count))

    @property
    def mappings(self) -> tuple[tuple[int, int], ...]:
        """removemapping: offsets and lengths."""
        self._need_open("list")
        items = ffi.cast(_MAPPING, self._record.data)
        return tuple((items[i].offset, items[i].length) for i in range(self._record.count))

    @property
    def groups(self) -> tuple[int, ...]:
        """With CREATE_SUPP_GROUP: those of the caller's supplementary groups that matter to what is made."""
        self._need_open("list")
        record = self._record
        if not record.supp_group_count:
            return ()
        return struct.unpack(
            f"={record.supp_group_count}I", ffi.buffer(record.supp_groups, 4 * record.supp_group_count)
        )

    @property
    def security_contexts(self) -> tuple[tuple[str, bytes], ...]:
        """With SECURITY_CTX: names and values for what is made."""
        self._need_open("list")
        name, value, size = ffi.new("char **"), ffi.new("void **"), ffi.new("size_t *")
        contexts = []
        for i in range(self._record.security_context_count):
            if lib.fusewire_security_context(self._record, i, name, value, size) < 0:
                break
            contexts.append((os.fsdecode(ffi.string(name[0])), bytes(ffi.buffer(value[0], size[0]))))
        return tuple(contexts)

    def reply(self, result: object = None) -> None:
        """Connection.reply."""
        self.connection.reply(self, result)

    def reply_error(self, error: int) -> None:
        """Connection.reply_error."""
        self.connection.reply_error(self, error)

    def __repr__(self) -> str:
        parts = [f"<Request {self.operation} node={self.node}"]
        parts += [f"{name}={getattr(self, name)!r}" for name in ("name", "newname") if getattr(self, name)]
        parts += [f"{name}={getattr(self, name)}" for name in ("fh", "offset", "size") if getattr(self, name)]
        return " ".join(parts) + ">"

    # ---- for the package's own use ----

    def _decode_names(self) -> None:
        record = self._record
        self.name = ffi.string(record.name).decode(_ENCODING, _ERRORS) if record.name else ""
        self.newname = ffi.string(record.newname).decode(_ENCODING, _ERRORS) if record.newname else ""

    def _detach(self) -> None:
        """Gives the request a record of its own, so that it does not hold on to its whole batch."""
        record = ffi.new(_RECORD, self._record)
        self._batch = None
        self._record = record

    def _need_open(self, what: str) -> None:
        if not self._open or self.connection.closed:
            raise ValueError(f"the {what} of an answered request is gone")

    def _keep(self, buffer: Any, readonly: bool) -> memoryview:
        view = memoryview(buffer)
        if readonly:
            view = view.toreadonly()
        if self._views is None:
            self._views = []
            self.connection._lent[id(self)] = weakref.ref(self)
        self._views.append((view, buffer))
        return view

    def _release(self) -> None:
        """Takes the library's memory back, before a reply. BufferError where something still refers to it."""
        assert self._views is not None
        for pair in self._views:
            pair[0].release()
        # A slice of a memoryview outlives its release unseen, but it refers to the object behind it.
        if _references(self._views) > _UNSHARED:
            raise BufferError("the request's memory is still referred to by a slice of it: copy what is to be kept")
        self._views = None
        del self.connection._lent[id(self)]

    def _release_failed(self) -> None:
        """The same where the request fails anyway, and the frames of the failure may refer to the memory."""
        views, self._views = self._views, None
        self.connection._lent.pop(id(self), None)
        for view, _ in views or ():
            try:
                view.release()
            except BufferError:
                pass


class OwnedRequest(Request):
    """A request given to the caller of Connection.read, who may lose it: it is then answered with EIO."""

    __slots__ = ()

    def __del__(self) -> None:
        if not self.answered:
            connection = self.connection
            self._release_failed()
            if connection._thread == threading.get_ident():
                connection._reply_lost(self._record.id)
            else:
                connection._lost.append(self._record.id)
                connection.wake()
