"""Directory listings: what a readdir handler returned, kept in the order in which it came, so that an offset means the
same entry for as long as the folder stays open, whatever comes and goes meanwhile."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Mapping
from typing import Any

from ._core import ffi, lib
from .constants import ROOT
from .types import Attr, Entry

__all__ = ["Listing"]

# What the kernel and its tools take for "not known".
_UNKNOWN_INO = 0xFFFFFFFF


def _folder(ino: int) -> Attr:
    return Attr(ino, stat.S_IFDIR, mtime_ns=0, uid=0, gid=0)


class Listing:
    """The entries of one open folder. Made from a mapping of names to Attr, Entry or None (kind and number unknown), or
    from an iterable of such pairs or of bare names. "." and ".." are added where they are missing."""

    __slots__ = ("_entries",)

    def __init__(self, entries: object, node: int) -> None:
        pairs: Any
        if isinstance(entries, Mapping):
            pairs = entries.items()
        elif isinstance(entries, Iterable) and not isinstance(entries, (str, Attr, Entry)):
            pairs = entries
        else:
            raise TypeError(f"readdir returned {entries!r}: neither a mapping, an iterable of entries nor bytes")
        listed: list[tuple[bytes, Any]] = []
        dots = {b".", b".."}
        for pair in pairs:
            name, target = (pair, None) if isinstance(pair, (str, bytes)) else pair
            if target is not None and not isinstance(target, (Attr, Entry)):
                raise TypeError(f"readdir gave {target!r} for {name!r}: neither Attr, Entry nor None")
            name = os.fsencode(name)
            dots.discard(name)
            listed.append((name, target))
        if dots:
            parent = ROOT if node == ROOT else _UNKNOWN_INO
            listed[:0] = [(name, _folder(ino)) for name, ino in ((b".", node), (b"..", parent)) if name in dots]
        self._entries = listed

    def pack(self, buffer: Any, size: int, offset: int) -> int:
        """Puts what READDIR asks for from `offset` on into `buffer`, up to `size` bytes; returns how many they are."""
        used = 0
        append = lib.fusewire_dirent
        for index, (name, target) in enumerate(self._entries[offset:], offset + 1):
            if target is None:
                ino, mode = _UNKNOWN_INO, 0
            else:
                attr = target._c.attr if isinstance(target, Entry) else target._c
                ino, mode = attr.ino, attr.mode
            end = append(buffer, size, used, ino, index, mode & 0o170000, name, len(name))
            if end < 0:
                return _stop(end, used, name)
            used = end
        return used

    def pack_plus(self, buffer: Any, size: int, offset: int, entry_of: Any) -> int:
        """The same for READDIRPLUS. entry_of makes a C entry of an Attr or Entry; None says that the filesystem does
        not count the lookups that such entries are, so that the names alone are given."""
        used = 0
        append = lib.fusewire_direntplus
        bare = ffi.new("fusewire_entry *")
        for index, (name, target) in enumerate(self._entries[offset:], offset + 1):
            if target is None or entry_of is None or name in (b".", b".."):
                bare.attr.ino, bare.attr.mode = _UNKNOWN_INO, 0
                if target is not None:
                    attr = target._c.attr if isinstance(target, Entry) else target._c
                    bare.attr.ino, bare.attr.mode = attr.ino, attr.mode & 0o170000
                entry = bare
            else:
                entry = entry_of(target)
            end = append(buffer, size, used, entry, index, name, len(name))
            if end < 0:
                return _stop(end, used, name)
            used = end
        return used


def _stop(code: int, used: int, name: bytes) -> int:
    """The buffer is full, or the name cannot be."""
    if -code == errno.ENOBUFS and used:
        return used
    if -code == errno.ENOBUFS:
        raise ValueError(f"no room for the directory entry {name!r}")
    raise ValueError(f"{name!r} cannot be the name of a directory entry")
