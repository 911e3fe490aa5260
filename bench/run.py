"""Compares ways of serving a FUSE filesystem: fusewire's transports, bare loops without any library ("floors"), and
other libraries.

All servers are mounted at once, and each load is run against them in interleaved rounds, so that what the machine does
beside it meets all of them alike. Every call is one FUSE request of just its size, an open two (OPEN and RELEASE);
where a server makes more of it, the report says so. A server's CPU time is its own, user and kernel, by the kernel's
accounting in nanoseconds, taken while the clients run; latencies are those of the clients' calls.

Each ratio is taken round by round against `floor`, the bare loop of one read and one writev: the median of the rounds'
ratios, with the smallest and the largest in brackets. "To best floor" compares with whichever bare server is the best
in that cell (by medians; for CPU time, the one that needs least). "Near best floor" counts the cells in which a server
is within 10% of it, or better.

A server that fails, by dying, by not answering or by wrong answers, has no figures in that cell. It is started again
for the next one, but not after a second failure. The exit status is 1 if any failed."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

import measure
import plot
import report
from participant import Participant
from results import LOADS, Cell, Entry, Results
from servers import Kind, known_kinds, unavailable_kinds

PROGRAMS = Path(os.environ.get("FUSEWIRE_BUILD", Path(__file__).resolve().parent.parent / "build")) / "bench"
DEFAULT_LOADS = "getattr,open,read-4k,read-1m,write-4k,write-1m"
MAX_CLIENTS = 64  # the bench filesystem has a file for each
THOROUGH = {"rounds": 7, "seconds": 0.5}
QUICK = {"rounds": 3, "seconds": 0.2}
DEFAULT_SERVERS = ("floor", "floor-uring", "poll", "ring", "uring", "uring-workers", "python", "python-workers",
                   "libfuse", "libfuse-threads", "libfuse-uring", "asyncfuse", "pyfuse3", "mfusepy")
WIDEST_TABLE = 250  # columns; a narrower terminal wraps the lines, where rich would cut the figures short


def listed(text: str) -> list[str]:
    return list(dict.fromkeys(item for item in text.split(",") if item))


def command_line(placements: dict[str, measure.Placement], kinds: dict[str, Kind]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="script/bench", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, help="runs of each load against each server (7)")
    parser.add_argument("--seconds", type=float, help="how long one run takes (0.5)")
    parser.add_argument("--loads", type=listed, default=DEFAULT_LOADS, metavar="LOAD,...",
                        help=f"all, or of {', '.join(LOADS)} (%(default)s)")
    parser.add_argument("--clients", type=listed, default="1,8", metavar="N,...", help="client processes (%(default)s)")
    parser.add_argument("--placements", type=listed, default="default", metavar="PLACEMENT,...",
                        help="same: server and clients on one CPU; other: the clients on another; free: wherever the "
                             "scheduler puts them. A server that binds its threads to CPUs by itself is left so. "
                             f"All, or of {', '.join(placements)} (same,other)")
    parser.add_argument("--servers", type=listed, default="default", metavar="SERVER,...",
                        help=f"all, or of {', '.join(kinds)} (those of {', '.join(DEFAULT_SERVERS)} that can run here)")
    parser.add_argument("--server", action="append", default=[], metavar="NAME=COMMAND",
                        help="another server of the bench filesystem (bench/servers/bench_filesystem.h): a command "
                             "that takes the mount point as its last argument and stays in the foreground")
    parser.add_argument("--counts", action=argparse.BooleanOptionalAction, default=True,
                        help="count system calls and FUSE requests too, in short runs of their own (by default, if "
                             "perf is there)")
    parser.add_argument("--quick", action="store_true", help="by default 3 rounds of 0.2 s, same: for a first look")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured there")
    parser.add_argument("--plots", type=Path, metavar="FOLDER",
                        help="draw it there (bench/plot.py does so later, from the JSON)")
    return parser


def parse(arguments: list[str], placements: dict[str, measure.Placement], kinds: dict[str, Kind],
          missing: dict[str, str]) -> argparse.Namespace:
    """What was asked for, with the names checked and "all" spelt out. `absent` has those of the servers that are in the
    default or in "all" and cannot run here, with the reasons."""
    parser = command_line(placements, kinds)
    options = parser.parse_args(arguments)
    parser.set_defaults(**(QUICK if options.quick else THOROUGH))
    options = parser.parse_args(arguments)
    if options.placements == ["default"]:
        options.placements = [name for name in ("same", "other")[:1 if options.quick else 2] if name in placements]
    options.absent = {}
    if options.servers in (["default"], ["all"]):
        wanted = DEFAULT_SERVERS if options.servers == ["default"] else [*kinds, *missing]
        options.servers = [name for name in wanted if name in kinds]
        options.absent = {name: missing[name] for name in wanted if name in missing}
    for attribute, known in (("loads", LOADS), ("placements", placements), ("servers", kinds)):
        chosen = getattr(options, attribute)
        if chosen == ["all"]:
            setattr(options, attribute, list(known))
            continue
        for name in chosen:
            if attribute == "servers" and name in missing:
                parser.error(f"{name} cannot run here: {missing[name]}")
            if name not in known:
                parser.error(f"{name!r} is not among the {attribute} here: {', '.join(known)}")
    for extra in options.server:
        name, _, command = extra.partition("=")
        if not name.replace("-", "").isalnum() or not command or name in kinds:
            parser.error(f"--server takes NAME=COMMAND with a new name, not {extra!r}")
        kinds[name] = Kind(name, tuple(shlex.split(command)))
        options.servers.append(name)
    if not all(text.isdigit() and 1 <= int(text) <= MAX_CLIENTS for text in options.clients):
        parser.error(f"--clients takes numbers from 1 to {MAX_CLIENTS}")
    if not (options.loads and options.placements and options.servers and options.clients):
        parser.error("nothing was chosen to be measured")
    if options.rounds < 1 or options.seconds <= 0:
        parser.error("--rounds and --seconds must be positive")
    return options


class Display:
    """Tables on standard output; meanwhile a progress bar on standard error, if that is a terminal. It is drawn between
    the runs only, for drawing takes CPU time."""

    def __init__(self, steps: int) -> None:
        self._console = Console(highlight=False, width=WIDEST_TABLE)
        self._progress = Progress(
            BarColumn(30), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"),
            console=Console(stderr=True), auto_refresh=False, transient=True)
        self._is_drawn = sys.stderr.isatty()
        self._task = self._progress.add_task("", total=steps)
        self._said: set[str] = set()

    def __enter__(self) -> Display:
        self._draw(True)
        return self

    def __exit__(self, *exception: object) -> None:
        self._draw(False)

    def _draw(self, begin: bool) -> None:
        if self._is_drawn:
            (self._progress.start if begin else self._progress.stop)()

    def starting(self, server: str) -> None:
        self._progress.update(self._task, description=f"starting {server}", refresh=self._is_drawn)

    def step(self, cell: Cell, server: str) -> None:
        self._progress.update(self._task, description=f"{cell.load} x {cell.clients} {cell.placement}: {server}",
                              refresh=self._is_drawn)
        self._progress.advance(self._task)

    def show_cell(self, cell: Cell, results: Results) -> None:
        self._draw(False)
        self._console.print(report.cell_table(cell, results))
        for note in report.cell_notes(cell):
            if note not in self._said:
                self._console.print(note, markup=False, soft_wrap=True)
                self._said.add(note)
        self._console.print()
        self._draw(True)

    def show_summaries(self, results: Results) -> None:
        for table in report.summaries(results):
            self._console.print(table)


@contextlib.contextmanager
def participants(kinds: Sequence[Kind], display: Display) -> Iterator[list[Participant]]:
    """All of them at once, gone at the end."""
    with tempfile.TemporaryDirectory(prefix="fusewire-bench-", ignore_cleanup_errors=True) as folder, \
            contextlib.ExitStack() as stack:
        found = []
        for kind in kinds:
            display.starting(kind.name)
            found.append(Participant(kind, Path(folder)))
            stack.callback(found[-1].stop)
            found[-1].start()
        yield found


def run(options: argparse.Namespace, kinds: Sequence[Kind], placements: dict[str, measure.Placement],
        results: Results) -> None:
    """Adds the cells to the results one by one, so that those that were measured stay when it is interrupted."""
    cells = [Cell(load, int(clients), placement) for placement in options.placements for load in options.loads
             for clients in options.clients]
    steps = len(cells) * len(kinds) * (options.rounds + options.counts)
    with Display(steps) as display, participants(kinds, display) as taking_part:
        bench = measure.Bench(PROGRAMS / "load", options.seconds, display.step)
        for cell in cells:
            placement = placements[cell.placement]
            bench.run_cell(cell, taking_part, placement, options.rounds)
            if options.counts:
                bench.count(cell, taking_part, placement)
            results.cells.append(cell)
            display.show_cell(cell, results)
    display.show_summaries(results)


def stop(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def main() -> int:
    placements = measure.placements(sorted(os.sched_getaffinity(0)))
    known = {kind.name: kind for kind in known_kinds(PROGRAMS)}
    missing = unavailable_kinds(PROGRAMS)
    options = parse(sys.argv[1:], placements, known, missing)
    if os.geteuid() != 0:
        print("script/bench: has to run as root: the floor mounts with mount(2)", file=sys.stderr)
        return 1
    for name, reason in options.absent.items():
        print(f"script/bench: {name} does not take part: {reason}", file=sys.stderr)
    if options.counts and (why := measure.why_not_counted()):
        print(f"script/bench: system calls and FUSE requests are not counted: {why}", file=sys.stderr)
        options.counts = False
    signal.signal(signal.SIGTERM, stop)

    kinds = [known[name] for name in options.servers]
    settings = {"rounds": options.rounds, "seconds": options.seconds}
    results = Results(["script/bench", *sys.argv[1:]], report.machine(), settings,
                      [Entry(kind.name, kind.is_floor, kind.is_fusewire) for kind in kinds])
    try:
        run(options, kinds, placements, results)
    finally:
        if options.json and results.cells:
            options.json.write_text(json.dumps(results.document(), indent=1) + "\n", encoding="utf-8")
    if options.plots:
        plot.draw(results, options.plots)
    return 1 if any(cell.failures for cell in results.cells) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (KeyboardInterrupt, BrokenPipeError):
        sys.exit(130)
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
        print(f"script/bench: {error}", file=sys.stderr)
        sys.exit(1)
