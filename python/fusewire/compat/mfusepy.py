"""The interface of the package mfusepy, where it differs from fusepy's: `import fusewire.compat.mfusepy as mfusepy`, or
unchanged programs through `python3 -m fusewire.compat.fusepy PROGRAM ARGUMENTS...`."""

from __future__ import annotations

import errno
import functools
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any, Callable, Union

from . import fusepy
from .fusepy import ENOTSUP, FuseOSError, fuse_exit, fuse_file_info, fuse_get_context

__all__ = [
    "ENOATTR",
    "ENOTSUP",
    "FUSE",
    "FuseOSError",
    "LoggingMixIn",
    "Operations",
    "ReadDirResult",
    "fuse_config",
    "fuse_conn_info",
    "fuse_exit",
    "fuse_file_info",
    "fuse_get_context",
    "fuse_version_major",
    "fuse_version_minor",
    "log_callback",
    "overrides",
]

ENOATTR = errno.ENODATA

#: The libfuse that such a program may count on.
fuse_version_major, fuse_version_minor = 3, 16

ReadDirResult = Iterable[Union[str, tuple[str, dict[str, int], int], tuple[str, int, int]]]

#: The types of what init_with_config gets.
fuse_conn_info = fuse_config = SimpleNamespace


class Operations:
    """As fusepy's, but what a subclass does not override is not there, and operations are called directly. create gets
    the flags too, where it takes them; readdir_with_offset(path, offset, fh) may stand for readdir."""

    bmap = lock = flock = poll = read_buf = write_buf = None

    # For subclasses that call them; a filesystem that has no better ones has none.
    init_with_config = fusepy._answering(None)
    fallocate = fusepy._refusing(errno.ENOSYS)
    readdir_with_offset = fusepy._answering((".", ".."))


for _name, _default in vars(fusepy.Operations).items():
    if _name[0] != "_" and _name not in vars(Operations):
        setattr(Operations, _name, _default)


class FUSE(fusepy.FUSE):
    __doc__ = fusepy.FUSE.__doc__

    CALLS_OPERATIONS = False
    CREATE_TAKES_FLAGS = True

    @classmethod
    def is_default(cls, operations: Any, name: str, method: Any) -> bool:
        return name != "getattr" and method is getattr(Operations, name, None)


def log_callback(method: Callable[..., Any]) -> Callable[..., Any]:
    """Logs each call of the method and its result to "fuse.log-mixin"."""

    @functools.wraps(method)
    def logged(*arguments: Any) -> Any:
        log = fusepy.LoggingMixIn.log
        log.debug("-> %s %r", method.__name__, arguments)
        result: Any = "[Unhandled Exception]"
        try:
            result = method(*arguments)
            return result
        except OSError as error:
            result = str(error)
            raise
        finally:
            log.debug("<- %s %r", method.__name__, result)

    return logged


class LoggingMixIn:
    """Logs each operation of a subclass: class Example(LoggingMixIn, Operations)."""

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        default = getattr(Operations, name, None)
        is_operation = name[0] != "_" and hasattr(Operations, name) and callable(value)
        return log_callback(value) if is_operation and getattr(value, "__func__", value) is not default else value


def overrides(parent: type) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator that says so, and holds it to be true."""

    def check(method: Callable[..., Any]) -> Callable[..., Any]:
        if not hasattr(parent, method.__name__):
            raise AssertionError(f"{parent.__name__} has no {method.__name__} to override")
        return method

    return check
