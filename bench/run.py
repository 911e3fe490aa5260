"""Compares ways of serving a FUSE filesystem: fusewire's transports, a bare loop of read and writev, and libfuse's
low-level API.

All servers are mounted at once, and each load is run against them in interleaved rounds, so that what the machine does
beside it meets all of them alike. A server's CPU time is its own, user and kernel, by the kernel's accounting in
nanoseconds, taken while the clients run. Ratios are taken round by round against the better of the floors (floor,
libfuse), which is chosen by the medians. An open is two requests (OPEN, RELEASE); every other call is one."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import FrameType

import measure
import report
from servers import Kind, known_kinds, running

PROGRAMS = Path(os.environ.get("FUSEWIRE_BUILD", Path(__file__).resolve().parent.parent / "build")) / "bench"
DEFAULT_LOADS = "getattr,open,read-4k,read-1m,write-4k,write-1m"
MAX_CLIENTS = 64  # the bench filesystem has a file for each
THOROUGH = {"rounds": 7, "seconds": 0.5, "placements": "same,free"}
QUICK = {"rounds": 3, "seconds": 0.2, "placements": "same"}
DEFAULT_SERVERS = ("floor", "libfuse", "poll", "ring")


def listed(text: str) -> list[str]:
    return [item for item in text.split(",") if item]


def command_line(placements: dict[str, measure.Placement], kinds: dict[str, Kind]) -> argparse.ArgumentParser:
    servers = ",".join(name for name in DEFAULT_SERVERS if name in kinds)
    parser = argparse.ArgumentParser(prog="script/bench", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, help="runs of each load against each server (7)")
    parser.add_argument("--seconds", type=float, help="how long one run takes (0.5)")
    parser.add_argument("--loads", type=listed, default=DEFAULT_LOADS, metavar="LOAD,...",
                        help=f"of {', '.join(measure.LOADS)} (%(default)s)")
    parser.add_argument("--clients", type=listed, default="1,8", metavar="N,...", help="client processes (%(default)s)")
    parser.add_argument("--placements", type=listed, metavar="PLACEMENT,...",
                        help="same: server and clients on one CPU; other: the clients on another; free: wherever the "
                             f"scheduler puts them. Of {', '.join(placements)} (same,free)")
    parser.add_argument("--servers", type=listed, default=servers, metavar="SERVER,...",
                        help=f"of {', '.join(kinds)} (%(default)s)")
    parser.add_argument("--server", action="append", default=[], metavar="NAME=COMMAND",
                        help="another server of the bench filesystem (bench/servers/bench_filesystem.h): a command "
                             "that takes the mount point as its last argument and stays in the foreground")
    parser.add_argument("--system-calls", action="store_true", help="count them too, in runs of their own (needs perf)")
    parser.add_argument("--quick", action="store_true", help="by default 3 rounds of 0.2 s, same: for a first look")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured there")
    return parser


def parse(arguments: list[str], placements: dict[str, measure.Placement], kinds: dict[str, Kind]) -> argparse.Namespace:
    parser = command_line(placements, kinds)
    options = parser.parse_args(arguments)
    parser.set_defaults(**(QUICK if options.quick else THOROUGH))
    options = parser.parse_args(arguments)
    for extra in options.server:
        name, _, command = extra.partition("=")
        if not name.replace("-", "").isalnum() or not command:
            parser.error(f"--server takes NAME=COMMAND, not {extra!r}")
        kinds[name] = Kind(name, tuple(shlex.split(command)))
        options.servers.append(name)
    for chosen, known, word in ((options.loads, measure.LOADS, "load"), (options.placements, placements, "placement"),
                                (options.servers, kinds, "server")):
        for name in chosen:
            if name not in known:
                parser.error(f"there is no {word} {name!r} here: choose of {', '.join(known)}")
    if not all(text.isdigit() and 1 <= int(text) <= MAX_CLIENTS for text in options.clients):
        parser.error(f"--clients takes numbers from 1 to {MAX_CLIENTS}")
    if options.rounds < 1 or options.seconds <= 0:
        parser.error("--rounds and --seconds must be positive")
    if options.system_calls and not shutil.which("perf"):
        parser.error("--system-calls needs perf (Debian's package linux-perf)")
    return options


class Progress:
    """One line on standard error that says how far it has come; nothing where that is no terminal."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._shown = sys.stderr.isatty()

    def step(self, cell: measure.Cell, server: str) -> None:
        self._done += 1
        if self._shown:
            filled = 30 * self._done // self._total
            print(f"\r\033[K[{'#' * filled}{'.' * (30 - filled)}] {self._done}/{self._total} "
                  f"{cell.load} x {cell.clients} {cell.placement}: {server}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        if self._shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def stop(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def main() -> int:
    placements = measure.placements(sorted(os.sched_getaffinity(0)))
    kinds = {kind.name: kind for kind in known_kinds(PROGRAMS)}
    options = parse(sys.argv[1:], placements, kinds)
    if os.geteuid() != 0:
        print("script/bench: has to run as root: the floor mounts with mount(2)", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, stop)

    chosen = [kinds[name] for name in options.servers]
    floors = [kind.name for kind in chosen if kind.is_floor]
    cells = [measure.Cell(load, int(clients), placement) for placement in options.placements for load in options.loads
             for clients in options.clients]
    bench = measure.Bench(PROGRAMS / "load", options.seconds)
    progress = Progress(len(cells) * options.rounds * len(chosen))

    with tempfile.TemporaryDirectory(prefix="fusewire-bench-") as folder, running(chosen, Path(folder)) as servers:
        for cell in cells:
            placement = placements[cell.placement]
            bench.run_cell(cell, servers, placement, options.rounds, progress.step)
            if options.system_calls:
                bench.count_system_calls(cell, servers, placement)
            progress.clear()
            print(report.table(cell, floors), end="\n\n", flush=True)

    compared = [kind.name for kind in chosen if not kind.is_floor]
    print(report.summary(cells, compared, floors))
    if options.json:
        settings = {"rounds": options.rounds, "seconds": options.seconds}
        result = report.document(cells, floors, ["script/bench", *sys.argv[1:]], settings)
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (KeyboardInterrupt, BrokenPipeError):
        sys.exit(130)
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
        print(f"script/bench: {error}", file=sys.stderr)
        sys.exit(1)
