"""The bench filesystem on mfusepy: paths and dictionaries, as libfuse's high-level API has them. One thread, or with
--threads libfuse's own, which then wait for each other at the interpreter's lock."""

from __future__ import annotations

import argparse
import errno
import os
from typing import Any

import mfusepy  # type: ignore[import-untyped]
from bench_filesystem import ATTR_VALID, ENTRY_VALID, FILE_MODE, FILE_SIZE, FOLDER_MODE, MAX_WRITE, NODES, ROOT

CONTENT = b"x" * MAX_WRITE
READS = {MAX_WRITE: CONTENT}  # by size, and as bytes: nothing else does

ENDED_BY_SIGNAL = 8  # libfuse's status


class BenchFilesystem(mfusepy.Operations):  # type: ignore[misc]
    use_ns = True

    def __init__(self) -> None:
        file = {"st_mode": FILE_MODE, "st_nlink": 1, "st_size": FILE_SIZE, "st_blksize": 4096}
        self._attributes: dict[str, dict[str, Any]] = {f"/{name}": {"st_ino": NODES[name], **file} for name in NODES}
        self._attributes["/"] = {"st_ino": ROOT, "st_mode": FOLDER_MODE, "st_nlink": 2, "st_blksize": 4096}

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        found = self._attributes.get(path)
        if found is None:
            raise mfusepy.FuseOSError(errno.ENOENT)
        return found

    def open(self, path: str, flags: int) -> int:
        return 0

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        data = READS.get(size)
        if data is None:
            data = READS[size] = CONTENT[:size]
        return data

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        return len(data)

    def release(self, path: str, fh: int) -> int:
        return 0


def main() -> None:
    parser = argparse.ArgumentParser(prog="mfusepy_server.py")
    parser.add_argument("--threads", action="store_true")
    parser.add_argument("mountpoint")
    options = parser.parse_args()
    try:
        mfusepy.FUSE(
            BenchFilesystem(),
            os.path.abspath(options.mountpoint),
            foreground=True,
            nothreads=not options.threads,
            fsname="bench-mfusepy",
            direct_io=True,
            use_ino=True,
            entry_timeout=ENTRY_VALID,
            attr_timeout=ATTR_VALID,
        )
    except RuntimeError as error:
        if error.args != (ENDED_BY_SIGNAL,):
            raise


if __name__ == "__main__":
    main()
