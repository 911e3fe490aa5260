"""The built library against the last committed baseline, as abidiff sees it: nothing removed, nothing changed."""

import pathlib
import platform
import shutil
import subprocess

import pytest

HERE = pathlib.Path(__file__).parent
BASELINE = HERE / "fusewire.abi"

pytestmark = pytest.mark.skipif(not shutil.which("abidiff"), reason="abidiff is not installed (Debian: abigail-tools)")


def describe_library(library, header, output):
    command = [HERE / "describe-library", library, header, output]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return output


def abidiff(baseline, description):
    command = ["abidiff", "--no-added-syms", baseline, description]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the baseline is that of x86-64")
def test_library_keeps_the_abi(library, header, tmp_path):
    result = abidiff(BASELINE, describe_library(library, header, tmp_path / "built.abi"))
    assert result.returncode == 0, f"if this change is meant: script/update-abi\n{result.stdout}{result.stderr}"


HEADER = """
typedef struct fusewire_connection fusewire_connection;
typedef struct fusewire_x { int a; int b; } fusewire_x;
int fusewire_f(fusewire_connection *c, fusewire_x *x);
int fusewire_g(fusewire_connection *c);
"""
PRIVATE = "struct fusewire_connection { int a; int b; };\n"
FUNCTIONS = """
int fusewire_f(fusewire_connection *c, fusewire_x *x) { return c->a + x->a; }
int fusewire_g(fusewire_connection *c) { return c->b; }
"""


def compile_library(folder, header, source):
    folder.mkdir()
    (folder / "fusewire.h").write_text(header)
    (folder / "library.c").write_text('#include "fusewire.h"\n' + source)
    library = folder / "libfusewire.so"
    command = ["gcc", "-g", "-shared", "-fPIC", folder / "library.c", "-o", library]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return library


@pytest.mark.parametrize(
    ("header", "source", "compatible"),
    [
        pytest.param(HEADER, PRIVATE + FUNCTIONS, True, id="same"),
        pytest.param(HEADER, PRIVATE.replace("int a", "long a") + FUNCTIONS, True, id="private change"),
        pytest.param(
            HEADER + "int fusewire_h(void);\n",
            PRIVATE + FUNCTIONS + "int fusewire_h(void) { return 0; }\n",
            True,
            id="function added",
        ),
        pytest.param(HEADER.replace("int a; int b;", "int b; int a;"), PRIVATE + FUNCTIONS, False, id="member moved"),
        pytest.param(HEADER.replace("int b;", "int b; int c;"), PRIVATE + FUNCTIONS, False, id="structure grown"),
        pytest.param(
            HEADER.replace("fusewire_x *x", "long x"),
            PRIVATE + FUNCTIONS.replace("fusewire_x *x", "long x").replace("x->a", "(int)x"),
            False,
            id="argument changed",
        ),
        pytest.param(
            HEADER.replace("int fusewire_g(fusewire_connection *c);", ""),
            PRIVATE + FUNCTIONS.replace("int fusewire_g", "static int fusewire_g"),
            False,
            id="function removed",
        ),
    ],
)
def test_the_comparison_sees(tmp_path, header, source, compatible):
    """What the test above relies on, by the same commands."""
    descriptions = []
    for name, code in (("first", (HEADER, PRIVATE + FUNCTIONS)), ("second", (header, source))):
        library = compile_library(tmp_path / name, *code)
        descriptions.append(describe_library(library, library.with_name("fusewire.h"), tmp_path / f"{name}.abi"))
    result = abidiff(*descriptions)
    assert (result.returncode == 0) == compatible, result.stdout
