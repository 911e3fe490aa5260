#!/usr/bin/env python3
"""Another folder, written for fusepy with the functions of os as methods: mirror_fusepy.py FOLDER MOUNTPOINT"""

import os
import sys

import fuse


class Mirror(fuse.Operations):
    def __init__(self, source):
        self.source = os.path.abspath(source)

    def __call__(self, operation, path, *arguments):
        return super().__call__(operation, self.source + path, *arguments)

    chmod = os.chmod
    chown = os.chown
    mkdir = os.mkdir
    mknod = os.mknod
    open = os.open
    readlink = os.readlink
    rmdir = os.rmdir
    unlink = os.unlink
    utimens = os.utime

    getxattr = None
    listxattr = None

    def access(self, path, mode):
        if not os.access(path, mode):
            raise PermissionError(13, "no access")

    def getattr(self, path, fh=None):
        status = os.lstat(path)
        return {name: getattr(status, name) for name in dir(status) if name.startswith("st_")}

    def readdir(self, path, fh):
        return os.listdir(path)

    def create(self, path, mode):
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)

    def read(self, path, size, offset, fh):
        return os.pread(fh, size, offset)

    def write(self, path, data, offset, fh):
        return os.pwrite(fh, data, offset)

    def truncate(self, path, length, fh=None):
        os.truncate(path if fh is None else fh, length)

    def flush(self, path, fh):
        return os.fsync(fh)

    def release(self, path, fh):
        return os.close(fh)

    def rename(self, old, new):
        os.rename(old, self.source + new)

    def link(self, target, source):
        os.link(self.source + source, target)

    def symlink(self, target, source):
        os.symlink(source, target)

    def statfs(self, path):
        status = os.statvfs(path)
        return {name: getattr(status, name) for name in dir(status) if name.startswith("f_")}


if __name__ == "__main__":
    fuse.FUSE(Mirror(sys.argv[1]), sys.argv[2], foreground=True, nothreads=True, use_ino=True)
