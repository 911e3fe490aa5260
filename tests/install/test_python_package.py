"""The Python package as people install it: sdist, wheel, and what they contain, in a fresh environment of each Python
that is found here."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
NAMES = [*(f"python3.{minor}" for minor in range(9, 15)), "pypy3"]

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

PROGRAM = """
import asyncio, os, subprocess, sys, tempfile
import fusewire

TEXT = b"installed"

class Files:
    def getattr(self, request):
        return fusewire.Attr.dir(1) if request.node == 1 else fusewire.Attr.file(2, size=len(TEXT))
    def lookup(self, request):
        return fusewire.Attr.file(2, size=len(TEXT))
    def readdir(self, request):
        return {"file": fusewire.Attr.file(2)}
    async def read(self, request):
        await asyncio.sleep(0)
        return TEXT[request.offset : request.offset + request.size]

async def work(path):
    async with fusewire.mount(path, transport=sys.argv[1]) as connection, connection.serving(Files()):
        for command in (["ls", path], ["cat", path + "/file"]):
            client = await asyncio.create_subprocess_exec("timeout", "20", *command, stdout=subprocess.PIPE)
            print((await client.communicate())[0].decode().strip())

with tempfile.TemporaryDirectory() as path:
    asyncio.run(work(path))
print(os.path.dirname(fusewire.__file__))
"""


def run(*command, **options):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "LD_", "PIP_T"))}
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=500, env=environment, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def interpreter(name):
    """On PATH, or among pyenv's versions."""
    candidates = [shutil.which(name)]
    if shutil.which("pyenv"):
        versions = pathlib.Path(run("pyenv", "root").strip(), "versions")
        candidates = [*sorted(map(str, versions.glob(f"*/bin/{name}"))), *candidates]
    for path in filter(None, candidates):
        if subprocess.run([path, "-c", ""], capture_output=True).returncode == 0:
            return path
    return None


@pytest.fixture(scope="module")
def tools(tmp_path_factory):
    """An environment with what builds and looks at wheels."""
    folder = tmp_path_factory.mktemp("tools")
    run("/usr/bin/python3", "-m", "venv", folder)
    run(folder / "bin/pip", "install", "-q", "--disable-pip-version-check", "build", "auditwheel")
    return folder / "bin"


@pytest.fixture(scope="module")
def built(tools, tmp_path_factory):
    """The sdist of a clean copy of the sources, and the wheel that is built from that sdist alone."""
    source, output = tmp_path_factory.mktemp("source") / "fusewire", tmp_path_factory.mktemp("dist")
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns("build", "build-*", ".venv", ".git", "__pycache__", ".*_cache"))
    run(tools / "python", "-m", "build", "--outdir", output, source)
    (sdist,), (wheel,) = output.glob("*.tar.gz"), output.glob("*.whl")
    return sdist, wheel


def test_the_wheel_is_for_every_python(built):
    assert re.fullmatch(r"fusewire-[0-9.]+-cp39-abi3-linux_x86_64\.whl", built[1].name)


def test_what_the_wheel_contains(built):
    with zipfile.ZipFile(built[1]) as wheel:
        names = wheel.namelist()
    assert all(name.startswith(("fusewire/", "fusewire-")) for name in names)
    assert {"fusewire/_core.abi3.so", "fusewire/py.typed", "fusewire/_core.pyi"} <= set(names)
    modules = {str(path.relative_to(ROOT / "python")) for path in (ROOT / "python/fusewire").rglob("*.py")}
    assert modules <= set(names)


def test_what_the_sdist_contains(built):
    with tarfile.open(built[0]) as sdist:
        names = [name.partition("/")[2] for name in sdist.getnames()]
    assert "capi/fusewire_abi.h" in names and "src/conn.c" in names and "LICENSE" in names
    assert not [name for name in names if name.startswith(("tests/", "build/", ".git/"))]


def test_core_and_liburing_are_inside_and_hidden(built, tmp_path):
    with zipfile.ZipFile(built[1]) as wheel:
        extension = wheel.extract("fusewire/_core.abi3.so", tmp_path)
    defined = run("nm", "--dynamic", "--defined-only", extension)
    assert [line.split()[2] for line in defined.splitlines()] == ["PyInit__core"]
    needed = re.findall(r"NEEDED.*\[(.*)\]", run("readelf", "--dynamic", extension))
    assert all(name.startswith(("libc.", "ld-linux", "libpthread")) for name in needed)


def test_auditwheel_finds_nothing_to_repair(built, tools):
    words = run(tools / "auditwheel", "show", built[1])
    assert re.search(r'is consistent with the\s+following platform tag:\s+"manylinux_2_\d+_x86_64"', words), words


@pytest.mark.needs_fuse
@pytest.mark.parametrize("name", NAMES)
def test_installed(built, tmp_path, name):
    python = interpreter(name)
    if python is None:
        pytest.skip(f"there is no {name} here")
    run(python, "-m", "venv", tmp_path / "venv")
    package = built[0] if name.startswith("pypy") else built[1]
    run(tmp_path / "venv/bin/python", "-m", "pip", "install", "-q", "--disable-pip-version-check", package)
    for transport in ("poll", "ring"):
        listing, text, where = run(
            tmp_path / "venv/bin/python", "-c", PROGRAM, transport, cwd=tmp_path
        ).splitlines()
        assert (listing, text) == ("file", "installed")
        assert where.startswith(str(tmp_path)), sys.path
