"""Runs the loads against the servers, in interleaved rounds, and keeps what was measured."""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from servers import Server

LOADS: dict[str, tuple[str, ...]] = {  # arguments of the load generator
    "getattr": ("getattr",),
    "stat": ("stat",),
    "open": ("open",),
    "read-4k": ("read", "-s", "4096"),
    "read-128k": ("read", "-s", "131072"),
    "read-1m": ("read", "-s", "1048576"),
    "write-4k": ("write", "-s", "4096"),
    "write-128k": ("write", "-s", "131072"),
    "write-1m": ("write", "-s", "1048576"),
}


@dataclass(frozen=True)
class Placement:
    """On which CPUs server and clients run."""

    name: str
    server: frozenset[int]
    clients: frozenset[int] | None  # None: wherever the scheduler puts them


def placements(cpus: Sequence[int]) -> dict[str, Placement]:
    found = [
        Placement("same", frozenset(cpus[:1]), frozenset(cpus[:1])),
        Placement("other", frozenset(cpus[:1]), frozenset(cpus[1:2])),
        Placement("free", frozenset(cpus), None),
    ]
    return {placement.name: placement for placement in found if placement.clients is None or placement.clients}


@dataclass(frozen=True)
class Sample:
    """One run of one load against one server."""

    rate: float  # calls per second
    cpu: float  # seconds of the server's CPU time per call
    p50: float  # seconds
    p99: float


@dataclass
class Cell:
    """One load at one number of clients in one placement, with the samples of each server by round."""

    load: str
    clients: int
    placement: str
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    system_calls: dict[str, float] = field(default_factory=dict)
    others: float = 0.0  # the share of the machine's CPU time that was neither a server's, nor a client's, nor ours

    def median(self, server: str, quantity: str) -> float:
        return float(statistics.median(getattr(sample, quantity) for sample in self.samples[server]))

    def better_floor(self, floors: Sequence[str], quantity: str) -> str:
        choose = max if quantity == "rate" else min
        return choose(floors, key=lambda floor: self.median(floor, quantity))

    def ratios(self, server: str, floor: str, quantity: str) -> list[float]:
        """The server against the floor, round by round, smallest first."""
        pairs = zip(self.samples[server], self.samples[floor], strict=True)
        return sorted(getattr(mine, quantity) / getattr(theirs, quantity) for mine, theirs in pairs)


class Bench:
    """The load generator, and how it is run."""

    def __init__(self, program: Path, seconds: float) -> None:
        self._program = program
        self._seconds = seconds

    def run_cell(self, cell: Cell, servers: Sequence[Server], placement: Placement, rounds: int,
                 on_sample: Callable[[Cell, str], None]) -> None:
        """Takes one sample of each server in each round. Each round begins with another server, so that none of them
        always follows the same one."""
        for server in servers:
            server.place(placement.server)
            cell.samples[server.kind.name] = []
        before = _cpu_times()
        served = 0.0
        for number in range(rounds):
            start = number % len(servers)
            for server in [*servers[start:], *servers[:start]]:
                on_sample(cell, server.kind.name)
                calls, sample, _ = self._load(cell, server, placement)
                cell.samples[server.kind.name].append(sample)
                served += calls * sample.cpu
        elapsed, busy, ours = (after - earlier for after, earlier in zip(_cpu_times(), before, strict=True))
        cell.others = max(0.0, busy - ours - served) / elapsed

    def count_system_calls(self, cell: Cell, servers: Sequence[Server], placement: Placement) -> None:
        """In a run of their own, since counting them slows the server down. Needs perf."""
        for server in servers:
            counter = ["perf", "stat", "-x;", "-e", "raw_syscalls:sys_enter", "-p", _pids(server), "--"]
            calls, _, report = self._load(cell, server, placement, counter)
            counts = [line.split(";")[0] for line in report.splitlines() if "raw_syscalls" in line]
            if not counts or not counts[0].isdigit():
                raise RuntimeError(f"perf cannot count system calls: {report.strip()}")
            cell.system_calls[server.kind.name] = int(counts[0]) / calls

    def _load(self, cell: Cell, server: Server, placement: Placement,
              prefix: Sequence[str] = ()) -> tuple[int, Sample, str]:
        """The calls made, what they took, and what was said on standard error."""
        command = [*prefix, str(self._program), "-n", str(cell.clients), "-t", str(self._seconds), "-p", _pids(server)]
        if placement.clients is not None:
            command += ["-c", ",".join(map(str, sorted(placement.clients)))]
        operation, *size = LOADS[cell.load]
        done = subprocess.run([*command, *size, str(server.mountpoint), operation], capture_output=True, text=True,
                              timeout=self._seconds + 60, check=False)
        if done.returncode:
            raise RuntimeError(f"{server.kind.name}: {done.stderr.strip()}")
        found = json.loads(done.stdout)
        calls = found["calls"]
        sample = Sample(calls / found["seconds"], found["server_cpu"] / calls, found["p50"], found["p99"])
        return calls, sample, done.stderr


def _cpu_times() -> tuple[float, float, float]:
    """Seconds since the machine started, of all CPUs together: elapsed, busy or stolen by the host, and spent
    in this process and in the load generators that it has waited for."""
    with open("/proc/stat", encoding="ascii") as file:
        user, nice, system, idle, waiting, *interrupts_and_stolen = map(int, file.readline().split()[1:9])
    ticks = os.sysconf("SC_CLK_TCK")
    busy = user + nice + system + sum(interrupts_and_stolen)
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    ours = sum(usage.ru_utime + usage.ru_stime for usage in usages)
    return (busy + idle + waiting) / ticks, busy / ticks, ours


def _pids(server: Server) -> str:
    return ",".join(map(str, server.processes()))
