"""The installed library, moved away from where it was installed, as a C program outside of the source tree uses it."""

import os
import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("FUSEWIRE_BUILD", ROOT / "build")).resolve()

PROGRAM = """
#include <fusewire.h>
#include <stdio.h>
int main(void)
{
    printf("%06x %06x\\n", (unsigned)fusewire_version(), (unsigned)FUSEWIRE_VERSION);
    return fusewire_read(NULL, NULL, 0, 0, 0) != -22;
}
"""

PROJECT = """
cmake_minimum_required(VERSION 3.25)
project(outside LANGUAGES C)
find_package(fusewire 0.1 REQUIRED CONFIG)
add_executable(shared main.c)
target_link_libraries(shared PRIVATE fusewire::fusewire)
"""

STATIC = """
find_package(fusewire REQUIRED CONFIG COMPONENTS static)
add_executable(static main.c)
target_link_libraries(static PRIVATE fusewire::fusewire_static)
"""


def run(*command, **environment):
    result = subprocess.run(
        [str(part) for part in command], env=dict(os.environ, **environment), capture_output=True, text=True, timeout=110
    )
    assert result.returncode == 0, f"{command}\n{result.stdout}{result.stderr}"
    return result.stdout


def cached(name):
    """A variable of the build tree's CMake cache."""
    match = re.search(rf"^{name}:\w+=(.*)$", (BUILD / "CMakeCache.txt").read_text(), flags=re.MULTILINE)
    return match.group(1) if match else ""


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    if cached("FUSEWIRE_SANITIZE"):
        pytest.skip("a sanitized library is not for installing")
    base = tmp_path_factory.mktemp("install")
    run("cmake", "--install", BUILD, "--prefix", base / "first")
    (base / "first").rename(base / "moved away")
    return base / "moved away"


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "main.c"
    path.write_text(PROGRAM)
    return path


@pytest.fixture(scope="module")
def libdir(prefix):
    (found,) = prefix.rglob("libfusewire.so")
    return found.parent


@pytest.fixture(scope="module")
def version():
    """What the program prints: the library's version and the header's, which are that of the project."""
    numbers = [int(number) for number in cached("CMAKE_PROJECT_VERSION").split(".")]
    digits = "".join(f"{number:02x}" for number in numbers)
    return f"{digits} {digits}\n"


def package_flags(libdir, *options):
    """What pkg-config says, split as a shell would."""
    output = run("pkg-config", *options, "fusewire", PKG_CONFIG_PATH=str(libdir / "pkgconfig"))
    return run("bash", "-c", f"printf '%s\\n' {output.strip()}").splitlines()


def test_installed_files(prefix, libdir):
    assert sorted(path.name for path in (prefix / "include").iterdir()) == ["fusewire.h", "fusewire_abi.h"]
    assert os.readlink(libdir / "libfusewire.so") == "libfusewire.so.0"
    dynamic = run("readelf", "--dynamic", "--wide", libdir / "libfusewire.so")
    assert "Library soname: [libfusewire.so.0]" in dynamic
    assert "RUNPATH" not in dynamic and "RPATH" not in dynamic
    assert re.findall(r"NEEDED.*\[(\w+)\.so", dynamic) in (["libc"], ["liburing", "libc"])


def test_no_installed_file_names_the_build(prefix):
    texts = [path for path in prefix.rglob("*") if path.suffix in (".pc", ".cmake", ".h")]
    assert len(texts) >= 6
    for path in texts:
        text = path.read_text()
        assert str(ROOT) not in text and str(BUILD) not in text and str(prefix.parent) not in text, path


def test_pkg_config_shared(prefix, libdir, source, tmp_path, version):
    flags = package_flags(libdir, "--cflags", "--libs")
    assert "-luring" not in flags
    run("cc", source, "-o", tmp_path / "program", *flags)
    assert run(tmp_path / "program", LD_LIBRARY_PATH=str(libdir)) == version


def test_pkg_config_static(prefix, libdir, source, tmp_path, version):
    flags = package_flags(libdir, "--static", "--cflags", "--libs")
    assert "-luring" in flags
    run("cc", "-static", source, "-o", tmp_path / "program", *flags)
    assert "NEEDED" not in run("readelf", "--dynamic", tmp_path / "program")
    assert run(tmp_path / "program") == version


def test_pkg_config_version(libdir):
    assert run("pkg-config", "--modversion", "fusewire", PKG_CONFIG_PATH=str(libdir / "pkgconfig")).strip() == cached(
        "CMAKE_PROJECT_VERSION"
    )


def test_cmake_package(prefix, source, tmp_path, version):
    (tmp_path / "CMakeLists.txt").write_text(PROJECT + STATIC)
    build = tmp_path / "build"
    run("cmake", "-S", tmp_path, "-B", build, "-G", "Ninja", f"-DCMAKE_PREFIX_PATH={prefix}")
    run("cmake", "--build", build)
    assert run(build / "shared") == version
    assert run(build / "static") == version
    assert "libfusewire" not in run("readelf", "--dynamic", build / "static")


def test_cmake_package_without_liburing(prefix, source, tmp_path, version):
    """Who links the shared library needs no liburing to build with."""
    (tmp_path / "CMakeLists.txt").write_text(PROJECT)
    build = tmp_path / "build"
    environment = {"PKG_CONFIG_PATH": "", "PKG_CONFIG_LIBDIR": str(tmp_path / "no packages here")}
    run("cmake", "-S", tmp_path, "-B", build, "-G", "Ninja", f"-DCMAKE_PREFIX_PATH={prefix}", **environment)
    run("cmake", "--build", build)
    assert run(build / "shared") == version


def test_build_tree_package(source, tmp_path, version):
    """pkg-config for the library in the build tree, as script/env sets it up."""
    if cached("FUSEWIRE_SANITIZE"):
        pytest.skip("a sanitized library is not for programs that are not")
    output = run("pkg-config", "--cflags", "--libs", "fusewire", PKG_CONFIG_PATH=str(BUILD / "pkgconfig"))
    run("bash", "-c", f"cc '{source}' -o '{tmp_path / 'program'}' {output.strip()}")
    assert run(tmp_path / "program", LD_LIBRARY_PATH=str(BUILD)) == version
