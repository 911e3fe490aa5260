"""Runs a program that imports another package, with one of these modules in that package's place."""

from __future__ import annotations

import builtins
import os
import runpy
import sys
from types import ModuleType


def run(module: str, names: dict[str, ModuleType]) -> None:
    """What `python3 -m MODULE PROGRAM ARGUMENTS...` does: as `python3 PROGRAM ARGUMENTS...`, but importing one of
    `names` gives that module."""
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print(f"usage: python3 -m {module} PROGRAM [ARGUMENTS...]", file=sys.stderr)
        raise SystemExit(len(sys.argv) < 2)
    sys.modules.update(names)
    del sys.argv[0]
    # Where -m has put the folder that it was started in, the interpreter puts the program's.
    sys.path[0] = os.path.dirname(os.path.realpath(sys.argv[0]))
    # In a program __builtins__ is the module; in what runpy makes it would be a dict.
    runpy.run_path(sys.argv[0], {"__builtins__": builtins}, "__main__")
