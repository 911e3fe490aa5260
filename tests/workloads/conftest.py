"""Mounts of the example filesystems for the workloads: each test has one of its own, and it has to end cleanly."""

import os
import tempfile

import pytest
from workload_mount import EXAMPLE_FILESYSTEMS, Mounted, PythonMemfs

from harness import sanitizers

TRANSPORTS = ["poll", "ring"]


def pytest_collection_modifyitems(items):
    for item in items:
        if "workloads" in item.path.parts:
            item.add_marker(pytest.mark.needs_fuse)
            item.add_marker(pytest.mark.needs_root)


def pytest_generate_tests(metafunc):
    if "mounted" in metafunc.fixturenames:
        kinds = [(filesystem, transport) for filesystem in EXAMPLE_FILESYSTEMS for transport in TRANSPORTS]
        metafunc.parametrize("mounted", kinds, indirect=True, ids=["-".join(kind) for kind in kinds])


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
def python_mounted():
    if sanitizers():
        pytest.skip("leaks of the interpreter itself would count, with sanitizers")
    yield from mounted_in(PythonMemfs)
