"""The base class Filesystem: it describes every operation, and changes nothing about what is served."""

import os
import pathlib
import subprocess
import sys

import pytest
from python_filesystems import TEXT, Files
from python_support import BUILD, ROOT

import fusewire
from fusewire.filesystem import handler_of
from fusewire.replies import ENCODERS
from fusewire.request import OPERATIONS

pytestmark = pytest.mark.timeout(60)

OPERATION_NAMES = {OPERATIONS[opcode] for opcode in ENCODERS}


def described():
    return {name: each for name, each in vars(fusewire.Filesystem).items() if not name.startswith("_")}


def test_every_operation_is_described():
    assert set(described()) == OPERATION_NAMES
    for name, method in described().items():
        assert method.__doc__ and len(method.__doc__) > 20, name


def test_what_is_only_described_is_missing():
    class Reading(fusewire.Filesystem):
        def read(self, request):
            return b""

    filesystem = Reading()
    assert handler_of(filesystem, "read") == filesystem.read
    assert [name for name in OPERATION_NAMES if handler_of(filesystem, name)] == ["read"]


class Based(Files, fusewire.Filesystem):
    """Files again, with the base class behind it."""


class Bare(fusewire.Filesystem):
    """Nothing overridden."""


def test_it_is_served_as_without_the_base(serve_anyhow):
    server = serve_anyhow(Based("one"), attr_timeout=0)
    assert os.listdir(server.path) == ["one"]
    assert (server.path / "one").read_bytes() == TEXT
    assert os.statvfs(server.path).f_blocks == 0
    with pytest.raises(OSError, match="not supported"):
        os.setxattr(server.path / "one", "user.name", b"value")
    server.finish()
    assert server.log() == ""


def test_nothing_overridden(serve_anyhow):
    server = serve_anyhow(Bare())
    with pytest.raises(OSError, match="not implemented"):
        os.listdir(server.path)
    server.finish()
    assert server.log() == ""


# ---- Types ----

TYPED = """
import fusewire
from fusewire import Attr, Entry, Request

class Right(fusewire.Filesystem):
    def getattr(self, request: Request) -> Attr:
        return Attr.dir(request.node)

    async def lookup(self, request: Request) -> Entry:
        return Entry.negative()

    async def read(self, request: Request) -> bytes:
        return b""[request.offset :]

    def readdir(self, request: Request) -> dict[str, Attr]:
        return {}

def main(path: str) -> None:
    with fusewire.mount(path, workers=2) as connection:
        connection.run(Right())
"""

WRONG = """
import fusewire
from fusewire import Request

class Wrong(fusewire.Filesystem):
    def getattr(self, request: Request) -> int:
        return 1

    async def read(self, request: Request) -> str:
        return ""
"""


def mypy(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "mypy", "--cache-dir", cwd / "cache", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "MYPYPATH": str(ROOT / "python"), "LD_PRELOAD": ""},
    )


@pytest.mark.long
@pytest.mark.timeout(300)
def test_the_package_passes_strict_mypy(tmp_path):
    done = mypy("--config-file", ROOT / "pyproject.toml", ROOT / "python/fusewire", cwd=tmp_path)
    assert done.returncode == 0, done.stdout


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_users_program_is_checked(tmp_path):
    (tmp_path / "right.py").write_text(TYPED)
    (tmp_path / "wrong.py").write_text(WRONG)
    done = mypy("--strict", "--ignore-missing-imports", "right.py", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    done = mypy("--strict", "--ignore-missing-imports", "wrong.py", cwd=tmp_path)
    assert done.stdout.count("incompatible with") == 2, done.stdout


def test_the_tests_use_the_package_that_was_built():
    assert pathlib.Path(fusewire.__file__).parent == BUILD / "python/fusewire"
