"""The fault server, run and talked to."""

import os
import pathlib
import subprocess
import threading
import time

from harness import PATIENCE, SERVERS, child_environment, mounts, until

FAULT_SERVER = SERVERS / "fault_server"


class Server:
    """A fault_server as a child process. `events` are its lines that nobody asked for, split into words."""

    def __init__(self, mountpoint, *options, prefix=(), traced=False, pass_fds=(), env=None, wait=True):
        assert FAULT_SERVER.exists(), f"{FAULT_SERVER} is missing: build the tests first"
        self.mountpoint = mountpoint
        self.process = subprocess.Popen(
            [*map(str, prefix), FAULT_SERVER, *options, str(mountpoint)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=pass_fds,
            env=env or child_environment(traced=traced or bool(prefix)),
        )
        self.pid = self.process.pid
        self.events = []
        self.answers = []
        self.words = ""
        self.changed = threading.Condition()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.complaints = []
        self.listener = threading.Thread(target=self._listen, daemon=True)
        self.reader.start()
        self.listener.start()
        self.children = []
        self.transport = None
        if wait:
            self.await_ready()

    def _read(self):
        for line in self.process.stdout:
            with self.changed:
                kind, _, rest = line.rstrip("\n").partition(" ")
                if kind == "!":
                    self.events.append(rest.split())
                else:
                    self.answers.append(rest)
                self.changed.notify_all()
        with self.changed:
            self.events.append(["gone"])
            self.changed.notify_all()

    def _listen(self):
        for line in self.process.stderr:
            self.complaints.append(line)

    # ---- What it says --------------------------------------------------------------------------------------------

    def await_ready(self):
        event = self.event("ready", "failed", "gone")
        assert event[0] == "ready", f"the server did not start: {' '.join(event)} {''.join(self.complaints)}"
        self.transport = event[1]
        self.number = mounts.connection_number(self.mountpoint)

    def find(self, *kinds):
        with self.changed:
            return [event for event in self.events if event[0] in kinds]

    def count(self, kind):
        return len(self.find(kind))

    def event(self, *kinds, seconds=PATIENCE):
        """Waits for the first event of these kinds and removes it."""
        deadline = time.monotonic() + seconds
        with self.changed:
            while True:
                for i, event in enumerate(self.events):
                    if event[0] in kinds:
                        return self.events.pop(i)
                    if event[0] == "gone":
                        raise AssertionError(f"the server is gone: {self.events} {''.join(self.complaints)}")
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"no {' or '.join(kinds)} in {seconds} s; events: {self.events[-10:]}")
                self.changed.wait(left)

    def held(self, opcode=None, seconds=PATIENCE):
        """The id of the next request that a rule holds."""
        event = self.event("held", seconds=seconds)
        assert opcode in (None, event[2]), event
        return int(event[1])

    def interrupted(self, id, seconds=PATIENCE):
        """Waits for the interrupt of that request; returns the channel where it was handed out."""
        wanted = ["interrupt", str(id)]
        assert until(lambda: any(event[:2] == wanted for event in self.find("interrupt")), seconds), self.events
        with self.changed:
            [index] = [i for i, event in enumerate(self.events) if event[:2] == wanted]
            return int(self.events.pop(index)[2])

    def end(self, seconds=PATIENCE):
        """The errno with which reading ended; it is final."""
        first, again = map(int, self.event("end", seconds=seconds)[1:3])
        assert first == again
        return -first

    # ---- What it is told -----------------------------------------------------------------------------------------

    def tell(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def ask(self, command, seconds=PATIENCE):
        """The answer to a command, as text."""
        self.tell(command)
        return self.answer(seconds)

    def answer(self, seconds=PATIENCE):
        deadline = time.monotonic() + seconds
        with self.changed:
            while not self.answers:
                left = deadline - time.monotonic()
                gone = any(event[0] == "gone" for event in self.events)
                if left <= 0 or gone:
                    raise AssertionError("the server is gone" if gone else f"no answer in {seconds} s")
                self.changed.wait(left)
            return self.answers.pop(0)

    def do(self, command):
        """The answer as a number: 0, a count or a negative errno; its words are kept."""
        number, _, self.words = self.ask(command).partition(" ")
        return int(number)

    def rule(self, text):
        assert self.do(f"rule {text}") == 0, text

    def stats(self, channel=0):
        """The statistics. Every message is accounted for in each of them."""
        numbers, _, reason = self.ask(f"stats {channel}").partition(" reason=")
        stats = {name: int(value) for name, value in (pair.split("=") for pair in numbers.split())}
        stats["reason"] = reason
        assert stats["read"] == stats["answered"] + stats["forgets"] + stats["open"], stats
        return stats

    def settled(self, channel=0):
        """The statistics once nothing is open: nothing was lost, refused or malformed."""
        assert until(lambda: self.stats(channel)["open"] == 0), self.stats(channel)
        stats = self.stats(channel)
        assert stats["replies_failed"] == stats["malformed"] == 0, stats
        assert not self.find("reply"), self.find("reply")
        return stats

    def close(self, status=0):
        """Closes the connection and ends: cleanly, with nothing leaked and nothing left mounted."""
        assert self.ask("quit") == "closed"
        self.ended(status)
        assert mounts.connection_number(self.mountpoint) is None

    def ended(self, status=0):
        code = self.process.wait(PATIENCE)
        self.listener.join(PATIENCE)
        assert code == status, f"status {code}: {''.join(self.complaints)}"

    # ---- What it does --------------------------------------------------------------------------------------------

    def fork(self):
        """Makes it fork a child that only waits."""
        pid = int(self.ask("fork"))
        self.children.append(pid)
        return pid

    def cpu(self):
        """The processor time that it has used, in seconds."""
        fields = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def switches(self):
        """How often it has gone to sleep."""
        for line in pathlib.Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches"):
                return int(line.split()[1])
        raise AssertionError("no such line")

    def rest(self):
        """Waits until it has neither run nor woken up for a while; returns what it had used by then."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            before = self.cpu(), self.switches()
            if not until(lambda: (self.cpu(), self.switches()) != before, 0.1):
                return before
        raise TimeoutError("the server never rests")

    def rests(self, before, seconds):
        """Whether it does not even wake up for so long."""
        return not until(lambda: (self.cpu(), self.switches()) != before, seconds)

    def system_call(self):
        """The number of the system call that it sleeps in."""
        word = pathlib.Path(f"/proc/{self.pid}/syscall").read_text().split()[0]
        return int(word) if word.isdigit() else None

    def descriptors(self):
        return sorted(os.readlink(link) for link in pathlib.Path(f"/proc/{self.pid}/fd").iterdir())

    def threads(self):
        return len(os.listdir(f"/proc/{self.pid}/task"))

    def kill(self):
        """kill -9, and waits until it is gone."""
        self.process.kill()
        self.process.wait(PATIENCE)

    def clean_up(self):
        for pid in self.children:
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                pass
        self.process.kill()
        self.process.wait(PATIENCE)
        self.reader.join(PATIENCE)
        self.listener.join(PATIENCE)
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.stderr.close()


def failure(server):
    """The errno and the words with which opening failed."""
    event = server.event("failed", "ready")
    assert event[0] == "failed", event
    return int(event[1]), " ".join(event[2:])

