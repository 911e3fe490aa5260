"""The bench filesystem on fusewire's Python package: plain handlers served in an asyncio loop (--async: async
handlers), or with --raw the connection's own blocking read and reply. With -o workers=cpus a forked process for each
CPU, bound to it, serves that CPU's clients on a connection of its own."""

from __future__ import annotations

import argparse
import asyncio
import errno
import os
import signal
import sys
from collections.abc import Callable

import fusewire
from bench_filesystem import (
    ATTR_VALID,
    ENTRY_VALID,
    FILE_MODE,
    FILE_SIZE,
    FOLDER_MODE,
    MAX_WRITE,
    NODES,
    ROOT,
    content,
)
from fusewire import Attr, Connection, Opcode, Opened, Request

CONTENT = content()
OPENED = Opened(flags=fusewire.FOPEN_DIRECT_IO)


class BenchFilesystem:
    def __init__(self) -> None:
        self._attrs = {node: Attr(node, FILE_MODE, size=FILE_SIZE, uid=0, gid=0) for node in NODES.values()}
        self._attrs[ROOT] = Attr(ROOT, FOLDER_MODE, nlink=2, uid=0, gid=0)

    def lookup(self, request: Request) -> Attr:
        node = NODES.get(request.name) if request.node == ROOT else None
        if node is None:
            raise OSError(errno.ENOENT, "no such file")
        return self._attrs[node]

    def getattr(self, request: Request) -> Attr:
        return self._attrs[request.node]

    def open(self, request: Request) -> Opened:
        return OPENED

    def read(self, request: Request) -> memoryview:
        return CONTENT[: request.size]

    def write(self, request: Request) -> int:
        return request.size


class AsyncBenchFilesystem(BenchFilesystem):
    """The same with async handlers, which do not suspend."""

    async def getattr(self, request: Request) -> Attr:
        return self._attrs[request.node]

    async def read(self, request: Request) -> memoryview:
        return CONTENT[: request.size]

    async def write(self, request: Request) -> int:
        return request.size


def serve_raw(connection: Connection) -> None:
    filesystem = BenchFilesystem()
    handlers: dict[int, Callable[[Request], object]] = {
        Opcode.LOOKUP: filesystem.lookup,
        Opcode.GETATTR: filesystem.getattr,
        Opcode.OPEN: filesystem.open,
        Opcode.READ: filesystem.read,
        Opcode.WRITE: filesystem.write,
        Opcode.RELEASE: lambda request: None,
        Opcode.STATFS: lambda request: fusewire.Statfs(),
    }
    for request in connection:
        handler = handlers.get(request.opcode)
        try:
            if handler is not None:
                connection.reply(request, handler(request))
            elif request.id:
                connection.reply_error(request, errno.ENOSYS)
        except OSError as error:
            connection.reply_error(request, error.errno or errno.EIO)


async def serve_in_asyncio(connection: Connection, filesystem: BenchFilesystem) -> None:
    await connection.serve(filesystem)


def stop_on_signals(connection: Connection) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: connection.stop())


def serve(connection: Connection, options: argparse.Namespace) -> None:
    stop_on_signals(connection)
    if options.raw:
        serve_raw(connection)
    else:
        filesystem = AsyncBenchFilesystem() if options.is_async else BenchFilesystem()
        asyncio.run(serve_in_asyncio(connection, filesystem))


def serve_in_workers(connection: Connection, options: argparse.Namespace) -> int:
    """Forks them; in each, and in the parent when all have ended, returns the exit status. When one ends, all do, since
    nobody else serves its CPUs."""
    workers: dict[int, Connection] = {}
    count = fusewire.worker_count()
    for cpus in [fusewire.worker_cpus(index, count) for index in range(count)]:
        clone = connection.clone(cpus=cpus)
        pid = os.fork()
        if pid == 0:
            for other in (connection, *workers.values()):
                other.close()
            with clone:
                clone.pin()
                serve(clone, options)
            return 0
        workers[pid] = clone
    failed = False
    while workers:
        pid, status = os.wait()
        workers.pop(pid).close()
        failed = failed or status != 0
        connection.stop()
    return int(failed)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python_server.py")
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--raw", action="store_true")
    way.add_argument("--async", dest="is_async", action="store_true", help="handlers that are async")
    parser.add_argument("-o", dest="options", default="transport=auto", metavar="transport=NAME[,workers=cpus]")
    parser.add_argument("mountpoint")
    options = parser.parse_args()
    transport, _, workers = options.options.partition(",")
    if not transport.startswith("transport=") or workers not in ("", "workers=cpus"):
        parser.error(f"-o takes transport=NAME[,workers=cpus], not {options.options!r}")

    connection = fusewire.mount(
        options.mountpoint,
        fsname="bench-fusewire-python",
        transport=transport.removeprefix("transport="),
        cpus="" if workers else None,  # the parent serves none itself
        attr_timeout=ATTR_VALID,
        entry_timeout=ENTRY_VALID,
        max_write=MAX_WRITE,
    )
    with connection:
        if workers:
            stop_on_signals(connection)
            sys.exit(serve_in_workers(connection, options))
        serve(connection, options)


if __name__ == "__main__":
    main()
