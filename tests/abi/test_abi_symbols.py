"""What the library exports: the functions of the header, under one version, and nothing else."""

import pathlib
import re
import subprocess

SYMBOLS = pathlib.Path(__file__).with_name("symbols.txt")


def exported(library):
    """The dynamic symbols as NAME@@VERSION."""
    output = subprocess.run(
        ["nm", "--dynamic", "--defined-only", library], check=True, capture_output=True, text=True, timeout=60
    ).stdout
    entries = [line.split()[-2:] for line in output.splitlines()]
    return sorted(name for kind, name in entries if kind != "A")


def test_library_exports_the_committed_list(library):
    assert exported(library) == SYMBOLS.read_text().splitlines()


def test_library_exports_what_the_header_declares(library, description):
    names = [symbol.partition("@")[0] for symbol in exported(library)]
    assert names == sorted(function["name"] for function in description["functions"])


def test_version_script_names_what_the_header_declares(root, description):
    script = (root / "capi" / "fusewire.map").read_text()
    names = re.findall(r"^\s+(fusewire_\w+);", script, flags=re.MULTILINE)
    assert names == sorted(function["name"] for function in description["functions"])


def test_static_library_defines_only_names_of_its_own(build):
    output = subprocess.run(
        ["nm", "--defined-only", "--extern-only", build / "libfusewire.a"],
        check=True, capture_output=True, text=True, timeout=60,
    ).stdout
    names = {line.split()[2] for line in output.splitlines() if len(line.split()) == 3}
    assert "fusewire_open" in names
    assert {name for name in names if not name.startswith(("fusewire_", "__odr_asan."))} == set()
