"""Filesystems in Python: FUSE requests in your own event loop.

    class Hello:
        def getattr(self, request): ...
        async def read(self, request): ...

    with fusewire.mount("/mnt") as connection:
        await connection.serve(Hello())

mount returns a Connection; its docstring describes the three heights at which it is used."""

from . import constants as _constants
from ._core import lib as _lib
from .connection import Connection, adopt, mount, open_device, worker_count, worker_cpus
from .constants import *  # noqa: F403
from .errors import Aborted, Ended, ReplyRefused, Stopped, Unmounted
from .filesystem import Filesystem
from .paths import PathFilesystem, current_request
from .request import Request
from .types import Attr, Entry, IoctlRetry, Lock, Opened, Session, Statfs, Statistics, Statx

__version__ = "0.1.0"

#: The library's version, as 0x00MMmmpp.
library_version: int = _lib.fusewire_version()

__all__ = [
    "Aborted",
    "Attr",
    "Connection",
    "Ended",
    "Entry",
    "Filesystem",
    "IoctlRetry",
    "Lock",
    "Opened",
    "PathFilesystem",
    "ReplyRefused",
    "Request",
    "Session",
    "Statfs",
    "Statistics",
    "Statx",
    "Stopped",
    "Unmounted",
    "adopt",
    "current_request",
    "library_version",
    "mount",
    "open_device",
    "worker_count",
    "worker_cpus",
]
__all__ += _constants.__all__
