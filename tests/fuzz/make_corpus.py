#!/usr/bin/env python3
"""Writes the seed corpus of the fuzz targets: one well-formed message of each kind, and some that are just not.

Usage: make_corpus.py [FOLDER]    (default: corpus, beside this file)
"""

import struct
import sys
from pathlib import Path

MINOR = 45
SETXATTR_EXT, SECURITY_CTX, CREATE_SUPP_GROUP = 1 << 29, 1 << 32, 1 << 34
CAPABILITIES = SETXATTR_EXT | SECURITY_CTX | CREATE_SUPP_GROUP
EMPTY, INIT = b"", struct.pack("<16I", 7, MINOR, 131072, 0x7FFFFFFF, 0x7FF, *[0] * 11)


def aligned(data):
    return data + bytes(-len(data) % 8)


def context(name, value):
    return aligned(struct.pack("<II", len(value), 0) + name + b"\0" + value)


def extension(kind, content):
    content = aligned(content)
    return struct.pack("<II", 8 + len(content), kind) + content


CONTEXTS = extension(2, context(b"security.selinux", b"user_u") + context(b"security.smack", b"_"))
GROUPS = extension(32, struct.pack("<III", 2, 100, 101))
TWO_RECORDS = struct.pack("<4Q", 2, 1, 3, 1)
READ = struct.pack("<QQIIQII", 3, 0, 4096, 2, 9, 0, 0)
LOCK = struct.pack("<QQQQIIII", 3, 9, 0, 2**63 - 1, 1, 7, 1, 0)
COPY = struct.pack("<7Q", 3, 0, 4, 5, 0, 65536, 0)

# Name of the case: opcode, what follows the header, extensions.
REQUESTS = {
    "lookup": (1, b"name\0", EMPTY),
    "forget": (2, struct.pack("<Q", 1), EMPTY),
    "getattr": (3, struct.pack("<IIQ", 1, 0, 3), EMPTY),
    "setattr": (4, struct.pack("<IIQQQqqqIIIIIIII", 0x1FF, 0, 3, 4, 5, 6, 7, 8, *range(8)), EMPTY),
    "readlink": (5, EMPTY, EMPTY),
    "symlink": (6, b"name\0target\0", EMPTY),
    "mknod": (8, struct.pack("<IIII", 0o20644, 0x103, 0o22, 0) + b"name\0", EMPTY),
    "mkdir": (9, struct.pack("<II", 0o755, 0o22) + b"name\0", EMPTY),
    "mkdir-contexts": (9, struct.pack("<II", 0o755, 0o22) + b"name\0", CONTEXTS),
    "mkdir-groups": (9, struct.pack("<II", 0o755, 0o22) + b"name\0", GROUPS),
    "mkdir-both": (9, struct.pack("<II", 0o755, 0o22) + b"name\0", CONTEXTS + GROUPS),
    "mkdir-unknown": (9, struct.pack("<II", 0o755, 0o22) + b"name\0", extension(33, b"12345678")),
    "unlink": (10, b"name\0", EMPTY),
    "rmdir": (11, b"name\0", EMPTY),
    "rename": (12, struct.pack("<Q", 1) + b"old\0new\0", EMPTY),
    "link": (13, struct.pack("<Q", 2) + b"name\0", EMPTY),
    "open": (14, struct.pack("<II", 2, 1), EMPTY),
    "read": (15, READ, EMPTY),
    "write": (16, struct.pack("<QQIIQII", 3, 0, 4, 2, 9, 0, 0) + b"data", EMPTY),
    "statfs": (17, EMPTY, EMPTY),
    "release": (18, struct.pack("<QIIQ", 3, 2, 1, 9), EMPTY),
    "fsync": (20, struct.pack("<QII", 3, 1, 0), EMPTY),
    "setxattr": (21, struct.pack("<IIII", 5, 1, 1, 0) + b"user.name\0value", EMPTY),
    "getxattr": (22, struct.pack("<II", 100, 0) + b"user.name\0", EMPTY),
    "getxattr-size": (22, struct.pack("<II", 0, 0) + b"user.name\0", EMPTY),
    "listxattr": (23, struct.pack("<II", 100, 0), EMPTY),
    "removexattr": (24, b"user.name\0", EMPTY),
    "flush": (25, struct.pack("<QIIQ", 3, 0, 0, 9), EMPTY),
    "init": (26, INIT, EMPTY),
    "init-short": (26, INIT[:16], EMPTY),
    "init-newer": (26, struct.pack("<II", 8, 0), EMPTY),
    "init-older": (26, struct.pack("<IIII", 7, 11, 0, 0), EMPTY),
    "opendir": (27, struct.pack("<II", 0, 0), EMPTY),
    "readdir": (28, READ, EMPTY),
    "releasedir": (29, struct.pack("<QIIQ", 3, 0, 0, 0), EMPTY),
    "fsyncdir": (30, struct.pack("<QII", 3, 0, 0), EMPTY),
    "getlk": (31, LOCK, EMPTY),
    "setlk": (32, LOCK, EMPTY),
    "setlkw": (33, LOCK, EMPTY),
    "access": (34, struct.pack("<II", 4, 0), EMPTY),
    "create": (35, struct.pack("<IIII", 0o102, 0o100644, 0o22, 0) + b"name\0", EMPTY),
    "create-both": (35, struct.pack("<IIII", 0o102, 0o100644, 0o22, 0) + b"name\0", CONTEXTS + GROUPS),
    "interrupt": (36, struct.pack("<Q", 10), EMPTY),
    "bmap": (37, struct.pack("<QII", 1, 512, 0), EMPTY),
    "destroy": (38, EMPTY, EMPTY),
    "ioctl": (39, struct.pack("<QIIQII", 3, 2, 0x1234, 0, 4, 8) + b"data", EMPTY),
    "poll": (40, struct.pack("<QQII", 3, 11, 1, 5), EMPTY),
    "notify-reply": (41, struct.pack("<QQIIQQ", 0, 0, 4, 0, 0, 0) + b"data", EMPTY),
    "batch-forget": (42, struct.pack("<II", 2, 0) + TWO_RECORDS, EMPTY),
    "batch-forget-beyond": (42, struct.pack("<II", 2**28 + 2, 0) + TWO_RECORDS, EMPTY),
    "fallocate": (43, struct.pack("<QQQII", 3, 0, 4096, 1, 0), EMPTY),
    "readdirplus": (44, READ, EMPTY),
    "rename2": (45, struct.pack("<QII", 1, 2, 0) + b"old\0new\0", EMPTY),
    "lseek": (46, struct.pack("<QQII", 3, 0, 3, 0), EMPTY),
    "copy-file-range": (47, COPY, EMPTY),
    "setupmapping": (48, struct.pack("<5Q", 3, 0, 4096, 3, 0), EMPTY),
    "removemapping": (49, struct.pack("<I", 2) + TWO_RECORDS, EMPTY),
    "syncfs": (50, bytes(8), EMPTY),
    "tmpfile": (51, struct.pack("<IIII", 2, 0o100600, 0o22, 0) + b"/\0", EMPTY),
    "statx": (52, struct.pack("<IIQII", 1, 0, 3, 0, 0x7FF), EMPTY),
    "copy-file-range-64": (53, COPY, EMPTY),
    "unknown": (54, b"anything", EMPTY),
}


def request(opcode, body, extensions, capabilities=CAPABILITIES, minor=MINOR, words=None):
    """An input of fuzz_decode."""
    words = len(extensions) // 8 if words is None else words
    size = 40 + len(body) + len(extensions)
    header = struct.pack("<IIQQIIIHH", size, opcode, 10, 1, 1000, 1000, 42, words, 0)
    return struct.pack("<QII", capabilities, minor, 1) + header + body + extensions


# What stands before a request's names and data, by opcode; of the others all of the body does.
FIXED = {1: 0, 6: 0, 8: 16, 9: 8, 10: 0, 11: 0, 12: 8, 13: 8, 16: 40, 21: 16, 22: 8, 24: 0, 35: 16, 39: 32, 41: 40}
FIXED |= {42: 8, 45: 16, 49: 4, 51: 16, 54: 0}


def entry(opcode, body, extensions, room=0, size=None, payload_size=None, steering=0):
    """An input of fuzz_uring: a ring entry whose payload has `room` bytes more than the request."""
    fixed = FIXED.get(opcode, len(body))
    payload = body[fixed:] + extensions
    size = 40 + len(body) + len(extensions) if size is None else size
    payload_size = len(payload) if payload_size is None else payload_size
    header = struct.pack("<IIQQIIIHH", size, opcode, 10, 1, 1000, 1000, 42, len(extensions) // 8, 0)
    header = header.ljust(128, b"\0") + body[:fixed].ljust(128, b"\0")
    header += struct.pack("<QQIIQ", 0, 10, payload_size, 0, 0)
    return struct.pack("<QII", CAPABILITIES, MINOR, steering) + header + payload + bytes(room)


# The kinds of enum wire_reply_kind, in its order, with a body that is right.
KINDS = [
    ("never", 0), ("empty", 0), ("entry", 128), ("attr", 104), ("open", 16), ("create", 144), ("data", 100),
    ("write", 8), ("copied", 8), ("xattr-size", 8), ("statfs", 80), ("lock", 24), ("bmap", 8), ("ioctl", 116),
    ("poll", 8), ("lseek", 8), ("statx", 288), ("init", 64), ("unknown", 5),
]  # fmt: skip

NAME = struct.pack("<QII", 1, 4, 0)
NOTIFICATIONS = {
    "poll": (1, struct.pack("<Q", 11), 0),
    "inval-inode": (2, struct.pack("<Qqq", 2, 0, 0), 0),
    "inval-entry": (3, NAME + b"name\0", 0),
    "inval-entry-behind": (3, NAME, 5),
    "store": (4, struct.pack("<QQII", 2, 0, 4, 0) + b"data", 0),
    "retrieve": (5, struct.pack("<QQQII", 12, 2, 0, 4096, 0), 0),
    "delete": (6, struct.pack("<QQII", 1, 2, 4, 0) + b"name\0", 0),
    "resend": (7, EMPTY, 0),
    "inc-epoch": (8, EMPTY, 0),
    "prune": (9, struct.pack("<IIQQ", 1, 0, 0, 2), 0),
}


def reply(kind, error, body, limit=100, op_flags=0, unique=10, behind=0, minor=MINOR):
    """An input of fuzz_reply; with unique 0 a notification."""
    prefix = struct.pack("<QQIIIIII", unique, limit, kind, op_flags, minor, behind, 3, 0)
    return prefix + struct.pack("<IiQ", 16 + len(body) + behind, error, unique) + body


def decode_cases():
    for name, arguments in REQUESTS.items():
        yield name, request(*arguments)
    yield "setxattr-short", request(21, struct.pack("<II", 5, 1) + b"user.name\0value", EMPTY, 0, 28)
    yield "mkdir-uncounted", request(*REQUESTS["mkdir-contexts"], minor=37, words=0)
    yield "mkdir-too-many-words", request(*REQUESTS["mkdir-both"], words=65535)


def reply_cases():
    for kind, (name, size) in enumerate(KINDS):
        yield name, reply(kind, 0, bytes(size))
        yield name + "-error", reply(kind, -2, EMPTY)
    yield "write-too-much", reply(7, 0, struct.pack("<II", 101, 0))
    yield "copied-too-much", reply(8, 0, struct.pack("<Q", 101))
    yield "data-behind", reply(6, 0, EMPTY, limit=1 << 20, behind=1 << 20)
    yield "data-too-much", reply(6, 0, bytes(101))
    yield "error-out-of-range", reply(1, -512, EMPTY)
    yield "init-before-23", reply(17, 0, bytes(24), minor=22)
    pieces = struct.pack("<iIII4Q", 0, 4, 1, 1, 4096, 8, 8192, 8)
    yield "ioctl-retry", reply(13, 0, pieces, op_flags=2)
    yield "ioctl-retry-restricted", reply(13, 0, pieces)
    for name, (code, body, behind) in NOTIFICATIONS.items():
        yield "notify-" + name, reply(0, code, body, unique=0, behind=behind)


def uring_cases():
    for name, arguments in REQUESTS.items():
        yield name, entry(*arguments)
    write = REQUESTS["write"]
    yield "write-room", entry(*write, room=100)
    yield "write-put-right", entry(*write, size=0, steering=1 | 40 << 8)
    yield "header-too-short", entry(*REQUESTS["readlink"], size=39)
    yield "fixed-part-too-large", entry(*REQUESTS["statfs"], size=40 + 129)
    yield "payload-beyond-message", entry(*write, room=100, payload_size=45)
    yield "payload-beyond-entry", entry(*write, size=85, payload_size=5)
    yield "payload-overflows", entry(*write, size=39, payload_size=0xFFFFFFFF)


def main():
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "corpus"
    for target, cases in (("decode", decode_cases()), ("reply", reply_cases()), ("uring", uring_cases())):
        (folder / target).mkdir(parents=True, exist_ok=True)
        for name, data in cases:
            (folder / target / name).write_bytes(data)


if __name__ == "__main__":
    main()
