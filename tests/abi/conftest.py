"""What the ABI tests look at: the header, its description, and the library built from it."""

import os
import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bindings" / "abi"))

import describe  # noqa: E402  (found through the line above)


@pytest.fixture(scope="session")
def root():
    return ROOT


@pytest.fixture(scope="session")
def build():
    return pathlib.Path(os.environ.get("FUSEWIRE_BUILD", ROOT / "build")).resolve()


@pytest.fixture(scope="session")
def library(build):
    path = build / "libfusewire.so"
    assert path.exists(), f"{path} is missing: build the library first"
    return path


@pytest.fixture(scope="session")
def header():
    return ROOT / "capi" / "fusewire_abi.h"


@pytest.fixture(scope="session")
def description(header):
    return describe.describe(header)
