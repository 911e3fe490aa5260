"""A connection's life with threads, signal handlers and forks: the scenarios of tests/servers/life.c."""

import pathlib
import re
import shutil
import subprocess

import pytest

from harness import SERVERS, child_environment, mounts, sanitizers

LIFE = SERVERS / "life"
VALGRIND = ["valgrind", "-q", "--error-exitcode=99"]
SOURCES = pathlib.Path(__file__).resolve().parents[1] / "servers"
SCENARIOS = [
    name
    for source in ("life_threads.c", "life_forks.c", "life_options.c", "life_workers.c")
    for name in re.findall(r'\{"([a-z-]+)", \w+\}', (SOURCES / source).read_text())
]


def run(command, **more):
    result = subprocess.run(command, env=child_environment(**more), capture_output=True, text=True, timeout=100)
    assert result.returncode == 0, f"status {result.returncode}: {result.stdout}{result.stderr}"
    return result


def test_the_list_is_complete():
    assert run([LIFE, "--list"]).stdout.split() == SCENARIOS


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_scenario(scenario, transport, mountpoint):
    run([LIFE, scenario, mountpoint, transport])
    assert mounts.connection_number(mountpoint) is None


@pytest.mark.long
@pytest.mark.skipif(bool(sanitizers()), reason="valgrind and sanitizers exclude each other")
@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is missing")
@pytest.mark.parametrize("transport", ["poll", "ring"])
@pytest.mark.parametrize("scenario", ["nothing-is-leaked", "stop-by-a-clone", "wake-ends-a-wait", "before-the-mount"])
def test_nothing_is_leaked(scenario, transport, mountpoint):
    """Of the scenarios without forked children, since a child ends with whatever it has inherited. Not with `uring`, for
    the reason below; there the leak check of ASan looks."""
    run([*VALGRIND, "--leak-check=full", "--show-leak-kinds=all", "--errors-for-leak-kinds=all", LIFE, scenario,
         mountpoint, transport])


@pytest.mark.long
@pytest.mark.skipif(bool(sanitizers()), reason="valgrind and sanitizers exclude each other")
@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is missing")
@pytest.mark.parametrize("scenario", ["clones-in-threads", "the-parents-handle", "clones-in-children-child-stops"])
def test_nothing_is_touched_wrongly(scenario, mountpoint):
    """Not with `ring` and `uring`: valgrind 3.19 keeps all threads waiting for one in io_uring_enter. There the
    sanitizers look."""
    run([*VALGRIND, "--leak-check=no", LIFE, scenario, mountpoint, "poll"])


@pytest.mark.parametrize("failing", ["malloc", "calloc", "mmap"])
def test_no_memory(failing, transport, mountpoint):
    """Each allocation fails once: -ENOMEM in words, or done without, and all is given back."""
    run([SERVERS / "failing_malloc", failing, mountpoint, transport])
    assert mounts.connection_number(mountpoint) is None
