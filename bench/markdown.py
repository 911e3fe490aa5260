"""Writes what script/bench measured as Markdown tables: python3 bench/markdown.py JSON [--placement P] [--servers S,...]

For each placement and number of clients a row per server: requests per second / the server's CPU time per request, both
as the median of the rounds' ratios to the floor. The floor's own row has the figures themselves."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from results import Cell, Results


def figure(cell: Cell, server: str, reference: str | None) -> str:
    if server in cell.failures:
        return "failed"
    if server not in cell.samples:
        return ""
    if server == reference:
        return f"{cell.median(server, 'rate'):,.0f}/s, {cell.median(server, 'cpu') * 1e6:.1f} us"
    rate, cpu = (statistics.median(cell.ratios(server, reference, quantity)) for quantity in ("rate", "cpu"))
    return f"{rate:.2f} / {cpu:.2f}"


def table(results: Results, cells: Sequence[Cell], servers: Sequence[str]) -> str:
    lines = ["| | " + " | ".join(cell.load for cell in cells) + " |", "|---" * (len(cells) + 1) + "|"]
    for server in servers:
        figures = (figure(cell, server, results.reference) for cell in cells)
        lines.append(f"| {server} | " + " | ".join(figures) + " |")
    lines.append("| other programs' CPU | " + " | ".join(f"{cell.others:.0%}" for cell in cells) + " |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("json", type=Path, metavar="JSON")
    parser.add_argument("--placement", help="this one alone")
    parser.add_argument("--servers", type=lambda text: text.split(","), metavar="SERVER,...", help="these alone")
    options = parser.parse_args()
    results = Results.from_document(json.loads(options.json.read_text()))
    servers = options.servers or [server.name for server in results.servers]
    for placement, clients in dict.fromkeys((cell.placement, cell.clients) for cell in results.cells):
        if options.placement in (None, placement):
            cells = [cell for cell in results.cells if (cell.placement, cell.clients) == (placement, clients)]
            print(f"{placement}, {clients} client{'s' if clients > 1 else ''}:\n\n{table(results, cells, servers)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
