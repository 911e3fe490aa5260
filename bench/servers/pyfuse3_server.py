"""The bench filesystem on pyfuse3, in trio as its documentation has it, or with --asyncio; attributes are made once,
and kept. Without its default_permissions: the kernel would ask for attributes at each open."""

from __future__ import annotations

import argparse
import asyncio
import errno
import os
import signal

import pyfuse3
import pyfuse3.asyncio
import trio
from bench_filesystem import ATTR_VALID, ENTRY_VALID, FILE_MODE, FILE_SIZE, FOLDER_MODE, NODES, ROOT, content
from pyfuse3 import EntryAttributes, FileHandleT, FileInfo, InodeT, RequestContext

CONTENT = content()


def attributes(inode: int, mode: int, nlink: int, size: int) -> EntryAttributes:
    made = EntryAttributes()
    made.st_ino = InodeT(inode)
    made.st_mode = mode
    made.st_nlink = nlink
    made.st_size = size
    made.st_blksize = 4096
    made.entry_timeout = ENTRY_VALID
    made.attr_timeout = ATTR_VALID
    return made


class BenchFilesystem(pyfuse3.Operations):
    def __init__(self) -> None:
        super().__init__()
        self._attributes = {inode: attributes(inode, FILE_MODE, 1, FILE_SIZE) for inode in NODES.values()}
        self._attributes[ROOT] = attributes(ROOT, FOLDER_MODE, 2, 0)
        self._by_name = {os.fsencode(name): self._attributes[inode] for name, inode in NODES.items()}

    async def lookup(self, parent_inode: InodeT, name: bytes, ctx: RequestContext) -> EntryAttributes:
        found = self._by_name.get(name) if parent_inode == ROOT else None
        if found is None:
            raise pyfuse3.FUSEError(errno.ENOENT)
        return found

    async def getattr(self, inode: InodeT, ctx: RequestContext) -> EntryAttributes:
        return self._attributes[inode]

    async def open(self, inode: InodeT, flags: int, ctx: RequestContext) -> FileInfo:
        return FileInfo(fh=FileHandleT(inode), direct_io=True)

    async def read(self, fh: FileHandleT, off: int, size: int) -> bytes:
        return CONTENT[:size]  # type: ignore[return-value]  # any buffer does

    async def write(self, fh: FileHandleT, off: int, buf: bytes) -> int:
        return len(buf)

    async def release(self, fh: FileHandleT) -> None:
        pass


async def serve_in_trio() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(terminate_on_signal)
        await pyfuse3.main()
        nursery.cancel_scope.cancel()


async def terminate_on_signal() -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            pyfuse3.terminate()
            return


async def serve_in_asyncio() -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, pyfuse3.terminate)
    await pyfuse3.main()


def main() -> None:
    parser = argparse.ArgumentParser(prog="pyfuse3_server.py")
    parser.add_argument("--asyncio", action="store_true")
    parser.add_argument("mountpoint")
    options = parser.parse_args()
    if options.asyncio:
        pyfuse3.asyncio.enable()
    pyfuse3.init(BenchFilesystem(), options.mountpoint, {"fsname=bench-pyfuse3"})
    try:
        if options.asyncio:
            asyncio.run(serve_in_asyncio())
        else:
            trio.run(serve_in_trio)
    finally:
        pyfuse3.close()


if __name__ == "__main__":
    main()
