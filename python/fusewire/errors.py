"""What can go wrong, and how it is said: always an OSError with the library's own words."""

from __future__ import annotations

import errno
import os
from typing import Any

from ._core import ffi, lib

__all__ = ["Aborted", "Ended", "ReplyRefused", "Stopped", "Unmounted"]


class Ended(OSError):
    """The connection has come to its end: nothing more will be read from it. Its subclasses say how it ended."""


class Unmounted(Ended):
    """The filesystem was unmounted, also by force (ENODEV)."""


class Aborted(Ended):
    """The connection was aborted: through fusectl, or by the kernel (ECONNABORTED)."""


class Stopped(Ended):
    """Connection.stop was called, on this connection or on one of its clones (ESHUTDOWN)."""


class ReplyRefused(OSError):
    """The library did not take a reply: the request was answered before (EALREADY), the reply does not fit it (EINVAL,
    EMSGSIZE, ERANGE), or it belongs to another connection (EXDEV)."""


_ENDS = {errno.ENODEV: Unmounted, errno.ECONNABORTED: Aborted, errno.ESHUTDOWN: Stopped}


def string(words: Any) -> str:
    """What the library says in words."""
    raw: bytes = ffi.string(words)
    return raw.decode("utf-8", "replace")


def last_words() -> str:
    """This thread's last error of the library, in words."""
    return string(lib.fusewire_last_error())


def failure(code: int, path: str | None = None) -> OSError:
    """The exception for a negative errno that the library returned."""
    words = last_words()
    return OSError(-code, words) if path is None else OSError(-code, words, path)


def read_failure(code: int) -> OSError:
    """The same for fusewire_read, which also says how a connection ended."""
    end = _ENDS.get(-code)
    return failure(code) if end is None else end(-code, os.strerror(-code))


def refused(code: int) -> ReplyRefused:
    return ReplyRefused(-code, last_words())


def check(code: int) -> int:
    """Returns a result of the library, or raises the error that it is."""
    if code < 0:
        raise failure(code)
    return code
