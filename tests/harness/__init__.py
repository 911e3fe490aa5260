"""What the tests share: servers and clients as child processes with a limit of time, mounts, and faults."""

import os
import pathlib
import re
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("FUSEWIRE_BUILD", ROOT / "build")).resolve()
SERVERS = BUILD / "tests" / "servers"
EXAMPLES = BUILD / "examples"

# How long a client may wait for its answer once something has happened that has to give it one.
PROMPT = 1.0

# How long anything else may take on a machine that is busy with other things.
PATIENCE = 10.0


def until(condition, seconds=PATIENCE):
    """Polls until the condition gives something true, and returns that; else what it gave last."""
    deadline = time.monotonic() + seconds
    while not (result := condition()) and time.monotonic() < deadline:
        time.sleep(0.005)
    return result


def sanitizers():
    """What the build tree was instrumented with; empty for an ordinary build."""
    cache = BUILD / "CMakeCache.txt"
    found = re.search(r"^FUSEWIRE_SANITIZE:\w+=(.*)$", cache.read_text(), re.M) if cache.exists() else None
    return set(filter(None, found[1].split(","))) if found else set()


def child_environment(traced=False, **more):
    """The environment of a child. The leak check cannot run in a process that is traced."""
    environment = dict(os.environ, **more)
    options = [environment.get("ASAN_OPTIONS", ""), "detect_leaks=0" if traced else "detect_leaks=1"]
    environment["ASAN_OPTIONS"] = ":".join(filter(None, options))
    environment.pop("LD_PRELOAD", None)
    return environment
