"""Mounts of the example filesystems for the workloads: each test has one of its own, and it has to end cleanly."""

import os
import tempfile

import pytest
from workload_mount import EXAMPLE_FILESYSTEMS, Mounted, PythonMemfs

from harness import cpus, sanitizers

needs_two_cpus = pytest.mark.skipif(len(cpus.usable()) < 2, reason="needs two CPUs")

# How the examples in C serve: a transport and further options, and what that takes.
WAYS = {
    "poll": (["poll"], []),
    "ring": (["ring"], []),
    "uring": (["uring"], [pytest.mark.needs_uring]),
    "workers": (["uring", "workers=cpus"], [pytest.mark.needs_uring, needs_two_cpus]),
}

# A long test takes each way once.
LONG = {"memfs": ["poll", "uring"], "passthrough": ["ring", "workers"]}


def pytest_collection_modifyitems(items):
    for item in items:
        if "workloads" in item.path.parts:
            item.add_marker(pytest.mark.needs_fuse)
            item.add_marker(pytest.mark.needs_root)


def pytest_generate_tests(metafunc):
    if "mounted" in metafunc.fixturenames:
        is_long = metafunc.definition.get_closest_marker("long")
        kinds = [
            pytest.param((filesystem, *WAYS[way][0]), id=f"{filesystem}-{way}", marks=WAYS[way][1])
            for filesystem in EXAMPLE_FILESYSTEMS
            for way in (LONG[filesystem] if is_long else WAYS)
        ]
        metafunc.parametrize("mounted", kinds, indirect=True)
    if "python_mounted" in metafunc.fixturenames:
        metafunc.parametrize("python_mounted", ["ring", "uring"], indirect=True)


@pytest.fixture
def plain():
    """An ordinary folder, for what is outside of the mount."""
    with tempfile.TemporaryDirectory(prefix="workload-") as folder:
        yield os.path.realpath(folder)


def mounted_in(make, *arguments):
    """Serves for the test, and looks afterwards at what it has left. Lets go of the mount however that goes."""
    with tempfile.TemporaryDirectory(prefix="workload-mount-") as folder:
        one = make(os.path.realpath(folder), *arguments)
        try:
            one.start()
            yield one
            one.finish()
        finally:
            one.clean_up()


@pytest.fixture
def mounted(request):
    yield from mounted_in(Mounted, *request.param)


@pytest.fixture
def python_mounted(request):
    if sanitizers():
        pytest.skip("leaks of the interpreter itself would count, with sanitizers")
    yield from mounted_in(PythonMemfs, request.param)
