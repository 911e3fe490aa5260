#!/usr/bin/env python3
"""A folder of numbered files, written for mfusepy: list_mfusepy.py MOUNTPOINT"""

import errno
import stat
import sys

import mfusepy as fuse

COUNT = 2000


class Numbers(fuse.LoggingMixIn, fuse.Operations):
    use_ns = True

    def __init__(self):
        self.notes = {}

    @fuse.overrides(fuse.Operations)
    def init_with_config(self, conn_info, config_3):
        config_3.use_ino = True
        config_3.nullpath_ok = True

    @fuse.overrides(fuse.Operations)
    def getattr(self, path, fh=None):
        attributes = {"st_mtime": 1_000_000_000_000_000_001, "st_nlink": 1}
        if path == "/":
            return {**attributes, "st_mode": stat.S_IFDIR | 0o755, "st_ino": 1_000_000}
        if path in self.notes:
            return {**attributes, "st_mode": stat.S_IFREG | 0o600, "st_ino": 7, "st_size": len(self.notes[path])}
        if path[1:].isdigit() and int(path[1:]) < COUNT:
            return {**attributes, "st_mode": stat.S_IFREG | 0o444, "st_ino": int(path[1:]) + 100, "st_size": 10}
        raise fuse.FuseOSError(errno.ENOENT)

    @fuse.overrides(fuse.Operations)
    def readdir_with_offset(self, path, offset, fh):
        for number in range(offset, COUNT):
            yield f"{number:05d}", stat.S_IFREG, number + 1

    @fuse.log_callback
    @fuse.overrides(fuse.Operations)
    def create(self, path, mode, flags):
        if not flags & 3:
            raise fuse.FuseOSError(errno.EINVAL)
        self.notes[path] = b""
        return 0

    @fuse.overrides(fuse.Operations)
    def read(self, path, size, offset, fh):
        return self.notes.get(path, b"%010d" % int(path[1:] if path[1:].isdigit() else 0))[offset : offset + size]

    @fuse.overrides(fuse.Operations)
    def write(self, path, data, offset, fh):
        self.notes[path] = self.notes[path][:offset] + data
        return len(data)

    @fuse.overrides(fuse.Operations)
    def getxattr(self, path, name, position=0):
        raise fuse.FuseOSError(fuse.ENOATTR)


if __name__ == "__main__":
    fuse.FUSE(Numbers(), sys.argv[1], foreground=True)
