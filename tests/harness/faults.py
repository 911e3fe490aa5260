"""System calls that fail on purpose, through strace."""

import pathlib
import signal
import subprocess

from harness import PATIENCE, until

STRACE = ["strace", "-qq", "-o", "/dev/null"]


def inject(calls, error, when="1+", path=None):
    """Arguments for strace: these system calls, of a path alone if one is given, fail with the errno's name."""
    names = ",".join(f"?{name}" for name in calls.split(","))
    return [*(["-P", path] if path else []), "-e", f"trace={names}", "-e", f"inject={names}:error={error}:when={when}"]


class Injection:
    """Lets system calls of a process fail for as long as the block runs."""

    def __init__(self, pid, calls, error, when="1+", path=None):
        self.pid = pid
        self.arguments = [*STRACE, "-f", "-p", str(pid), *inject(calls, error, when, path)]

    def __enter__(self):
        self.process = subprocess.Popen(self.arguments, stderr=subprocess.PIPE, text=True)
        status = pathlib.Path(f"/proc/{self.pid}/status")
        traced = f"TracerPid:\t{self.process.pid}\n"
        until(lambda: traced in status.read_text() or self.process.poll() is not None)
        assert self.process.poll() is None, self.process.stderr.read()
        assert traced in status.read_text()
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGINT)  # it lets go of the process
        try:
            self.process.wait(PATIENCE)
        finally:
            self.process.kill()
            self.process.wait(PATIENCE)
            self.process.stderr.close()


def record(command, environment, log, faults=()):
    """The names of the system calls that a command and its children make, in order; `faults` are strace's arguments for
    those that fail."""
    subprocess.run(["strace", "-f", "-qq", "-o", log, *faults, *command], env=environment, timeout=PATIENCE, check=True,
                   stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    names = []
    for line in pathlib.Path(log).read_text().splitlines():
        call = line.split(None, 1)[1]
        if "(" in call and not call.startswith(("+++", "---", "<...")):
            names.append(call.partition("(")[0])
    return names
