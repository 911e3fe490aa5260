"""The headers: alone, under every compiler that C and C++ programs use, and as an FFI reads them."""

import subprocess

import cffi
import describe
import pytest

WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"]


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize(
    "compiler", [["gcc", "-std=c11"], ["clang", "-std=c11"], ["g++", "-std=c++17"], ["clang++", "-std=c++17"]], ids=" ".join
)
def test_header_compiles_alone(tmp_path, root, compiler, times):
    source = tmp_path / ("alone.cc" if "++" in compiler[0] else "alone.c")
    source.write_text('#include "fusewire.h"\n' * times + "int main(void) { return FUSEWIRE_VERSION == 0; }\n")
    command = [*compiler, *WARNINGS, "-I", root / "capi", "-c", source, "-o", tmp_path / "alone.o"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""


def test_abi_header_needs_no_preprocessor(header):
    assert "#" not in header.read_text()


def test_cffi_reads_the_abi_header_as_it_is(header, description):
    ffi = cffi.FFI()
    ffi.cdef(header.read_text())
    functions = {name for name in ffi._parser._declarations if name.startswith("function ")}
    assert functions == {f"function {function['name']}" for function in description["functions"]}


@pytest.mark.parametrize(
    "declaration",
    [
        "#define FUSEWIRE_X 1",
        "typedef struct fusewire_x { int a : 3; } fusewire_x;",
        "typedef struct fusewire_x { int a; } fusewire_x; int fusewire_f(fusewire_x x);",
        "typedef struct fusewire_x { int a; } fusewire_x; fusewire_x fusewire_f(int a);",
        "int fusewire_f(int a, ...);",
        "int fusewire_f();",
        "int fusewire_f(int);",
        "int fusewire_f(int (*callback)(void));",
        "static inline int fusewire_f(int a) { return a; }",
        "int fusewire_f(long a);",
        "int other(int a);",
        "enum { OTHER = 1 };",
        "typedef int fusewire_number;",
        "extern int fusewire_global;",
    ],
)
def test_description_refuses_what_some_ffi_cannot_read(tmp_path, declaration):
    path = tmp_path / "header.h"
    path.write_text(declaration + "\n")
    with pytest.raises(describe.HeaderError, match=r"header\.h:1"):
        describe.describe(path)


def test_description_of_every_form(tmp_path):
    path = tmp_path / "header.h"
    path.write_text(
        """
        /* A comment, // and another in it. */
        enum fusewire_e { FUSEWIRE_A, FUSEWIRE_B = 4, FUSEWIRE_C, FUSEWIRE_D = 1 << 3 | 1, FUSEWIRE_E = -2 };
        typedef struct fusewire_opaque fusewire_opaque;
        typedef struct fusewire_pair { uint64_t a; const char *b[FUSEWIRE_B]; } fusewire_pair; // done
        void fusewire_none(void);
        int fusewire_all(fusewire_opaque **out, const fusewire_pair *pair, const void **value, size_t size);
        """
    )
    assert describe.describe(path) == {
        "enums": [
            {
                "name": "fusewire_e",
                "constants": {"FUSEWIRE_A": 0, "FUSEWIRE_B": 4, "FUSEWIRE_C": 5, "FUSEWIRE_D": 9, "FUSEWIRE_E": -2},
            }
        ],
        "opaque": ["fusewire_opaque"],
        "structs": [
            {
                "name": "fusewire_pair",
                "fields": [
                    {"name": "a", "type": "uint64_t", "count": 1},
                    {"name": "b", "type": "const char *", "count": 4, "array": True},
                ],
            }
        ],
        "functions": [
            {"name": "fusewire_none", "result": "void", "arguments": []},
            {
                "name": "fusewire_all",
                "result": "int",
                "arguments": [
                    {"name": "out", "type": "fusewire_opaque **"},
                    {"name": "pair", "type": "const fusewire_pair *"},
                    {"name": "value", "type": "const void **"},
                    {"name": "size", "type": "size_t"},
                ],
            },
        ],
    }
