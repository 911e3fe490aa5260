"""The bench filesystem (bench_filesystem.h) for the servers in Python, which each put it into their own words."""

from __future__ import annotations

import mmap

ROOT = 1
FILES = 64
FIRST_FILE = 2  # node id of "0"
FILE_SIZE = 64 << 20
MAX_WRITE = 1 << 20
ENTRY_VALID = 3600.0  # seconds
ATTR_VALID = 0.0
FILE_MODE = 0o100644
FOLDER_MODE = 0o40755

NODES = {str(number): number + FIRST_FILE for number in range(FILES)}


def content() -> memoryview:
    """What a read returns, as long as the longest one; on a page, in every server alike: it saves the kernel one."""
    memory = mmap.mmap(-1, MAX_WRITE)
    memory.write(b"x" * MAX_WRITE)
    return memoryview(memory)
