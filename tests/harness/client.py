"""Clients of a mount. Each is a process of its own: a call that hangs can be seen, and does not hang the test."""

import os
import signal
import subprocess
import sys
import time

from harness import PATIENCE, SERVERS, child_environment, until

PRELUDE = """
import errno, fcntl, os, select, signal, stat, sys, time
def pattern(name, offset, size):
    start = (offset + sum(os.fsencode(name))) % 251
    return (bytes(range(251)) * (size // 251 + 2))[start:start + size]
def main(path):
{body}
try:
    result = main(sys.argv[1])
except OSError as error:
    print("error", error.errno, flush=True)
else:
    print("ok", result, flush=True)
"""


def on(cpu):
    """The beginning of a command that is to run on one CPU, or on any."""
    return [] if cpu is None else ["taskset", "-c", str(cpu)]


class Client:
    """Runs the body of a Python function of `path`; its result is what it returned, as text, or its OSError's errno."""

    def __init__(self, body, path="", cpu=None):
        indented = "\n".join("    " + line for line in body.strip("\n").splitlines())
        self.process = subprocess.Popen(
            [*on(cpu), sys.executable, "-I", "-S", "-c", PRELUDE.format(body=indented), str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=child_environment(traced=True),
        )

    def result(self, seconds=PATIENCE):
        """("ok", text) or ("error", errno). TimeoutError when it still waits."""
        if not self.ended(seconds):
            raise TimeoutError(f"the client still waits after {seconds} s, in {self.where()}")
        word, _, rest = self.process.stdout.read().rstrip("\n").rpartition("\n")[2].partition(" ")
        assert word in ("ok", "error"), f"the client ended with status {self.process.returncode}"
        return (word, int(rest)) if word == "error" else (word, rest)

    def ok(self, seconds=PATIENCE):
        word, value = self.result(seconds)
        assert word == "ok", f"the client got {os.strerror(value)}"
        return value

    def error(self, seconds=PATIENCE):
        word, value = self.result(seconds)
        assert word == "error", f"the client succeeded with {value}"
        return value

    def ended(self, seconds=PATIENCE):
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def where(self):
        """The kernel function that it waits in."""
        try:
            with open(f"/proc/{self.process.pid}/wchan") as file:
                return file.read()
        except OSError:
            return "(gone)"

    def waits(self, seconds=PATIENCE):
        """Waits until it waits for a FUSE server."""
        return until(lambda: "request_wait" in self.where() or "fuse" in self.where(), seconds)

    def signal(self, number=signal.SIGINT):
        self.process.send_signal(number)

    def kill(self):
        self.process.kill()
        self.process.stdin.close()
        # Read by nobody: a client whose request is with a server dies only when that is answered.
        until(lambda: self.process.poll() is not None, PATIENCE)
        self.process.stdout.close()


class Storm:
    """Many threads that call: see storm.c."""

    def __init__(self, operation, threads, count, path, cpu=None):
        self.process = subprocess.Popen(
            [*on(cpu), SERVERS / "storm", operation, str(threads), str(count), path],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=child_environment(traced=True),
        )

    def started(self):
        """Waits until its threads call."""
        assert self.process.stdout.readline() == "started\n", self.process.stderr.read()
        return self

    def result(self, seconds=PATIENCE):
        """done, failed, errno, others, slowest, as numbers by name."""
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"the storm still rages after {seconds} s") from None
        assert status == 0, self.process.stderr.read()
        words = self.process.stdout.read().splitlines()[-1].split()
        return {name: int(value) for name, value in (pair.split("=") for pair in words)}

    def kill(self):
        self.process.kill()
        until(lambda: self.process.poll() is not None, PATIENCE)
        self.process.stdout.close()
        self.process.stderr.close()


class Timer:
    """How long a block took."""

    def __enter__(self):
        self.start = time.monotonic()
        return self

    def __exit__(self, *_):
        self.seconds = time.monotonic() - self.start
