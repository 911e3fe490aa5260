"""Where the members of each structure lie: as the compiler, cffi, the Python extension and the committed baseline say."""

import json
import os
import pathlib
import subprocess
import sys

import cffi
import pytest

BASELINE = pathlib.Path(__file__).with_name("layout.json")

# Prints the layout that an ffi object has; run in a process of its own, where the extension can be loaded.
EXTENSION = """
import json, sys
from fusewire import _core
def layout(name):
    ctype = _core.ffi.typeof(name)
    return {"size": _core.ffi.sizeof(ctype), "alignment": _core.ffi.alignof(ctype),
            "fields": {field: [member.offset, _core.ffi.sizeof(member.type)] for field, member in ctype.fields}}
names = json.loads(sys.argv[1])
json.dump({"structs": {name: layout(name) for name in names["structs"]},
           "constants": {name: getattr(_core.lib, name) for name in names["constants"]},
           "missing": [name for name in names["functions"] if not hasattr(_core.lib, name)]}, sys.stdout)
"""


def places(layout):
    """Sizes, alignments and offsets alone."""
    return {
        name: {
            "size": struct["size"],
            "alignment": struct["alignment"],
            "fields": {field: [member["offset"], member["size"]] for field, member in struct["fields"].items()},
        }
        for name, struct in layout["structs"].items()
    }


def constants_of(description):
    return {name: value for enum in description["enums"] for name, value in enum["constants"].items()}


@pytest.fixture(scope="module")
def compiled(build):
    """The layout by offsetof and sizeof, from a C program that was built with the library."""
    program = build / "tests" / "abi" / "abi_layout"
    return json.loads(subprocess.run([program], check=True, capture_output=True, timeout=60).stdout)


def test_compiler_and_description_agree(compiled, description):
    fields = {struct["name"]: {f["name"]: f["type"] for f in struct["fields"]} for struct in description["structs"]}
    assert {
        name: {field: member["type"] for field, member in struct["fields"].items()}
        for name, struct in compiled["structs"].items()
    } == fields
    assert compiled["constants"] == constants_of(description)


def test_cffi_agrees(compiled, header, description):
    ffi = cffi.FFI()
    ffi.cdef(header.read_text())
    layout = {}
    for name in compiled["structs"]:
        ctype = ffi.typeof(name)
        fields = {field: [member.offset, ffi.sizeof(member.type)] for field, member in ctype.fields}
        layout[name] = {"size": ffi.sizeof(ctype), "alignment": ffi.alignof(ctype), "fields": fields}
    assert layout == places(compiled)


def test_no_structure_has_holes(compiled):
    """Padding that no member names would reach bindings and the kernel with whatever was in memory."""
    for name, struct in compiled["structs"].items():
        end = 0
        for field, member in struct["fields"].items():
            assert member["offset"] == end, f"a hole before {name}.{field}"
            end = member["offset"] + member["size"]
        assert struct["size"] == end, f"a hole at the end of {name}"


def test_python_extension_agrees(compiled, build, description):
    if not list((build / "python" / "fusewire").glob("_core*.so")):
        pytest.skip("the Python extension is not part of this build")
    environment = dict(os.environ, PYTHONPATH=str(build / "python"), LD_LIBRARY_PATH=str(build))
    if "FUSEWIRE_PYTHON_PRELOAD" in os.environ:  # an instrumented build, see script/test
        environment.update(LD_PRELOAD=os.environ["FUSEWIRE_PYTHON_PRELOAD"], ASAN_OPTIONS="detect_leaks=0")
    names = {
        "structs": list(compiled["structs"]),
        "constants": list(compiled["constants"]),
        "functions": [function["name"] for function in description["functions"]],
    }
    result = subprocess.run(
        [sys.executable, "-c", EXTENSION, json.dumps(names)],
        env=environment, capture_output=True, text=True, timeout=60,
    )
    assert result.returncode == 0, result.stderr
    extension = json.loads(result.stdout)
    assert extension["structs"] == places(compiled)
    assert extension["constants"] == compiled["constants"]
    assert extension["missing"] == []


@pytest.mark.skipif(sys.maxsize < 2**32, reason="the baseline is that of 64-bit machines")
def test_layout_is_the_committed_one(compiled):
    assert compiled == json.loads(BASELINE.read_text()), "if this change is meant: script/update-abi"
