#!/usr/bin/env python3
"""A filesystem in memory, written for fusepy: python3 shelf_fusepy.py MOUNTPOINT [--background]"""

import errno
import logging
import stat
import sys
import time

from fuse import FUSE, FuseOSError, LoggingMixIn, Operations, fuse_exit, fuse_get_context


class Shelf(LoggingMixIn, Operations):
    def __init__(self):
        self.things = {"/": self.new(stat.S_IFDIR | 0o755)}
        self.opened = 0

    def new(self, mode, content=b""):
        now = time.time()
        return {"st_mode": mode, "times": [now, now, now], "content": content, "labels": {}}

    def find(self, path):
        try:
            return self.things[path]
        except KeyError:
            raise FuseOSError(errno.ENOENT) from None

    def below(self, path):
        prefix = path.rstrip("/") + "/"
        return [each for each in self.things if each.startswith(prefix) and each != "/"]

    def getattr(self, path, fh=None):
        if path == "/who":
            return dict(st_mode=stat.S_IFREG | 0o444, st_size=100, st_nlink=1)
        thing = self.find(path)
        atime, mtime, ctime = thing["times"]
        return dict(
            st_mode=thing["st_mode"],
            st_nlink=2 if stat.S_ISDIR(thing["st_mode"]) else 1,
            st_size=len(thing["content"]),
            st_atime=atime,
            st_mtime=mtime,
            st_ctime=ctime,
            of_no_interest="to anybody",
        )

    def readdir(self, path, fh):
        start = len(path.rstrip("/")) + 1
        yield "."
        yield ".."
        for each in self.below(path):
            if "/" not in each[start:]:
                yield each[start:]

    def mkdir(self, path, mode):
        self.things[path] = self.new(stat.S_IFDIR | mode)

    def rmdir(self, path):
        if self.below(path):
            return -errno.ENOTEMPTY
        del self.things[path]

    def create(self, path, mode):
        self.things[path] = self.new(mode)
        return self.open(path, 0)

    def open(self, path, flags):
        self.opened += 1
        return self.opened

    def read(self, path, size, offset, fh):
        if path == "/who":
            uid, gid, pid = fuse_get_context()
            return f"{uid} {gid} {pid}\n".encode()[offset : offset + size]
        assert fh > 0
        return self.find(path)["content"][offset : offset + size]

    def write(self, path, data, offset, fh):
        if path == "/end":
            fuse_exit()
        thing = self.find(path)
        before = thing["content"].ljust(offset, b"\0")
        thing["content"] = before[:offset] + data + before[offset + len(data) :]
        thing["times"][1] = time.time()
        return len(data)

    def truncate(self, path, length, fh=None):
        thing = self.find(path)
        thing["content"] = thing["content"][:length].ljust(length, b"\0")

    def unlink(self, path):
        del self.things[path]

    def symlink(self, target, source):
        self.things[target] = self.new(stat.S_IFLNK | 0o777, source)

    def readlink(self, path):
        return self.find(path)["content"]

    def rename(self, old, new):
        for each in [old, *self.below(old)]:
            self.things[new + each[len(old) :]] = self.things.pop(each)

    def chmod(self, path, mode):
        self.find(path)["st_mode"] = mode

    def utimens(self, path, times=None):
        self.find(path)["times"][:2] = times or (time.time(), time.time())

    def statfs(self, path):
        return dict(f_bsize=1024, f_blocks=100, f_bavail=40, f_bfree=50)

    def setxattr(self, path, name, value, options, position=0):
        self.find(path)["labels"][name] = value

    def getxattr(self, path, name, position=0):
        try:
            return self.find(path)["labels"][name]
        except KeyError:
            raise FuseOSError(errno.ENODATA) from None

    def listxattr(self, path):
        return self.find(path)["labels"].keys()

    def removexattr(self, path, name):
        del self.find(path)["labels"][name]  # which fails with something else than an OSError where there is none


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    if not hasattr(__builtins__, "bytes"):
        sys.exit("as if for another Python")
    FUSE(Shelf(), sys.argv[1], foreground="--background" not in sys.argv, allow_other=True, big_writes=True)
    print("done", flush=True)
