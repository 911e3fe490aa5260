"""What was measured, as tables for people."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from results import LOADS, Cell, Results

WITHIN = 0.10  # of the best floor
DISTURBED = 0.05  # of the CPU time gone elsewhere: say so
NOTHING = "-"


def machine() -> dict[str, Any]:
    models = [line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
              if line.startswith("model name")]
    return {"kernel": platform.release(), "machine": platform.machine(), "cpu": models[0] if models else "unknown",
            "cpus": len(os.sched_getaffinity(0))}


def cell_table(cell: Cell, results: Results) -> Group:
    """Ratios are medians of the rounds' own, with the smallest and the largest in brackets."""
    disturbed = f" (other programs took {cell.others:.0%} of the CPU time)" if cell.others >= DISTURBED else ""
    reference, floors = results.reference, results.floors
    title = f"{cell.load}, {cell.clients} client{'s' * (cell.clients != 1)}, {cell.placement}{disturbed}"
    table = _table()
    table.add_column("\nserver", no_wrap=True)
    for header in ("requests\n/s", f"to {reference or 'floor'}\n", "to best\nfloor", "CPU us\n/request",
                   f"to {reference or 'floor'}\n", "to best\nfloor", "p50\nus", "p99\nus", "syscalls\n/request"):
        table.add_column(header, justify="right", no_wrap=True)
    best = {quantity: cell.best(floors, quantity) for quantity in ("rate", "cpu")}
    for entry in results.servers:
        server = entry.name
        if server not in cell.samples:
            table.add_row(_name(entry.is_fusewire, server), Text("failed", style="red"))
            continue
        row = []
        for quantity, shown in (("rate", f"{cell.median(server, 'rate'):,.0f}"),
                                ("cpu", f"{cell.median(server, 'cpu') * 1e6:.2f}")):
            row += [shown, _spread(cell.ratios(server, reference, quantity)),
                    _middle(cell.ratios(server, best[quantity], quantity))]
        row += [f"{cell.median(server, quantity) * 1e6:.1f}" for quantity in ("p50", "p99")]
        calls = cell.system_calls.get(server)
        table.add_row(_name(entry.is_fusewire, server), *row, NOTHING if calls is None else f"{calls:.2f}")
    return Group(Text(title, style="bold"), table)


def cell_notes(cell: Cell) -> list[str]:
    """What went wrong, in words."""
    notes = [f"{server}: failed: {why}" for server, why in cell.failures.items()]
    for server in cell.samples:
        counted = cell.unexpected_requests(server)
        if counted is not None:
            notes.append(f"{server}: {counted:.2f} FUSE requests for each call, not {LOADS[cell.load].requests}: "
                         "its figures are of another work")
    return notes


def summaries(results: Results) -> list[Group]:
    """For each placement the ratios of all servers and loads at a glance: requests per second, then CPU time."""
    tables = []
    if results.reference:
        for placement in dict.fromkeys(cell.placement for cell in results.cells):
            cells = [cell for cell in results.cells if cell.placement == placement]
            tables += [_summary(results, cells, f"{placement}: {words} against {results.reference}", quantity)
                       for quantity, words in (("rate", "requests per second"), ("cpu", "server CPU time per request"))]
    return tables


def _summary(results: Results, cells: Sequence[Cell], title: str, quantity: str) -> Group:
    table = _table()
    table.add_column("\nserver", no_wrap=True)
    for cell in cells:
        table.add_column(f"{cell.load}\nx {cell.clients}", justify="right", no_wrap=True)
    table.add_column("near\nbest floor", justify="right", no_wrap=True)
    for entry in results.servers:
        row = [_judged(cell, entry.name, results.reference, quantity) for cell in cells]
        compared = [ratios for cell in cells
                    if (ratios := cell.ratios(entry.name, cell.best(results.floors, quantity), quantity))]
        near = sum(_is_near(statistics.median(ratios), quantity) for ratios in compared)
        table.add_row(_name(entry.is_fusewire, entry.name), *row, f"{near}/{len(compared)}" if compared else NOTHING)
    table.add_section()
    table.add_row("other programs", *(f"{cell.others:.0%}" for cell in cells), "")
    return Group(Text(title, style="bold"), table)


def _judged(cell: Cell, server: str, reference: str | None, quantity: str) -> Text:
    if server in cell.failures:
        return Text("failed", style="red")
    ratios = cell.ratios(server, reference, quantity)
    if not ratios:
        return Text(NOTHING)
    ratio = statistics.median(ratios)
    better = ratio > 1 + WITHIN if quantity == "rate" else ratio < 1 - WITHIN
    mark = "" if cell.unexpected_requests(server) is None else "!"
    style = "green" if better else "" if _is_near(ratio, quantity) else "yellow"
    return Text(f"{mark}{ratio:.2f}", style=style)


def _is_near(ratio: float, quantity: str) -> bool:
    """Within 10%, or better."""
    return ratio >= 1 - WITHIN if quantity == "rate" else ratio <= 1 + WITHIN


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)


def _name(is_fusewire: bool, server: str) -> Text:
    return Text(server, style="bold" if is_fusewire else "")


def _spread(ratios: Sequence[float]) -> str:
    return f"{statistics.median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})" if ratios else NOTHING


def _middle(ratios: Sequence[float]) -> str:
    return f"{statistics.median(ratios):.2f}" if ratios else NOTHING
