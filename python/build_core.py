"""Writes the C source of the extension module fusewire._core from the library's ABI header, which it reads as it is.

Usage: python3 build_core.py fusewire_abi.h _core.c
"""

import sys

import cffi


def generate(header: str, output: str) -> None:
    builder = cffi.FFI()
    with open(header, encoding="utf-8") as file:
        builder.cdef(file.read())
    builder.set_source("fusewire._core", "#include <fusewire.h>")
    builder.emit_c_code(output)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: build_core.py HEADER OUTPUT")
    generate(sys.argv[1], sys.argv[2])
