#!/usr/bin/env python3
"""A filesystem in memory, written for pyfuse3: python3 shelf_pyfuse3.py MOUNTPOINT [--asyncio]"""

import errno
import itertools
import os
import stat
import sys
import threading
import time

import pyfuse3
import trio


class Thing:
    def __init__(self, inode, mode, content=b""):
        self.inode, self.mode, self.content = inode, mode, content
        self.owner = os.getuid(), os.getgid()
        self.atime = self.mtime = self.ctime = time.time_ns()
        self.names = {}  # of what is in a folder, with the positions at which they are listed
        self.labels = {}
        self.links = 0
        self.lookups = 0


class Shelf(pyfuse3.Operations):
    supports_dot_lookup = False
    enable_writeback_cache = False

    def __init__(self):
        super().__init__()
        self.things = {}
        self.numbers = itertools.count(pyfuse3.ROOT_INODE)
        self.positions = itertools.count(1)
        self.new(stat.S_IFDIR | 0o755)
        self.sleep = trio.sleep

    def init(self):
        self.started = True

    def new(self, mode, content=b""):
        inode = next(self.numbers)
        self.things[inode] = Thing(inode, mode, content)
        return self.things[inode]

    def attributes(self, thing):
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = thing.inode
        entry.st_mode = thing.mode
        entry.st_nlink = max(thing.links, 1)
        entry.st_uid, entry.st_gid = thing.owner
        entry.st_size = len(thing.content)
        entry.st_atime_ns, entry.st_mtime_ns, entry.st_ctime_ns = thing.atime, thing.mtime, thing.ctime
        entry.entry_timeout = entry.attr_timeout = 0.5
        return entry

    def put(self, parent, name, thing):
        if name in self.things[parent].names:
            raise pyfuse3.FUSEError(errno.EEXIST)
        self.things[parent].names[name] = thing, next(self.positions)
        thing.links += 1
        return self.counted(thing)

    def counted(self, thing):
        thing.lookups += 1
        return self.attributes(thing)

    def find(self, parent, name):
        try:
            return self.things[parent].names[name][0]
        except KeyError:
            raise pyfuse3.FUSEError(errno.ENOENT) from None

    async def lookup(self, parent_inode, name, ctx=None):
        assert self.started
        await self.sleep(0)
        if name == b"never":
            nothing = pyfuse3.EntryAttributes()
            nothing.st_ino = 0
            return nothing
        return self.counted(self.find(parent_inode, name))

    async def forget(self, inode_list):
        for inode, number in inode_list:
            thing = self.things[inode]
            thing.lookups -= number
            if thing.lookups == 0 and thing.links == 0:
                del self.things[inode]

    async def getattr(self, inode, ctx=None):
        return self.attributes(self.things[inode])

    async def setattr(self, inode, attr, fields, fh, ctx):
        thing = self.things[inode]
        if fields.update_size:
            thing.content = thing.content[: attr.st_size].ljust(attr.st_size, b"\0")
        if fields.update_mode:
            thing.mode = attr.st_mode
        if fields.update_uid:
            thing.owner = attr.st_uid, thing.owner[1]
        if fields.update_gid:
            thing.owner = thing.owner[0], attr.st_gid
        if fields.update_atime:
            thing.atime = attr.st_atime_ns
        if fields.update_mtime:
            thing.mtime = attr.st_mtime_ns
        return self.attributes(thing)

    async def mkdir(self, parent_inode, name, mode, ctx):
        assert stat.S_ISDIR(mode)
        return self.put(parent_inode, name, self.new(mode))

    async def mknod(self, parent_inode, name, mode, rdev, ctx):
        return self.put(parent_inode, name, self.new(mode))

    async def symlink(self, parent_inode, name, target, ctx):
        return self.put(parent_inode, name, self.new(stat.S_IFLNK | 0o777, target))

    async def readlink(self, inode, ctx):
        return self.things[inode].content

    async def link(self, inode, new_parent_inode, new_name, ctx):
        return self.put(new_parent_inode, new_name, self.things[inode])

    async def unlink(self, parent_inode, name, ctx):
        self.find(parent_inode, name).links -= 1
        del self.things[parent_inode].names[name]

    async def rmdir(self, parent_inode, name, ctx):
        if self.find(parent_inode, name).names:
            raise OSError(errno.ENOTEMPTY, "there is something in it")
        await self.unlink(parent_inode, name, ctx)

    async def rename(self, parent_inode_old, name_old, parent_inode_new, name_new, flags, ctx):
        if flags & ~pyfuse3.RENAME_NOREPLACE:
            raise pyfuse3.FUSEError(errno.EINVAL)
        thing = self.find(parent_inode_old, name_old)
        if name_new in self.things[parent_inode_new].names:
            if flags:
                raise pyfuse3.FUSEError(errno.EEXIST)
            await self.unlink(parent_inode_new, name_new, ctx)
        del self.things[parent_inode_old].names[name_old]
        self.things[parent_inode_new].names[name_new] = thing, next(self.positions)

    async def open(self, inode, flags, ctx):
        return pyfuse3.FileInfo(fh=inode, keep_cache=False)

    async def create(self, parent_inode, name, mode, flags, ctx):
        thing = self.new(mode)
        thing.owner = ctx.uid, ctx.gid
        return pyfuse3.FileInfo(fh=thing.inode), self.put(parent_inode, name, thing)

    async def read(self, fh, off, size):
        return self.things[fh].content[off : off + size]

    async def write(self, fh, off, buf):
        assert type(buf) is bytes
        thing = self.things[fh]
        before = thing.content.ljust(off, b"\0")
        thing.content = before[:off] + buf + before[off + len(buf) :]
        return len(buf)

    async def opendir(self, inode, ctx):
        return inode

    async def readdir(self, fh, start_id, token):
        for name, (thing, position) in list(self.things[fh].names.items()):
            if position > start_id:
                if not pyfuse3.readdir_reply(token, name, self.attributes(thing), position):
                    break
                thing.lookups += 1

    async def statfs(self, ctx):
        space = pyfuse3.StatvfsData()
        space.f_bsize = space.f_frsize = 4096
        space.f_files = len(self.things)
        space.f_namemax = 200
        return space

    async def access(self, inode, mode, ctx):
        return not mode & os.X_OK

    async def getxattr(self, inode, name, ctx):
        try:
            return self.things[inode].labels[name]
        except KeyError:
            raise pyfuse3.FUSEError(pyfuse3.ENOATTR) from None

    async def setxattr(self, inode, name, value, ctx):
        if name == b"user.end":
            self.end(value)
        self.things[inode].labels[name] = value

    def end(self, how):
        if how == b"thread":
            threading.Thread(target=pyfuse3.terminate).start()
        elif how == b"mistake":
            raise KeyError("a mistake")
        elif how == b"invalidate":
            pyfuse3.invalidate_inode(pyfuse3.ROOT_INODE, attr_only=True)
            pyfuse3.invalidate_entry(pyfuse3.ROOT_INODE, b"file")
            pyfuse3.invalidate_entry_async(pyfuse3.ROOT_INODE, b"file", ignore_enoent=True)
            threading.Thread(target=pyfuse3.invalidate_inode, args=(pyfuse3.ROOT_INODE,)).start()
        else:
            pyfuse3.terminate()

    async def listxattr(self, inode, ctx):
        return list(self.things[inode].labels)


if __name__ == "__main__":
    shelf = Shelf()
    options = set(pyfuse3.default_options)
    options.add("fsname=a shelf")
    options.discard("default_permissions")
    if "--asyncio" in sys.argv:
        import asyncio

        import pyfuse3.asyncio

        pyfuse3.asyncio.enable()
        shelf.sleep = asyncio.sleep
    pyfuse3.init(shelf, sys.argv[1], options)
    try:
        if "--asyncio" in sys.argv:
            asyncio.run(pyfuse3.main())
        else:
            trio.run(pyfuse3.main)
    except BaseException:
        pyfuse3.close(unmount=False)
        raise
    pyfuse3.close()
    print("done", flush=True)
