"""What was measured, as a table for people and as JSON for programs."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from measure import Cell

WITHIN = 0.10  # of the better floor
DISTURBED = 0.05  # of the CPU time gone elsewhere: say so


def machine() -> dict[str, Any]:
    models = [line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
              if line.startswith("model name")]
    return {"kernel": platform.release(), "machine": platform.machine(), "cpu": models[0] if models else "unknown",
            "cpus": len(os.sched_getaffinity(0))}


def table(cell: Cell, floors: Sequence[str]) -> str:
    """One cell. The ratios are medians of the rounds' own, with the smallest and the largest in brackets."""
    counted = bool(cell.system_calls)
    plural = "" if cell.clients == 1 else "s"
    disturbed = f"  (other programs took {cell.others:.0%} of the CPU time)" if cell.others >= DISTURBED else ""
    lines = [f"{cell.load}, {cell.clients} client{plural}, {cell.placement}{disturbed}",
             f"  {'server':<16}{'calls/s':>9}  {'to the better floor':<19}{'CPU us':>8}  {'to the better floor':<19}"
             f"{'p50 us':>8}{'p99 us':>8}" + (f"{'syscalls':>10}" if counted else "")]
    for server in cell.samples:
        rate, cpu, p50, p99 = (cell.median(server, quantity) for quantity in ("rate", "cpu", "p50", "p99"))
        lines.append(f"  {server:<16}{rate:>9.0f}  {_ratio(cell, server, floors, 'rate'):<19}{cpu * 1e6:>8.2f}  "
                     f"{_ratio(cell, server, floors, 'cpu'):<19}{p50 * 1e6:>8.1f}{p99 * 1e6:>8.1f}"
                     + (f"{cell.system_calls[server]:>10.2f}" if counted else ""))
    return "\n".join(lines)


def _ratio(cell: Cell, server: str, floors: Sequence[str], quantity: str) -> str:
    if not floors:
        return ""
    ratios = cell.ratios(server, cell.better_floor(floors, quantity), quantity)
    return f"{_middle(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})"


def _middle(ordered: Sequence[float]) -> float:
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def summary(cells: Sequence[Cell], servers: Sequence[str], floors: Sequence[str]) -> str:
    """Where a server is not within 10% of the better floor, in calls per second or in CPU time per call."""
    if not floors:
        return "No floor among the servers: nothing to compare with."
    lines = []
    for server in servers:
        beyond = []
        for cell in cells:
            rate = _middle(cell.ratios(server, cell.better_floor(floors, "rate"), "rate"))
            cpu = _middle(cell.ratios(server, cell.better_floor(floors, "cpu"), "cpu"))
            if rate < 1 - WITHIN or cpu > 1 + WITHIN:
                beyond.append(f"{cell.load} x {cell.clients} {cell.placement} ({rate:.2f} calls/s, {cpu:.2f} CPU)")
        lines.append(f"{server}: within 10% of the better floor in {len(cells) - len(beyond)} of {len(cells)}"
                     + ("; not in " + ", ".join(beyond) if beyond else ""))
    return "\n".join(lines)


def document(cells: Sequence[Cell], floors: Sequence[str], command: Sequence[str],
             settings: dict[str, Any]) -> dict[str, Any]:
    return {"command": list(command), "machine": machine(), "settings": settings, "floors": list(floors),
            "units": {"rate": "calls per second", "cpu": "seconds of server CPU time per call", "p50": "seconds",
                      "p99": "seconds", "system_calls": "of the server, per call",
                      "others": "share of the CPU time that other programs took"},
            "cells": [asdict(cell) for cell in cells]}
