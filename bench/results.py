"""What was measured, and what follows from it: medians and ratios. It goes into JSON and comes back from it.

Requests are counted as the load makes them: an open is two (OPEN, and RELEASE at the close), every other call is one.
Ratios are taken round by round, against `floor`, the bare loop of read and writev, in the same round; the second
comparison, "best floor", is with whichever of all the bare servers has the best median in that cell."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

REFERENCE = "floor"
KIB, MIB = 1 << 10, 1 << 20


@dataclass(frozen=True)
class Load:
    """What the load generator is told to do, and the requests that one call is to cause."""

    operation: str
    size: int = 0  # bytes per call
    requests: int = 1


LOADS = {
    "getattr": Load("getattr"),
    "stat": Load("stat"),
    "open": Load("open", requests=2),
    "read-4k": Load("read", 4 * KIB),
    "read-128k": Load("read", 128 * KIB),
    "read-1m": Load("read", MIB),
    "write-4k": Load("write", 4 * KIB),
    "write-128k": Load("write", 128 * KIB),
    "write-1m": Load("write", MIB),
}

UNITS = {
    "rate": "requests per second",
    "cpu": "seconds of the server's CPU time, user and kernel, per request",
    "p50": "seconds for a call of a client's, median",
    "p99": "seconds for a call of a client's, 99th percentile",
    "system_calls": "of the server's processes, per request",
    "requests_per_call": "FUSE requests that the kernel sent, per call of a client's",
    "others": "share of the machine's CPU time that other programs took",
}


@dataclass(frozen=True)
class Sample:
    """One run of one load against one server."""

    rate: float
    cpu: float
    p50: float
    p99: float


@dataclass
class Cell:
    """One load at one number of clients in one placement, with the samples of each server by round."""

    load: str
    clients: int
    placement: str
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    system_calls: dict[str, float] = field(default_factory=dict)
    requests_per_call: dict[str, float] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)  # why a server has no samples
    others: float = 0.0

    def values(self, server: str, quantity: str) -> list[float]:
        return [getattr(sample, quantity) for sample in self.samples[server]]

    def median(self, server: str, quantity: str) -> float:
        return float(statistics.median(self.values(server, quantity)))

    def best(self, servers: Sequence[str], quantity: str) -> str | None:
        """The one with the best median among those that were measured."""
        choose = max if quantity == "rate" else min
        return choose((server for server in servers if server in self.samples), default=None,
                      key=lambda server: self.median(server, quantity))

    def ratios(self, server: str, other: str | None, quantity: str) -> list[float]:
        """One server against another, round by round, smallest first; empty where one of them was not measured."""
        if server not in self.samples or other is None or other not in self.samples:
            return []
        pairs = zip(self.values(server, quantity), self.values(other, quantity), strict=True)
        return sorted(mine / theirs for mine, theirs in pairs)

    def unexpected_requests(self, server: str) -> float | None:
        """The requests per call, if they are not what the load is meant to cause."""
        counted = self.requests_per_call.get(server)
        expected = LOADS[self.load].requests
        return counted if counted is not None and abs(counted / expected - 1) > 0.05 else None


@dataclass(frozen=True)
class Entry:
    """A server that took part."""

    name: str
    is_floor: bool
    is_fusewire: bool


@dataclass
class Results:
    """One run of the benchmark."""

    command: list[str]
    machine: dict[str, Any]
    settings: dict[str, Any]
    servers: list[Entry]
    cells: list[Cell] = field(default_factory=list)

    @property
    def floors(self) -> list[str]:
        return [server.name for server in self.servers if server.is_floor]

    @property
    def reference(self) -> str | None:
        """What ratios are taken against: `floor`, or where it did not take part, the first floor that did."""
        return REFERENCE if REFERENCE in self.floors else next(iter(self.floors), None)

    def document(self) -> dict[str, Any]:
        return {"reference": self.reference, "units": UNITS, **asdict(self)}

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Results:
        cells = []
        for fields in document["cells"]:
            samples = {server: [Sample(**sample) for sample in taken] for server, taken in fields["samples"].items()}
            cells.append(Cell(**{**fields, "samples": samples}))
        return cls(document["command"], document["machine"], document["settings"],
                   [Entry(**server) for server in document["servers"]], cells)
