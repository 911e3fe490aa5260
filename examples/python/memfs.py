"""A filesystem in memory.

Hard and symbolic links, rename with its flags, sparse files, extended attributes, special files, timestamps, files that
are unlinked while open, folders that can be read while they change, fallocate, lseek, copy_file_range. The kernel
checks permissions (default_permissions) and caches names, attributes and data, since nobody else changes them."""

import errno
import os
import stat
import time

import fusewire
from fusewire import Attr, Entry, Statfs

import program

CHUNK = 128 * 1024
NAME_MAX = 255

FALLOC_FL_KEEP_SIZE = 1
FALLOC_FL_PUNCH_HOLE = 2
FALLOC_FL_ZERO_RANGE = 16
RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2

#: As long as the kernel likes.
ALWAYS = float("inf")


class Contents:
    """The bytes of a file, in chunks of up to CHUNK bytes. What no chunk holds reads as zeros: chunks are missing where
    nothing was written, and end behind the last byte that was. `used` counts what the chunks hold."""

    def __init__(self, space):
        self._chunks = {}
        self._space = space
        self.used = 0

    def _claim(self, size):
        if size > self._space.free:
            raise OSError(errno.ENOSPC, "the filesystem is full")
        self._space.free -= size
        self.used += size

    def _release(self, size):
        self._space.free += size
        self.used -= size

    def read(self, offset, size):
        """`size` bytes from `offset` on; the caller keeps within the file."""
        pieces = []
        while size > 0:
            index, start = divmod(offset, CHUNK)
            length = min(size, CHUNK - start)
            piece = memoryview(self._chunks.get(index, b""))[start : start + length]
            pieces.append(piece)
            if len(piece) < length:
                pieces.append(bytes(length - len(piece)))
            offset += length
            size -= length
        return b"".join(pieces)

    def _room(self, index, end):
        """The chunk, which holds at least `end` bytes."""
        chunk = self._chunks.get(index)
        if chunk is None:
            self._claim(end)
            chunk = self._chunks[index] = bytearray(end)
        elif len(chunk) < end:
            self._claim(end - len(chunk))
            chunk.extend(bytes(end - len(chunk)))
        return chunk

    def write(self, offset, data):
        """Returns how many bytes it has written, which are fewer where the space runs out."""
        done = 0
        while done < len(data):
            index, start = divmod(offset + done, CHUNK)
            length = min(len(data) - done, CHUNK - start)
            try:
                chunk = self._room(index, start + length)
            except OSError:
                if done == 0:
                    raise
                break
            memoryview(chunk)[start : start + length] = data[done : done + length]
            done += length
        return done

    def allocate(self, offset, end):
        """Makes sure that writing there needs no more space."""
        if end - offset > self._space.free + self.used:
            raise OSError(errno.ENOSPC, "the filesystem is full")
        while offset < end:
            index, start = divmod(offset, CHUNK)
            length = min(end - offset, CHUNK - start)
            self._room(index, start + length)
            offset += length

    def clear(self, offset, end):
        """Zeros from `offset` to `end`; whole chunks give their space back."""
        first, last = offset // CHUNK, (end - 1) // CHUNK
        for index in [index for index in self._chunks if first <= index <= last]:
            chunk = self._chunks[index]
            start, stop = max(offset - index * CHUNK, 0), min(end - index * CHUNK, CHUNK)
            if stop >= len(chunk):
                self._cut(index, start)
            else:
                chunk[start:stop] = bytes(stop - start)

    def truncate(self, size):
        for index in [index for index in self._chunks if (index + 1) * CHUNK > size]:
            self._cut(index, max(size - index * CHUNK, 0))

    def _cut(self, index, length):
        chunk = self._chunks[index]
        if length < len(chunk):
            self._release(len(chunk) - length)
            if length:
                del chunk[length:]
            else:
                del self._chunks[index]

    def seek_data(self, offset):
        """The first offset from `offset` on that a chunk holds, or None."""
        index, start = divmod(offset, CHUNK)
        if start < len(self._chunks.get(index, b"")):
            return offset
        later = min((other for other in self._chunks if other > index), default=None)
        return None if later is None else later * CHUNK

    def seek_hole(self, offset):
        """The first offset from `offset` on that no chunk holds."""
        index, start = divmod(offset, CHUNK)
        while start < len(self._chunks.get(index, b"")):
            if len(self._chunks[index]) < CHUNK:
                return index * CHUNK + len(self._chunks[index])
            index, start = index + 1, 0
        return max(offset, index * CHUNK)


class Space:
    def __init__(self, size):
        self.size = self.free = size


class Node:
    """A file of any type. It lives while it has a name or the kernel knows it."""

    __slots__ = ("attr", "lookups", "xattrs", "contents", "target", "entries", "parent")

    def __init__(self, attr):
        self.attr = attr
        self.lookups = 0
        self.xattrs = {}

    @property
    def is_folder(self):
        return stat.S_ISDIR(self.attr.mode)

    def changed(self, *, contents=False):
        now = time.time_ns()
        self.attr.ctime_ns = now
        if contents:
            self.attr.mtime_ns = now


class Memory:
    def __init__(self, size):
        self._space = Space(size)
        self._next = fusewire.ROOT + 1
        root = Node(Attr.dir(fusewire.ROOT))
        root.entries, root.parent = {}, root
        self._nodes = {fusewire.ROOT: root}

    # ---- Names ----

    def lookup(self, request):
        # The kernel looks a name up before it does anything else with it, so that no other handler meets a long one.
        if len(os.fsencode(request.name)) > NAME_MAX:
            raise OSError(errno.ENAMETOOLONG, "the name is too long")
        node = self._nodes[request.node].entries.get(request.name)
        if node is None:
            return Entry.negative(ALWAYS)
        node.lookups += 1
        return node.attr

    def forget(self, request):
        for number, lookups in request.forgets:
            node = self._nodes.get(number)
            if node is not None:
                node.lookups -= lookups
                self._drop_unused(node)

    def _drop_unused(self, node):
        if node.lookups <= 0 and node.attr.nlink == 0:
            if stat.S_ISREG(node.attr.mode):
                node.contents.truncate(0)
            del self._nodes[node.attr.ino]

    def _make(self, request, mode, **fields):
        """A new node with one lookup, which has no name yet."""
        folder = self._nodes[request.node]
        gid = request.gid
        if folder.attr.mode & stat.S_ISGID:
            gid = folder.attr.gid
            if stat.S_ISDIR(mode):
                mode |= stat.S_ISGID
        node = Node(Attr(self._next, mode, uid=request.uid, gid=gid, **fields))
        if stat.S_ISREG(mode):
            node.contents = Contents(self._space)
        self._nodes[self._next] = node
        self._next += 1
        node.lookups = 1
        return node

    def _enter(self, folder, name, node):
        folder.entries[name] = node
        if node.is_folder:
            node.parent = folder
            folder.attr.nlink += 1
        folder.changed(contents=True)

    def _leave(self, folder, name):
        node = folder.entries.pop(name)
        if node.is_folder:
            folder.attr.nlink -= 1
        folder.changed(contents=True)
        return node

    def _need_free(self, request):
        folder = self._nodes[request.node]
        if request.name in folder.entries:
            raise FileExistsError
        if folder.attr.nlink == 0:
            raise FileNotFoundError
        return folder

    # Without a create handler the kernel makes files with mknod, and without open it opens them by itself: one message
    # where there would be three.
    def mknod(self, request):
        folder = self._need_free(request)
        node = self._make(request, request.mode, rdev=request.rdev)
        self._enter(folder, request.name, node)
        return node.attr

    def mkdir(self, request):
        folder = self._need_free(request)
        node = self._make(request, stat.S_IFDIR | request.mode, nlink=2)
        node.entries = {}
        self._enter(folder, request.name, node)
        return node.attr

    def symlink(self, request):
        folder = self._need_free(request)
        target = os.fsencode(request.newname)
        node = self._make(request, stat.S_IFLNK | 0o777, size=len(target))
        node.target = target
        self._enter(folder, request.name, node)
        return node.attr

    def tmpfile(self, request):
        return self._make(request, request.mode, nlink=0).attr

    def link(self, request):
        folder = self._need_free(request)
        node = self._nodes[request.newnode]
        node.attr.nlink += 1
        node.lookups += 1
        node.changed()
        self._enter(folder, request.name, node)
        return node.attr

    def unlink(self, request):
        folder = self._nodes[request.node]
        node = folder.entries.get(request.name)
        if node is None:
            raise FileNotFoundError
        if node.is_folder:
            raise IsADirectoryError
        self._remove(folder, request.name)

    def rmdir(self, request):
        folder = self._nodes[request.node]
        node = folder.entries.get(request.name)
        if node is None:
            raise FileNotFoundError
        if not node.is_folder:
            raise NotADirectoryError
        if node.entries:
            raise OSError(errno.ENOTEMPTY, "not empty")
        self._remove(folder, request.name)

    def _remove(self, folder, name):
        node = self._leave(folder, name)
        node.attr.nlink = 0 if node.is_folder else node.attr.nlink - 1
        node.changed()
        self._drop_unused(node)

    def rename(self, request):
        folder, newfolder = self._nodes[request.node], self._nodes[request.newnode]
        name, newname = request.name, request.newname
        if request.flags not in (0, RENAME_NOREPLACE, RENAME_EXCHANGE):
            raise OSError(errno.EINVAL, "unknown flags")
        node, target = folder.entries.get(name), newfolder.entries.get(newname)
        if node is None:
            raise FileNotFoundError
        if request.flags & RENAME_EXCHANGE:
            if target is None:
                raise FileNotFoundError
            self._leave(folder, name)
            self._leave(newfolder, newname)
            self._enter(folder, name, target)
            target.changed()
        elif target is not None:
            if request.flags & RENAME_NOREPLACE:
                raise FileExistsError
            if target is node:
                return
            if target.is_folder and not node.is_folder:
                raise IsADirectoryError
            if node.is_folder and not target.is_folder:
                raise NotADirectoryError
            if target.is_folder and target.entries:
                raise OSError(errno.ENOTEMPTY, "not empty")
            self._remove(newfolder, newname)
            self._leave(folder, name)
        else:
            self._leave(folder, name)
        self._enter(newfolder, newname, node)
        node.changed()

    def readlink(self, request):
        return self._nodes[request.node].target

    def readdir(self, request):
        folder = self._nodes[request.node]
        listing = {".": folder.attr, "..": folder.parent.attr}
        listing.update((name, node.attr) for name, node in folder.entries.items())
        return listing

    # ---- Attributes ----

    def getattr(self, request):
        return self._nodes[request.node].attr

    def setattr(self, request):
        node, valid, now = self._nodes[request.node], request.valid, time.time_ns()
        attr = node.attr
        if valid & fusewire.SET_SIZE:
            node.contents.truncate(request.size)
            self._resize(node, request.size)
            attr.mtime_ns = now
        if valid & fusewire.SET_MODE:
            attr.mode = stat.S_IFMT(attr.mode) | stat.S_IMODE(request.mode)
        if valid & fusewire.SET_UID:
            attr.uid = request.set_uid
        if valid & fusewire.SET_GID:
            attr.gid = request.set_gid
        if valid & fusewire.SET_ATIME:
            attr.atime_ns = now if valid & fusewire.SET_ATIME_NOW else request.atime_ns
        if valid & fusewire.SET_MTIME:
            attr.mtime_ns = now if valid & fusewire.SET_MTIME_NOW else request.mtime_ns
        attr.ctime_ns = request.ctime_ns if valid & fusewire.SET_CTIME else now
        return attr

    def _resize(self, node, size):
        node.attr.size = size
        node.attr.blocks = (node.contents.used + 511) // 512

    def setxattr(self, request):
        node, name = self._nodes[request.node], request.name
        if name.startswith("system.posix_acl_"):
            raise OSError(errno.EOPNOTSUPP, "no access control lists")
        if request.flags & os.XATTR_CREATE and name in node.xattrs:
            raise FileExistsError
        if request.flags & os.XATTR_REPLACE and name not in node.xattrs:
            raise OSError(errno.ENODATA, "no such attribute")
        node.xattrs[name] = bytes(request.data)
        node.changed()

    def getxattr(self, request):
        value = self._nodes[request.node].xattrs.get(request.name)
        if value is None:
            raise OSError(errno.ENODATA, "no such attribute")
        return value

    def listxattr(self, request):
        return self._nodes[request.node].xattrs

    def removexattr(self, request):
        node = self._nodes[request.node]
        if node.xattrs.pop(request.name, None) is None:
            raise OSError(errno.ENODATA, "no such attribute")
        node.changed()

    def statfs(self, request):
        size, free = self._space.size // 4096, self._space.free // 4096
        files = len(self._nodes)
        return Statfs(blocks=size, bfree=free, bavail=free, files=files + free, ffree=free, namelen=NAME_MAX)

    # ---- Contents ----

    def read(self, request):
        node, offset = self._nodes[request.node], request.offset
        attr = node.attr
        # As relatime: a read is worth noting when it is the first one since a change.
        if attr.atime_ns <= attr.mtime_ns and not request.flags & os.O_NOATIME:
            attr.atime_ns = time.time_ns()
        return node.contents.read(offset, min(request.size, attr.size - offset))

    def write(self, request):
        node = self._nodes[request.node]
        return self._write(node, request.offset, request.data)

    def _write(self, node, offset, data):
        written = node.contents.write(offset, data)
        self._resize(node, max(node.attr.size, offset + written))
        node.changed(contents=True)
        return written

    def fallocate(self, request):
        node, mode = self._nodes[request.node], request.mode
        if not stat.S_ISREG(node.attr.mode):
            raise OSError(errno.ENODEV, "not a regular file")
        end = request.offset + request.size
        keep_size = mode & FALLOC_FL_KEEP_SIZE
        if mode & ~FALLOC_FL_KEEP_SIZE == 0:
            node.contents.allocate(request.offset, end)
        elif mode & ~FALLOC_FL_KEEP_SIZE == FALLOC_FL_ZERO_RANGE:
            node.contents.clear(request.offset, end)
            node.contents.allocate(request.offset, end)
        elif mode == FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE:
            node.contents.clear(request.offset, end)
        else:
            raise OSError(errno.EOPNOTSUPP, "a kind of allocation that it does not know")
        self._resize(node, node.attr.size if keep_size else max(node.attr.size, end))
        node.changed(contents=True)

    def lseek(self, request):
        node, offset = self._nodes[request.node], request.offset
        size = node.attr.size
        if offset >= size:
            raise OSError(errno.ENXIO, "behind the end")
        if request.whence == os.SEEK_HOLE:
            return min(node.contents.seek_hole(offset), size)
        if request.whence != os.SEEK_DATA:
            raise OSError(errno.EINVAL, "neither data nor hole")
        found = node.contents.seek_data(offset)
        if found is None or found >= size:
            raise OSError(errno.ENXIO, "no more data")
        return found

    def copy_file_range(self, request):
        if request.flags:
            raise OSError(errno.EINVAL, "unknown flags")
        source, target = self._nodes[request.node], self._nodes[request.newnode]
        size = max(0, min(request.size, source.attr.size - request.offset))
        # A part of it at a time, so that others are served in between: the caller asks again.
        size = min(size, 16 << 20)
        return self._write(target, request.newoffset, source.contents.read(request.offset, size)) if size else 0


def size_of(text):
    units = {"k": 10, "m": 20, "g": 30, "t": 40}
    shift = units.get(text[-1:].lower(), 0)
    size = int(text[:-1] if shift else text) << shift
    if size <= 0:
        raise ValueError(text)
    return size


def make(options, source):
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Memory(options.take("size", memory // 2, size_of))


if __name__ == "__main__":
    program.main(
        make,
        name="memfs",
        description="A filesystem in memory, which is gone when it is unmounted.",
        own_options="  size=N[k|m|g|t]           what it may hold; half of the machine's memory by default\n",
        mount_options="default_permissions,allow_other",
        attr_timeout=ALWAYS,
        entry_timeout=ALWAYS,
    )
