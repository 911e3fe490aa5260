"""The example filesystems, at work."""

import os
import pathlib
import signal
import subprocess

from harness import EXAMPLES, PATIENCE, child_environment, mounts, until


class Filesystem:
    """An example filesystem that is mounted on `path`."""

    def __init__(self, name, transport, folder, *options):
        program = EXAMPLES / name
        assert program.exists(), f"{program} is missing: build the examples first"
        self.path, self.statistics = folder / "mnt", folder / "statistics"
        self.path.mkdir()
        source = []
        if name == "passthrough":
            source = [folder / "source"]
            source[0].mkdir()
        self.process = subprocess.Popen(
            [program, *source, self.path, "-f", "-o", ",".join([f"transport={transport}", *options])],
            stderr=subprocess.PIPE,
            text=True,
            env=child_environment(FUSEWIRE_STATS=str(self.statistics)),
        )
        until(lambda: self.number() is not None or self.process.poll() is not None)
        assert self.process.poll() is None, self.process.stderr.read()
        self.run("ls", "-a")  # answered by a server that has opened all it needs
        self.descriptors_before = self.descriptors()

    def number(self):
        return mounts.connection_number(self.path)

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def run(self, *command, timeout=60, folder=None, **environment):
        """Runs a program inside, which has to succeed; returns what it printed. When it hangs the connection is aborted,
        since a process that waits for a server cannot be killed otherwise."""
        process = subprocess.Popen(
            list(map(str, command)),
            cwd=folder or self.path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
            env=child_environment(traced=True, **environment),
        )
        try:
            said, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            if self.number() is not None:
                mounts.abort(self.number())
            process.communicate(timeout=PATIENCE)
            raise
        assert process.returncode == 0, f"{' '.join(map(str, command))}: status {process.returncode}\n{said[-4000:]}"
        return said

    def finish(self):
        """Unmounts. The server has answered everything, kept no descriptor, leaked nothing and ended well."""
        for entry in self.path.iterdir():
            self.run("rm", "-rf", entry)
        # What the kernel still has cached keeps nodes, and theirs keep descriptors.
        pathlib.Path("/proc/sys/vm/drop_caches").write_text("2")
        assert until(lambda: self.descriptors() <= self.descriptors_before), self.descriptors()
        mounts.umount(self.path)
        assert self.process.wait(PATIENCE) == 0, self.process.stderr.read()
        statistics = self.read_statistics()
        assert statistics["read"] == statistics["answered"] + statistics["forgets"], statistics
        for name in ("open", "replies_failed", "malformed", "notifications_failed"):
            assert statistics[name] == 0, statistics
        return statistics

    def read_statistics(self):
        pairs = (line.split(None, 1) for line in self.statistics.read_text().splitlines() if line)
        return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}

    def clean_up(self):
        if self.process.poll() is None and self.number() is not None:
            mounts.abort(self.number())
        self.process.kill()
        self.process.wait(PATIENCE)
        self.process.stderr.close()
        mounts.detach(self.path)
