"""The fixtures of these tests; what is behind them is in python_support.py."""

import pathlib

import pytest
from python_support import folder, fork, serve, serve_anyhow, serve_async, transport  # noqa: F401

HERE = pathlib.Path(__file__).parent


def pytest_collection_modifyitems(items):
    for item in items:
        if pathlib.Path(item.fspath).parent == HERE and "folder" in item.fixturenames:
            item.add_marker(pytest.mark.needs_fuse)
            item.add_marker(pytest.mark.needs_root)
