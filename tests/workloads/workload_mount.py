"""An example filesystem at work. Nothing in the tests' own process ever touches the mount: all clients are commands
with a limit of time, which end even if nobody answers them."""

import contextlib
import inspect
import os
import pathlib
import signal
import subprocess
import sys

from harness import BUILD, EXAMPLES, PATIENCE, ROOT, child_environment, mounts, until

EXAMPLE_FILESYSTEMS = ["memfs", "passthrough"]

DROP_CACHES = pathlib.Path("/proc/sys/vm/drop_caches")


class Mounted:
    """A server in the foreground, mounted at `path`."""

    def __init__(self, folder, filesystem, transport, *options):
        self.folder = pathlib.Path(folder)
        self.path = self.folder / "mount"
        self.path.mkdir()
        self.statistics = self.folder / "statistics"
        self.complaints = self.folder / "complaints"
        self.home = self.folder / "home"
        self.home.mkdir()
        self.process = None
        self.transport = transport
        self.command = [EXAMPLES / filesystem]
        if filesystem == "passthrough":
            source = self.folder / "source"
            source.mkdir()
            self.command.append(source)
        self.command += [self.path, "-f", "-o", ",".join([f"transport={transport}", *options])]
        self.environment = child_environment(FUSEWIRE_STATS=str(self.statistics))

    def start(self):
        with open(self.complaints, "wb") as complaints:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=complaints,
                env=self.environment,
            )
        ready = until(lambda: mounts.connection_number(self.path) or self.process.poll() is not None)
        assert ready and self.process.poll() is None, f"it did not mount: {self.complaints.read_text()}"
        self.run("stat", "-f", self.path, cwd="/")  # it serves now
        self.descriptors_at_start = self.descriptors()

    def descriptors(self):
        found = []
        for link in pathlib.Path(f"/proc/{self.process.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # it is closed meanwhile
                found.append(os.readlink(link))
        return sorted(found)

    # ---- Clients -------------------------------------------------------------------------------------------------

    def start_client(self, *command, cwd=None, env=()):
        """Starts a command, in the mount unless told otherwise. It goes there by itself: where Popen is told to change
        the folder, it waits until the child has, even if that hangs."""
        environment = child_environment(traced=True, HOME=str(self.home), TMPDIR=str(self.home), LC_ALL="C.UTF-8")
        environment.update(env)
        return subprocess.Popen(
            ["env", f"--chdir={self.path if cwd is None else cwd}", *map(str, command)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=environment,
            start_new_session=True,
        )

    def result(self, client, seconds):
        """What it printed until it ended."""
        try:
            return client.communicate(timeout=seconds)[0]
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{client.args} still runs after {seconds} s") from None
        finally:
            self.end_client(client)

    def end_client(self, client):
        """Kills it and what it has started. Who waits for a request that is never answered cannot even be killed: then
        the connection goes first."""
        if client.poll() is not None:
            return
        os.killpg(client.pid, signal.SIGKILL)
        try:
            client.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.abort()
            client.wait(PATIENCE)
        client.stdout.close()

    def run(self, *command, seconds=60, cwd=None, env=()):
        """Runs a command in the mount, and returns what it printed."""
        client = self.start_client(*command, cwd=cwd, env=env)
        output = self.result(client, seconds)
        assert client.returncode == 0, f"{client.args}: status {client.returncode}\n{output[-4000:]}"
        return output

    def abort(self):
        number = mounts.connection_number(self.path)
        if number is not None:
            mounts.abort(number)

    # ---- The end -------------------------------------------------------------------------------------------------

    def forget(self):
        """Makes the kernel write back and forget what it keeps of the mount: files that have cached pages too."""
        self.run("sync", "-f", self.path, cwd="/")
        DROP_CACHES.write_text("3")

    def forgotten(self):
        """Says whether the server holds no more descriptors than at first, once the kernel has forgotten."""
        self.forget()
        return until(lambda: self.descriptors() == self.descriptors_at_start, 0.2)

    def unmounted(self):
        """An unmount, but for clients that are on their way out."""
        client = self.start_client("umount", "-i", self.path, cwd="/")
        output = self.result(client, PATIENCE)
        assert client.returncode == 0 or "busy" in output, output
        return client.returncode == 0

    def finish(self):
        """Nothing may be left, in the server or of the mount."""
        assert self.process.poll() is None, f"the server has ended: {self.complaints.read_text()}"
        assert until(self.forgotten), sorted(set(self.descriptors()) - set(self.descriptors_at_start))[:20]
        assert until(self.unmounted), "the mount stays busy"
        status = self.process.wait(PATIENCE)
        assert (status, self.complaints.read_text()) == (0, "")
        self.check_statistics()

    def check_statistics(self):
        """Every request was answered, and every answer was one."""
        words = dict(line.split(" ", 1) for line in self.statistics.read_text().splitlines() if line)
        assert words["transport"] == self.transport
        statistics = {name: int(value) for name, value in words.items() if value.isdigit()}
        assert statistics["read"] == statistics["answered"] + statistics["forgets"], statistics
        unwanted = ("open", "replies_failed", "notifications_failed", "malformed")
        assert [statistics[name] for name in unwanted] == [0] * len(unwanted), statistics

    def clean_up(self):
        if self.process is not None and self.process.poll() is None:
            self.abort()
            mounts.detach(self.path)
            self.process.kill()
            self.process.wait(PATIENCE)
        mounts.detach(self.path)


class PythonMemfs(Mounted):
    """examples/python/memfs.py, which keeps no statistics."""

    def __init__(self, folder, transport):
        super().__init__(folder, "memfs", transport)
        environment = ROOT / ".venv" / "bin" / "python3"
        python = environment if environment.exists() else pathlib.Path("/usr/bin/python3")
        self.command = [python, ROOT / "examples" / "python" / "memfs.py", self.path, "-f",
                        "-o", f"transport={transport}"]
        self.environment = child_environment(PYTHONPATH=str(BUILD / "python"))

    def check_statistics(self):
        pass


def in_a_client(function):
    """The command that runs a function in a Python process of its own, with the words that follow as its arguments. Its
    source travels with it: it has to import what it needs."""
    program = f"import sys\n{inspect.getsource(function)}\n{function.__name__}(*sys.argv[1:])"
    return [sys.executable, "-I", "-c", program]
