"""The package's values and names against the library's header."""

import math
import os
import re
import stat
import time

import pytest
from python_support import ROOT

import fusewire
from fusewire import Attr, Entry, constants, replies, request, types
from fusewire._core import ffi, lib
from fusewire.options import mount_options, open_options

HEADER = (ROOT / "capi" / "fusewire_abi.h").read_text()


def test_version():
    assert fusewire.library_version >> 16 == int(fusewire.__version__.split(".")[0])
    assert fusewire.library_version >> 8 & 0xFF == int(fusewire.__version__.split(".")[1])


def test_every_enumerator_of_the_header_has_a_name_here():
    internal = {"ROOT_ID", "EXPIRE_ONLY", "WRITE_OUTCOME", "OPEN_ADOPT", "OPEN_RAW", "OPEN_REPORT_FAILURES"}
    prefixes = {"CAP_": constants.Capability, "TRANSPORT_": constants.Transport}
    found = 0
    for name in re.findall(r"^ *(?:enum \w+ \{ )?FUSEWIRE_(\w+) = ", HEADER, re.MULTILINE):
        value = getattr(lib, "FUSEWIRE_" + name)
        for prefix, names in prefixes.items():
            if name.startswith(prefix):
                assert names[name[len(prefix) :]] == value
                break
        else:
            if name in constants.Opcode.__members__:
                assert constants.Opcode[name] == value
            elif name not in internal:
                assert getattr(fusewire, name) == value
        found += 1
    assert found > 120


def test_every_opcode_has_a_handler_name_and_an_encoder():
    served = {int(opcode) for opcode in fusewire.Opcode} - {fusewire.Opcode.INIT}
    assert set(replies.ENCODERS) == served
    assert served <= set(request.OPERATIONS)


@pytest.mark.parametrize(
    ("kind", "structure", "missing"),
    [
        (types.Session, "fusewire_session", {"size"}),
        (types.Statistics, "fusewire_statistics", {"size"}),
        (types.Statfs, "fusewire_statfs", {"padding"}),
        (types.Lock, "fusewire_lock", set()),
    ],
)
def test_tuples_have_the_fields_of_their_structures(kind, structure, missing):
    fields = {name for name, _ in ffi.typeof(structure).fields} - missing
    assert set(kind._fields) == fields


def test_attr():
    attr = Attr.file(7, 0o600, size=1025, uid=1, gid=2, mtime_ns=5_000_000_007)
    assert (attr.ino, attr.mode, attr.size, attr.blocks) == (7, stat.S_IFREG | 0o600, 1025, 3)
    assert (attr.uid, attr.gid, attr.nlink) == (1, 2, 1)
    assert attr.mtime_ns == attr.atime_ns == attr.ctime_ns == 5_000_000_007
    attr.atime_ns = -1
    assert (attr.atime_ns, attr._c.atime, attr._c.atimensec) == (-1, -1, 999_999_999)
    other = attr.copy()
    assert other == attr
    other.size = 1
    assert other != attr and attr.size == 1025
    assert abs(Attr.dir(1).mtime_ns - time.time_ns()) < 10**9
    assert Attr.dir(1).nlink == 2
    assert Attr.symlink(3, "zür").size == 4


def test_attr_takes_only_what_fits():
    with pytest.raises(OverflowError):
        Attr.file(1 << 64)
    with pytest.raises(TypeError):
        Attr.file("2")
    attr = Attr.file(2)
    with pytest.raises(OverflowError):
        attr.uid = -1
    with pytest.raises(AttributeError):
        attr.sise = 1
    with pytest.raises(TypeError):
        hash(attr)


def test_attr_from_stat(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"x" * 5000)
    status = os.stat(file)
    attr = Attr.from_stat(status, 9)
    assert attr.ino == 9
    for name in ("mode", "size", "blocks", "nlink", "uid", "gid", "mtime_ns", "atime_ns", "ctime_ns"):
        assert getattr(attr, name) == getattr(status, "st_" + name)


def test_entry():
    entry = Entry(Attr.file(5), entry_timeout=1.5, attr_timeout=math.inf)
    assert (entry.node, entry._c.entry_valid, entry._c.entry_valid_nsec) == (5, 1, 500_000_000)
    assert entry._c.attr_valid >= 1 << 32
    assert Entry(Attr.file(5), node=6).node == 6
    assert Entry.negative(2)._c.nodeid == 0
    for wrong in (-1, math.nan):
        with pytest.raises(ValueError, match="timeout"):
            Entry(Attr.file(5), entry_timeout=wrong)


def test_statx():
    statx = fusewire.Statx(Attr(3, stat.S_IFCHR | 0o600, rdev=os.makedev(5, 300), mtime_ns=7), btime_ns=9)
    assert (statx._c.rdev_major, statx._c.rdev_minor) == (5, 300)
    assert (statx._c.mtime.tv_nsec, statx._c.btime.tv_nsec, statx.mask) == (7, 9, 0xFFF)


def test_mount_options():
    assert mount_options("", None, None) == ""
    assert (
        mount_options("noexec", "a,b\\c", "kind", ro=True, allow_other=False)
        == "noexec,fsname=a\\,b\\\\c,subtype=kind,ro"
    )


def test_open_options():
    c, _keep = open_options(transport="poll", capabilities=[1, 41], without_capabilities=[0], depth=3, raw=True, fd=7)
    assert (c.transport, c.capabilities, c.without_capabilities, c.depth, c.fd) == (1, 2 | 1 << 41, 1, 3, 7)
    assert c.flags == lib.FUSEWIRE_OPEN_RAW | lib.FUSEWIRE_OPEN_ADOPT
    with pytest.raises(ValueError, match="poll, ring"):
        open_options(transport="pigeon")
