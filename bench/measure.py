"""Runs the loads against the servers, in interleaved rounds."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from participant import FAILURES, Participant
from results import LOADS, Cell, Sample

HANG = 10.0  # seconds beyond its time after which a run is given up
COUNTING = 0.1  # seconds, of a run in which events are counted: counting slows it down, but needs no precise time
SYSTEM_CALL, REQUEST = "raw_syscalls:sys_enter", "fuse:fuse_request_send"


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


def why_not_counted() -> str | None:
    """Why perf cannot count system calls and FUSE requests here."""
    try:
        done = subprocess.run(["perf", "stat", "-a", "-e", SYSTEM_CALL, "-e", REQUEST, "--", "true"],
                              capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return None if done.returncode == 0 else next(iter(done.stderr.strip().splitlines()), "perf failed")


class Bench:
    """The load generator, and how it is run."""

    def __init__(self, program: Path, seconds: float, on_step: Callable[[Cell, str], None]) -> None:
        self._program = program
        self._seconds = seconds
        self._on_step = on_step

    def run_cell(self, cell: Cell, participants: Sequence[Participant], placement: Placement, rounds: int) -> None:
        """Takes one sample of each server in each round. Each round begins with another server, so that none of them
        always follows the same one. A server that fails has no samples in this cell."""
        for participant in participants:
            participant.start()
            self._place(cell, participant, placement)
        before = _cpu_times()
        served = 0.0
        for number in range(rounds):
            start = number % len(participants)
            for participant in [*participants[start:], *participants[:start]]:
                self._on_step(cell, participant.name)
                if participant.name not in cell.samples:
                    continue
                try:
                    found, _ = self._load(cell, participant, placement, self._seconds)
                except FAILURES as error:
                    _failed(cell, participant, error)
                    continue
                cell.samples[participant.name].append(_sample(cell, found))
                served += found["server_cpu"]
        elapsed, busy, ours = (after - earlier for after, earlier in zip(_cpu_times(), before, strict=True))
        cell.others = max(0.0, busy - ours - served) / elapsed

    def count(self, cell: Cell, participants: Sequence[Participant], placement: Placement) -> None:
        """Counts system calls and FUSE requests, in runs of their own, since counting slows the server down."""
        requests = LOADS[cell.load].requests
        for participant in participants:
            self._on_step(cell, participant.name)
            if participant.name not in cell.samples:
                continue
            stat = ["perf", "stat", "-x;"]
            counters = [*stat, "-a", "-e", REQUEST, "--filter", f"connection == {participant.connection}", "--",
                        *stat, "-e", SYSTEM_CALL, "-p", _pids(participant), "--"]
            try:
                found, said = self._load(cell, participant, placement, min(self._seconds, COUNTING), counters)
            except FAILURES as error:
                _failed(cell, participant, error)
                continue
            sent, system_calls = _counted(said, REQUEST), _counted(said, SYSTEM_CALL)
            if sent and system_calls is not None:
                beside = cell.clients * (2 + requests)  # each client opens and closes its file, and begins with a call
                cell.requests_per_call[participant.name] = (sent - beside) / found["calls"]
                cell.system_calls[participant.name] = system_calls / sent

    def _place(self, cell: Cell, participant: Participant, placement: Placement) -> None:
        if participant.server is None:
            cell.failures[participant.name] = participant.failure
            return
        cell.samples[participant.name] = []
        try:
            participant.server.place(placement.server)
        except OSError as error:
            _failed(cell, participant, error)

    def _load(self, cell: Cell, participant: Participant, placement: Placement, seconds: float,
              prefix: Sequence[str] = ()) -> tuple[dict[str, float], str]:
        """What the load generator found, and what was said on standard error."""
        load = LOADS[cell.load]
        command = [*prefix, str(self._program), "-n", str(cell.clients), "-t", str(seconds), "-p", _pids(participant)]
        if placement.clients is not None:
            command += ["-c", ",".join(map(str, sorted(placement.clients)))]
        if load.size:
            command += ["-s", str(load.size)]
        assert participant.server is not None
        command += [str(participant.server.mountpoint), load.operation]
        # In a session of its own: what waits for a server that hangs has to be freed before it can end.
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True, start_new_session=True) as process:
            try:
                output, said = process.communicate(timeout=seconds + HANG)
            except BaseException as error:
                participant.abort()
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                if isinstance(error, subprocess.TimeoutExpired):
                    raise RuntimeError(f"did not answer for {HANG:.0f} s") from None
                raise
        if process.returncode:
            words = [line for line in said.splitlines() if line and ";" not in line]  # with a ; it is a count of perf's
            raise RuntimeError(" ".join(words)[:200] or f"the load generator ended with status {process.returncode}")
        found: dict[str, float] = json.loads(output)
        return found, said


def _sample(cell: Cell, found: dict[str, float]) -> Sample:
    requests = found["calls"] * LOADS[cell.load].requests
    return Sample(requests / found["seconds"], found["server_cpu"] / requests, found["p50"], found["p99"])


def _failed(cell: Cell, participant: Participant, error: BaseException) -> None:
    participant.fail(str(error))
    for kept in (cell.samples, cell.system_calls, cell.requests_per_call):
        kept.pop(participant.name, None)
    cell.failures[participant.name] = participant.failure


def _counted(said: str, event: str) -> int | None:
    """What perf printed for an event; None where it could not count."""
    counts = [line.split(";")[0] for line in said.splitlines() if f";{event};" in line]
    return int(counts[0]) if counts and counts[0].isdigit() else None


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


def _pids(participant: Participant) -> str:
    assert participant.server is not None
    return ",".join(map(str, participant.server.processes()))
