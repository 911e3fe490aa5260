"""The options of opening a connection, from Python's form into the library's."""

from __future__ import annotations

from collections.abc import Iterable
from operator import index
from typing import Any

from ._core import ffi, lib
from .constants import Transport
from .types import Session

__all__ = ["mount_options", "open_options"]


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace(",", "\\,")


def mount_options(options: str, fsname: str | None, subtype: str | None, **flags: bool) -> str:
    """A list as mount's -o takes it."""
    items = [options] if options else []
    if fsname is not None:
        items.append("fsname=" + _escaped(fsname))
    if subtype is not None:
        items.append("subtype=" + _escaped(subtype))
    items += [flag for flag, wanted in flags.items() if wanted]
    return ",".join(items)


def _bits(capabilities: Iterable[int]) -> int:
    bits = 0
    for capability in capabilities:
        bits |= 1 << capability
    return bits


def _cpu_list(cpus: str | Iterable[int]) -> bytes:
    if not isinstance(cpus, str):
        numbers = [index(cpu) for cpu in cpus]
        if numbers and min(numbers) < 0:
            raise ValueError(f"there is no CPU {min(numbers)}")
        cpus = ",".join(map(str, numbers))
    return cpus.encode()


def _transport(transport: str | int) -> int:
    if isinstance(transport, int):
        return transport
    try:
        return Transport[transport.upper()]
    except KeyError:
        known = ", ".join(each.name.lower() for each in Transport)
        raise ValueError(f"there is no transport {transport!r}; there are {known}") from None


def open_options(
    *,
    mount_options: str = "",
    transport: str | int = "auto",
    capabilities: Iterable[int] = (),
    without_capabilities: Iterable[int] = (),
    session: Session | None = None,
    fd: int | None = None,
    raw: bool = False,
    report_failures: bool = False,
    cpus: str | Iterable[int] | None = None,
    **numbers: int,
) -> tuple[Any, list[Any]]:
    """A fusewire_options, and what has to be kept alive while it is in use. `numbers` are fields of their own."""
    c = ffi.new("fusewire_options *")
    c.size = ffi.sizeof("fusewire_options")
    keep: list[Any] = []
    if mount_options:
        keep.append(ffi.new("char[]", mount_options.encode("utf-8", "surrogateescape")))
        c.mount_options = keep[-1]
    if session is not None:
        keep.append(ffi.new("fusewire_session *", (ffi.sizeof("fusewire_session"), *session)))
        c.session = keep[-1]
    if cpus is not None:
        keep.append(ffi.new("char[]", _cpu_list(cpus)))
        c.cpus = keep[-1]
    c.transport = _transport(transport)
    c.capabilities = _bits(capabilities)
    c.without_capabilities = _bits(without_capabilities)
    if fd is not None:
        c.fd = fd
        c.flags |= lib.FUSEWIRE_OPEN_ADOPT
    if raw:
        c.flags |= lib.FUSEWIRE_OPEN_RAW
    if report_failures:
        c.flags |= lib.FUSEWIRE_OPEN_REPORT_FAILURES
    for name, value in numbers.items():
        setattr(c, name, value)
    return c, keep
