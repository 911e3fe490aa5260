"""Filesystems whose methods take paths, for those who think in paths rather than in nodes."""

from __future__ import annotations

import contextvars
import errno
import os
import time
from collections.abc import Awaitable, Coroutine, Mapping
from typing import Any, Callable

from .constants import ROOT, SET_ATIME, SET_ATIME_NOW, SET_GID, SET_MODE, SET_MTIME, SET_MTIME_NOW, SET_SIZE, SET_UID
from .request import Request
from .types import Attr, Entry, Lock

__all__ = ["PathFilesystem", "current_request"]

_request: contextvars.ContextVar[Request] = contextvars.ContextVar("fusewire_request")


def current_request() -> Request:
    """The request that a method of a PathFilesystem is handling, for what paths do not say: uid, gid, pid, flags."""
    return _request.get()


class PathFilesystem:
    """The base class: serve an instance of a subclass as any other filesystem.

    Paths are str, begin with "/" (the root) and go through os.fsencode unharmed. Methods are plain or async, and may
    raise OSError. What a subclass does not define, or sets to None, is missing, and answered as for other filesystems.
    `fh` is what open or create returned; None where the request has no open file. A file that is renamed keeps its
    node, and its requests have the new path. One that is unlinked while open is asked for with the path that it had and
    an `fh` of those who have it open: answer those requests by the `fh`. What would tell no `fh` is then refused with
    ESTALE, since the path may be another file's. Each hard link is a node of its own, with data
    cached for itself. Inode numbers are the package's, unless the class has `use_ino = True`: then clients see those of
    getattr, which tell them what are links to one file.

    Methods                                                return
        getattr(path, fh)                                  Attr, os.stat_result or a dict of st_* (st_mtime_ns, or
                                                           st_mtime in seconds)
        readdir(path, fh)                                  as a readdir handler: names, or names with the above
        readlink(path)                                     str
        open(path, flags), opendir(path)                   fh, Opened or None
        create(path, mode, flags)                          fh, Opened or None
        read(path, size, offset, fh)                       bytes
        write(path, data, offset, fh)                      int
        mkdir(path, mode), mknod(path, mode, rdev)
        unlink(path), rmdir(path), symlink(target, path), link(source, path), rename(old, new, flags)
        truncate(path, size, fh), chmod(path, mode), chown(path, uid, gid), utimens(path, atime_ns, mtime_ns)
        statfs(path)                                       Statfs or os.statvfs_result
        getxattr(path, name), listxattr(path), setxattr(path, name, value, flags), removexattr(path, name)
        flush(path, fh), fsync(path, datasync, fh), release(path, fh)
        fsyncdir(path, datasync, fh), releasedir(path, fh)
        access(path, mode)
        fallocate(path, mode, offset, size, fh)
        lseek(path, offset, whence, fh)                    int
        copy_file_range(path, offset, fh, target, target_offset, target_fh, size, flags)
                                                           int
        ioctl(path, cmd, data, fh)                         as an ioctl handler: int, bytes or both
        poll(path, events, fh)                             int
        getlk(path, lock, fh)                              the Lock in the way, or None
        setlk(path, lock, waits, fh)

    In chown -1 stands for what stays; in utimens None stands for what stays, and the present is given as a number. What
    else a request holds, such as the owner of a lock, is in current_request()."""

    use_ino = False


class _Node:
    __slots__ = ("number", "parent", "name", "children", "lookups", "handles")

    def __init__(self, number: int, parent: _Node | None, name: str) -> None:
        self.number = number
        self.parent = parent
        self.name = name
        self.children: dict[str, _Node] = {}
        self.lookups = 0
        self.handles: list[int] = []  # of those who have it open

    def has_name(self) -> bool:
        return self.parent is None or self.parent.children.get(self.name) is self

    def path(self) -> str:
        names = []
        node: _Node = self
        while node.parent is not None:
            names.append(node.name)
            node = node.parent
        return "/" + "/".join(reversed(names))


def _then(result: Any, finish: Callable[[Any], Any]) -> Any:
    """finish(result), after it has been awaited where it has to be."""
    return _later(result, finish) if isinstance(result, Awaitable) else finish(result)


async def _later(result: Awaitable[Any], finish: Callable[[Any], Any]) -> Any:
    result = finish(await result)
    while isinstance(result, Awaitable):
        result = await result
    return result


# The method that makes a handler useful, where it has another name.
_NEEDS = {"lookup": "getattr", "forget": "getattr", "setattr": "getattr", "release": "getattr"}

# What the kernel and its tools take for "not known".
_UNKNOWN_INO = 0xFFFFFFFF


#: The methods of a PathFilesystem that are not named after an operation.
METHODS = ("truncate", "chmod", "chown", "utimens")


def nanoseconds(seconds: float) -> int:
    """Without what multiplying a float of this size would lose."""
    whole = int(seconds // 1)
    return whole * 1_000_000_000 + int((seconds - whole) * 1_000_000_000)


def _time_of(status: Mapping[str, Any], field: str) -> int:
    exact = status.get(f"{field}_ns")
    return nanoseconds(status.get(field, 0)) if exact is None else int(exact)


def attr_of(found: Any, number: int | None) -> Attr:
    """What getattr returned, as an Attr with this inode number; None: its own."""
    if isinstance(found, Attr):
        attr = found.copy()
        if number is not None:
            attr._c.ino = number
        return attr
    if isinstance(found, os.stat_result):
        return Attr.from_stat(found, number)
    if isinstance(found, Mapping):
        return Attr(
            found.get("st_ino", 0) if number is None else number,
            found["st_mode"],
            size=found.get("st_size", 0),
            blocks=found.get("st_blocks"),
            nlink=found.get("st_nlink", 1),
            uid=found.get("st_uid", 0),
            gid=found.get("st_gid", 0),
            rdev=found.get("st_rdev", 0),
            blksize=found.get("st_blksize", 4096),
            mtime_ns=_time_of(found, "st_mtime"),
            atime_ns=_time_of(found, "st_atime"),
            ctime_ns=_time_of(found, "st_ctime"),
        )
    raise TypeError(f"getattr returned {found!r}: neither an Attr, an os.stat_result nor a dict of st_*")


class PathHandlers:
    """The handlers, by nodes, of a filesystem whose methods take paths."""

    def __init__(self, filesystem: PathFilesystem) -> None:
        self._filesystem: Any = filesystem
        self._use_ino = bool(getattr(filesystem, "use_ino", False))
        root = _Node(ROOT, None, "")
        self._nodes = {ROOT: root}
        self._next = ROOT + 1

    def __getattr__(self, operation: str) -> Callable[[Request], Any]:
        """The handler of an operation that the filesystem has a method for."""
        found = getattr(type(self), f"_{operation}", None)
        if found is None or getattr(self._filesystem, _NEEDS.get(operation, operation), None) is None:
            raise AttributeError(operation)
        handler: Callable[[PathHandlers, Request], Any] = found

        def handle(request: Request) -> Any:
            token = _request.set(request)
            try:
                result = handler(self, request)
                return _in_context(request, result) if isinstance(result, Coroutine) else result
            finally:
                _request.reset(token)

        return handle

    # ---- Nodes ----

    def _path_of(self, node: _Node, fh: int | None = None) -> str:
        """The path, for a method that is given `fh` too."""
        if fh is None and not node.has_name():
            # By now the path may be another file's.
            raise OSError(errno.ESTALE, "it was removed, and nothing tells it from what may be there instead")
        return node.path()

    def _at(self, request: Request) -> str:
        return self._path_of(self._nodes[request.node])

    def _open_at(self, request: Request) -> tuple[str, int | None]:
        """The path and the open file, for a method that is given both."""
        fh = self._fh(request)
        return self._path_of(self._nodes[request.node], fh), fh

    def _below(self, request: Request) -> str:
        folder = self._nodes[request.node].path()
        return folder + request.name if folder == "/" else f"{folder}/{request.name}"

    def _fh(self, request: Request) -> int | None:
        if request.fh:
            return request.fh
        # fstat(2) does not say which open file it means; of one without a name only an open one is left.
        node = self._nodes[request.node]
        return node.handles[-1] if node.handles and not node.has_name() else None

    def _opened(self, number: int, opened: Any) -> Any:
        fh = opened[0] if isinstance(opened, tuple) else opened
        if fh:
            self._nodes[number].handles.append(fh)
        return opened

    def _entry(self, request: Request, found: Any) -> Entry:
        attr = attr_of(found, None)
        parent, name = self._nodes[request.node], request.name
        node = parent.children.get(name)
        if node is None:
            node = parent.children[name] = self._nodes[self._next] = _Node(self._next, parent, name)
            self._next += 1
        node.lookups += 1
        if not self._use_ino:
            attr._c.ino = node.number
        return Entry(attr, node=node.number)

    def _made(self, request: Request) -> Any:
        """What was just made, as an entry."""
        return _then(self._filesystem.getattr(self._below(request), None), lambda found: self._entry(request, found))

    def _leave(self, parent: _Node, name: str) -> None:
        """The name is gone; the node goes when the kernel has forgotten it, and keeps its path until then."""
        parent.children.pop(name, None)

    def _lookup(self, request: Request) -> Any:
        return self._made(request)

    def _forget(self, request: Request) -> None:
        for number, lookups in request.forgets:
            node = self._nodes.get(number)
            if node is None or node.parent is None:
                continue
            node.lookups -= lookups
            # A folder's node outlives its children's, whose paths go through it.
            while node.parent is not None and node.lookups <= 0 and not node.children:
                if node.parent.children.get(node.name) is node:
                    del node.parent.children[node.name]
                self._nodes.pop(node.number, None)
                node = node.parent

    def _getattr(self, request: Request) -> Any:
        path, fh = self._open_at(request)
        found = self._filesystem.getattr(path, fh)
        return _then(found, lambda found: attr_of(found, None if self._use_ino else request.node))

    def _setattr(self, request: Request) -> Any:
        valid = request.valid
        steps: list[tuple[Any, ...]] = []
        if valid & SET_SIZE:
            path, fh = self._open_at(request)
            steps.append(("truncate", path, request.size, fh))
        if valid & (SET_MODE | SET_UID | SET_GID | SET_ATIME | SET_MTIME):
            path = self._at(request)
        if valid & SET_MODE:
            steps.append(("chmod", path, request.mode & 0o7777))
        if valid & (SET_UID | SET_GID):
            uid = request.set_uid if valid & SET_UID else -1
            gid = request.set_gid if valid & SET_GID else -1
            steps.append(("chown", path, uid, gid))
        if valid & (SET_ATIME | SET_MTIME):
            steps.append(("utimens", path, *self._times(request)))
        return self._step(request, steps)

    def _times(self, request: Request) -> tuple[int | None, int | None]:
        now, valid = time.time_ns(), request.valid
        atime = now if valid & SET_ATIME_NOW else request.atime_ns if valid & SET_ATIME else None
        mtime = now if valid & SET_MTIME_NOW else request.mtime_ns if valid & SET_MTIME else None
        return atime, mtime

    def _step(self, request: Request, steps: list[tuple[Any, ...]]) -> Any:
        if not steps:
            return self._getattr(request)
        name, *arguments = steps[0]
        method = getattr(self._filesystem, name, None)
        if method is None:
            raise OSError(errno.ENOSYS, f"the filesystem has no {name}")
        return _then(method(*arguments), lambda _: self._step(request, steps[1:]))

    # ---- Names ----

    def _readlink(self, request: Request) -> Any:
        return self._filesystem.readlink(self._at(request))

    def _mkdir(self, request: Request) -> Any:
        made = self._filesystem.mkdir(self._below(request), request.mode)
        return _then(made, lambda _: self._made(request))

    def _mknod(self, request: Request) -> Any:
        made = self._filesystem.mknod(self._below(request), request.mode, request.rdev)
        return _then(made, lambda _: self._made(request))

    def _symlink(self, request: Request) -> Any:
        made = self._filesystem.symlink(request.newname, self._below(request))
        return _then(made, lambda _: self._made(request))

    def _link(self, request: Request) -> Any:
        source = self._path_of(self._nodes[request.newnode])
        made = self._filesystem.link(source, self._below(request))
        return _then(made, lambda _: self._made(request))

    def _unlink(self, request: Request) -> Any:
        removed = self._filesystem.unlink(self._below(request))
        return _then(removed, lambda _: self._leave(self._nodes[request.node], request.name))

    def _rmdir(self, request: Request) -> Any:
        removed = self._filesystem.rmdir(self._below(request))
        return _then(removed, lambda _: self._leave(self._nodes[request.node], request.name))

    def _rename(self, request: Request) -> Any:
        target = self._nodes[request.newnode].path()
        new = target + request.newname if target == "/" else f"{target}/{request.newname}"
        moved = self._filesystem.rename(self._below(request), new, request.flags)
        return _then(moved, lambda _: self._moved(request))

    def _moved(self, request: Request) -> None:
        old, new = self._nodes[request.node], self._nodes[request.newnode]
        node, other = old.children.pop(request.name, None), new.children.pop(request.newname, None)
        places = [(node, new, request.newname)]
        if request.flags & 2:  # RENAME_EXCHANGE
            places.append((other, old, request.name))
        for moved, parent, name in places:
            if moved is not None:
                moved.parent, moved.name = parent, name
                parent.children[name] = moved

    # ---- Files and folders ----

    def _open(self, request: Request) -> Any:
        opened = self._filesystem.open(self._at(request), request.flags)
        return _then(opened, lambda fh: self._opened(request.node, fh))

    def _opendir(self, request: Request) -> Any:
        return self._filesystem.opendir(self._at(request))

    def _create(self, request: Request) -> Any:
        opened = self._filesystem.create(self._below(request), request.mode, request.flags)
        return _then(opened, lambda fh: _then(self._made(request), lambda entry: (entry, self._opened(entry.node, fh))))

    def _read(self, request: Request) -> Any:
        path, fh = self._open_at(request)
        return self._filesystem.read(path, request.size, request.offset, fh)

    def _write(self, request: Request) -> Any:
        path, fh = self._open_at(request)
        return self._filesystem.write(path, request.data, request.offset, fh)

    def _readdir(self, request: Request) -> Any:
        path, fh = self._open_at(request)
        listed = self._filesystem.readdir(path, fh)
        if hasattr(listed, "__aiter__"):
            listed = _collected(listed)
        return _then(listed, lambda entries: self._listing(self._nodes[request.node], entries))

    def _listing(self, folder: _Node, entries: Any) -> list[tuple[str, Attr | None]]:
        """With the numbers of the nodes, where those are known."""
        listing: list[tuple[str, Attr | None]] = []
        for each in entries.items() if isinstance(entries, Mapping) else entries:
            name, target = (each, None) if isinstance(each, (str, bytes)) else each
            child = folder.children.get(os.fsdecode(name))
            attr = None
            target = None if isinstance(target, Entry) else target
            if self._use_ino:
                if target is not None:
                    attr = attr_of(target, None)
                    attr._c.ino = attr._c.ino or _UNKNOWN_INO  # readdir(3) leaves out those with 0
            elif target is not None or child is not None:
                number = _UNKNOWN_INO if child is None else child.number
                attr = attr_of(Attr(0, 0) if target is None else target, number)  # a mode of 0: of unknown kind
            listing.append((os.fsdecode(name), attr))
        return listing

    def _flush(self, request: Request) -> Any:
        node, fh = self._nodes[request.node], self._fh(request)
        # close(2) is not to fail because the file was removed.
        return self._filesystem.flush(node.path(), fh) if fh is not None or node.has_name() else None

    def _fsync(self, request: Request) -> Any:
        path, fh = self._open_at(request)
        return self._filesystem.fsync(path, bool(request.op_flags & 1), fh)

    def _release(self, request: Request) -> Any:
        node = self._nodes[request.node]
        if request.fh in node.handles:
            node.handles.remove(request.fh)
        release = getattr(self._filesystem, "release", None)
        return None if release is None else release(node.path(), request.fh or None)

    def _fsyncdir(self, request: Request) -> Any:
        path, fh = self._open_at(request)
        return self._filesystem.fsyncdir(path, bool(request.op_flags & 1), fh)

    def _fallocate(self, request: Request) -> Any:
        path, fh = self._open_at(request)
        return self._filesystem.fallocate(path, request.mode, request.offset, request.size, fh)

    def _lseek(self, request: Request) -> Any:
        path, fh = self._open_at(request)
        return self._filesystem.lseek(path, request.offset, request.whence, fh)

    def _copy_file_range(self, request: Request) -> Any:
        path, fh = self._open_at(request)
        target_fh = request.newfh or None
        target = self._path_of(self._nodes[request.newnode], target_fh)
        return self._filesystem.copy_file_range(
            path, request.offset, fh, target, request.newoffset, target_fh, request.size, request.flags
        )

    def _ioctl(self, request: Request) -> Any:
        path, fh = self._open_at(request)
        return self._filesystem.ioctl(path, request.cmd, bytes(request.data), fh)

    def _poll(self, request: Request) -> Any:
        path, fh = self._open_at(request)
        return self._filesystem.poll(path, request.events, fh)

    def _getlk(self, request: Request) -> Any:
        path, fh = self._open_at(request)
        return self._filesystem.getlk(path, _lock(request), fh)

    def _setlk(self, request: Request) -> Any:
        path, fh = self._open_at(request)
        return self._filesystem.setlk(path, _lock(request), request.waits, fh)

    def _releasedir(self, request: Request) -> Any:
        return self._filesystem.releasedir(self._nodes[request.node].path(), request.fh or None)

    # ---- Attributes ----

    def _access(self, request: Request) -> Any:
        return self._filesystem.access(self._at(request), request.mode)

    def _statfs(self, request: Request) -> Any:
        return self._filesystem.statfs(self._nodes[request.node].path())

    def _getxattr(self, request: Request) -> Any:
        return self._filesystem.getxattr(self._at(request), request.name)

    def _listxattr(self, request: Request) -> Any:
        return self._filesystem.listxattr(self._at(request))

    def _setxattr(self, request: Request) -> Any:
        return self._filesystem.setxattr(self._at(request), request.name, bytes(request.data), request.flags)

    def _removexattr(self, request: Request) -> Any:
        return self._filesystem.removexattr(self._at(request), request.name)


def _lock(request: Request) -> Lock:
    return Lock(request.lock_type, request.lock_start, request.lock_end, request.lock_pid)


async def _collected(entries: Any) -> list[Any]:
    return [each async for each in entries]


async def _in_context(request: Request, coroutine: Coroutine[Any, Any, Any]) -> Any:
    _request.set(request)
    return await coroutine
