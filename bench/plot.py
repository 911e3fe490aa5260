"""Draws what script/bench measured, as SVG files: python3 bench/plot.py JSON FOLDER

requests.svg, cpu.svg, latency.svg and system-calls.svg show getattr, the smallest request, where the way of serving
counts most; bandwidth.svg shows reads and writes of 1 MiB; ratios.svg shows everything against the floor. A figure is
left out where its load was not measured. With the same matplotlib, the same JSON gives the same files byte for byte."""

from __future__ import annotations

import argparse
import io
import json
import math
import re
import shlex
import statistics
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from results import LOADS, Cell, Entry, Results

STYLE = {"svg.hashsalt": "script/bench", "svg.fonttype": "none", "font.family": "sans-serif",
         "font.sans-serif": ["DejaVu Sans"], "font.size": 9,
         "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 9.5, "hatch.linewidth": 0.6}
# Told apart also by those who do not see colours: dark, light, and hatched.
FUSEWIRE, OTHER, FLOOR, REFERENCE = "#0072B2", "#B5B5B5", "#FFFFFF", "#D55E00"
INK, QUIET = "#222222", "#666666"
WIDTH, LABELS, HEAD, FOOT, ROW, GAP, FIGURES = 10.0, 1.45, 0.9, 1.3, 0.23, 0.75, 0.95  # inches
HEADER = -1.05  # the row above the servers'
GIB = 1 << 30
PLACED = {"same": "same CPU", "other": "other CPU", "free": "CPUs left free"}


@dataclass(frozen=True)
class Scale:
    """A quantity as it is drawn."""

    title: str
    unit: str
    quantity: str
    factor: Callable[[Cell], float]
    shown: Callable[[float], str]


RATE = Scale("requests per second", "/s", "rate", lambda cell: 1, lambda value: short(value))
BANDWIDTH = Scale("GiB/s", "GiB/s", "rate", lambda cell: LOADS[cell.load].size / GIB, lambda value: f"{value:.2f}")
CPU = Scale("server CPU time per request, \N{MICRO SIGN}s", "\N{MICRO SIGN}s", "cpu", lambda cell: 1e6,
            lambda value: f"{value:.1f}")


def short(value: float) -> str:
    return f"{value / 1e6:.2f}M" if value >= 1e6 else f"{value / 1e3:.0f}k" if value >= 1e4 else f"{value / 1e3:.1f}k"


def compact(svg: str) -> str:
    """The same picture in a third of the bytes: less precise positions, and a class for each style."""
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r' transform="rotate\(-0 [^)]*\)"| id="(?:text|patch|line2d|[xy]tick)_\d+"', "", svg)
    svg = re.sub(r"\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), svg)
    svg = re.sub(r"\s*\n\s*", "\n", svg)
    classes = {style: f"s{number}" for number, style in enumerate(dict.fromkeys(re.findall(r'style="([^"]*)"', svg)))}
    svg = re.sub(r'style="([^"]*)"', lambda style: f'class="{classes[style[1]]}"', svg)
    rules = "".join(f".{name}{{{style}}}\n" for style, name in classes.items())
    return svg.replace("</style>", f"{rules}</style>", 1)


class Drawing:
    """The figures of one run. All show the servers in the same order: the fastest in the first figure at the top."""

    def __init__(self, results: Results, folder: Path) -> None:
        self._results = results
        self._folder = folder
        self._ordering = [cell for cell in results.cells if cell.load == "getattr"] or results.cells
        self._servers = sorted(results.servers, key=self._speed, reverse=True)

    def _speed(self, server: Entry) -> float:
        """The geometric mean of its requests per second, in getattr if that was measured."""
        rates = [cell.median(server.name, "rate") for cell in self._ordering if server.name in cell.samples]
        return statistics.geometric_mean(rates) if rates else 0.0

    def _grid(self, loads: Sequence[str]) -> list[list[Cell]]:
        """Rows by clients, columns by load and placement; empty if the loads were not measured everywhere."""
        cells = [cell for cell in self._results.cells if cell.load in loads]
        placements = list(dict.fromkeys(cell.placement for cell in cells))
        rows = []
        for clients in sorted({cell.clients for cell in cells}):
            rows.append([cell for load in loads for placement in placements for cell in cells
                         if (cell.load, cell.clients, cell.placement) == (load, clients, placement)])
        return rows if len({len(row) for row in rows}) == 1 else []

    def bars(self, name: str, title: str, loads: Sequence[str], scale: Scale) -> None:
        grid = self._grid([load for load in loads if any(cell.load == load for cell in self._results.cells)])
        if not grid:
            return
        figure, panels = self._panels(title, grid)
        for row, cells in zip(panels, grid, strict=True):
            for panel, cell in zip(row, cells, strict=True):
                self._bars(panel, cell, scale)
            widest = max(panel.get_xlim()[1] for panel in row)
            for panel in row:
                panel.set_xlim(0, widest)
        for panel in panels[-1]:
            panel.set_xlabel(scale.title)
        self._save(figure, name, [
            *self._kinds(), *self._references(grid),
            Line2D([], [], color=INK, linewidth=1, label="smallest and largest round")])

    def _bars(self, panel: Axes, cell: Cell, scale: Scale) -> None:
        factor = scale.factor(cell)
        longest = 0.0
        self._write(panel, HEADER, scale.unit, f"/ {self._results.reference}" if self._results.reference else "")
        for row, server in enumerate(self._servers):
            if server.name not in cell.samples:
                self._failed(panel, row)
                continue
            values = [value * factor for value in cell.values(server.name, scale.quantity)]
            median = statistics.median(values)
            panel.barh(row, median, height=0.72, linewidth=0.8, **self._paint(server))
            panel.plot([min(values), max(values)], [row, row], color=INK, linewidth=1, solid_capstyle="butt")
            ratios = cell.ratios(server.name, self._results.reference, scale.quantity)
            ratio = f"{statistics.median(ratios):.2f}\N{MULTIPLICATION SIGN}" if ratios else ""
            self._write(panel, row, scale.shown(median), ratio)
            longest = max(longest, *values)
        for floor, style in self._marked(cell, scale.quantity).items():
            panel.axvline(cell.median(floor, scale.quantity) * factor, color=REFERENCE, linewidth=1, linestyle=style,
                          zorder=0)
        panel.set_xlim(0, longest or 1)
        panel.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(4))
        panel.xaxis.set_major_formatter(
            lambda value, _: f"{value:g}" if value == 0 or scale is not RATE else short(value))

    @staticmethod
    def _failed(panel: Axes, row: int) -> None:
        panel.text(0.01, row, "failed", transform=panel.get_yaxis_transform(), va="center", color=REFERENCE,
                   style="italic", fontsize=8)

    @staticmethod
    def _write(panel: Axes, row: float, *figures: str) -> None:
        """Figures in columns at the right of a panel."""
        width = panel.get_position().width * panel.figure.get_size_inches()[0]
        for number, figure in enumerate(figures, 1):
            panel.text(1 + FIGURES * number / len(figures) / width, row, figure, transform=panel.get_yaxis_transform(),
                       ha="right", va="center", fontsize=7.5, color=INK)

    def _marked(self, cell: Cell, quantity: str) -> dict[str, str]:
        """The floors that get a line, with its style."""
        marked = {}
        best = cell.best(self._results.floors, quantity)
        if best:
            marked[best] = ":"
        if self._results.reference in cell.samples:
            marked[str(self._results.reference)] = "--"
        return marked

    def latency(self, name: str, title: str, load: str) -> None:
        grid = self._grid([load])
        if not grid:
            return
        figure, panels = self._panels(title, grid)
        for panel, cell in [pair for row, cells in zip(panels, grid, strict=True)
                            for pair in zip(row, cells, strict=True)]:
            panel.set_xscale("log")
            self._write(panel, HEADER, "p50", "p99")
            for row, server in enumerate(self._servers):
                if server.name not in cell.samples:
                    self._failed(panel, row)
                    continue
                middle, late = (cell.median(server.name, quantity) * 1e6 for quantity in ("p50", "p99"))
                colour = FUSEWIRE if server.is_fusewire else QUIET
                panel.plot([middle, late], [row, row], color=colour, linewidth=1.2)
                panel.plot([middle], [row], "o", color=colour, markersize=5)
                panel.plot([late], [row], "o", color=colour, markersize=5, markerfacecolor="white")
                self._write(panel, row, *(f"{time:.1f}" if time < 100 else f"{time:.0f}" for time in (middle, late)))
            panel.grid(axis="x", color="#E4E4E4", linewidth=0.6)
            panel.set_axisbelow(True)
            panel.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
            panel.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
        for panels_of_row in panels:
            limits = [panel.get_xlim() for panel in panels_of_row]
            low, high = min(low for low, _ in limits), max(high for _, high in limits)
            for panel in panels_of_row:
                panel.set_xlim(low, high)
                panel.xaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5) if high < 50 * low else (1,)))
        for panel in panels[-1]:
            panel.set_xlabel("latency of a call, \N{MICRO SIGN}s (logarithmic)")
        self._save(figure, name, [
            Line2D([], [], color=FUSEWIRE, marker="o", label="fusewire"),
            Line2D([], [], color=QUIET, marker="o", label="others"),
            Line2D([], [], color=QUIET, marker="o", linestyle="", label="median (p50)"),
            Line2D([], [], color=QUIET, marker="o", linestyle="", markerfacecolor="white", label="p99")])

    def system_calls(self, name: str, title: str, load: str) -> None:
        grid = self._grid([load])
        if not grid or not all(cell.system_calls for cells in grid for cell in cells):
            return
        figure, panels = self._panels(title, grid)
        for row, cells in zip(panels, grid, strict=True):
            for panel, cell in zip(row, cells, strict=True):
                for number, server in enumerate(self._servers):
                    count = cell.system_calls.get(server.name)
                    if count is None:
                        self._failed(panel, number)
                        continue
                    panel.barh(number, count, height=0.72, linewidth=0.8, **self._paint(server))
                    self._write(panel, number, f"{count:.2f}", "")
        for panel in panels[-1]:
            panel.set_xlabel("system calls of the server per request")
        self._save(figure, name, self._kinds())

    def ratios(self, name: str) -> None:
        """Everything at a glance, as a map."""
        reference = self._results.reference
        cells = sorted(self._results.cells, key=lambda cell: cell.placement != "same")
        cells = [cell for placement in dict.fromkeys(cell.placement for cell in cells) for cell in cells
                 if cell.placement == placement and reference in cell.samples]
        if not cells:
            return
        logs = [[self._log_ratio(cell, server.name) for cell in cells] for server in self._servers]
        height = HEAD + FOOT + 0.6 + ROW * 1.15 * len(self._servers)
        width = max(WIDTH, LABELS + 0.5 * len(cells) + 0.2)
        figure = self._figure(f"Requests per second against {reference}, the bare loop of read and writev", width,
                              height)
        panel = figure.add_axes((LABELS / width, FOOT / height, 1 - (LABELS + 0.2) / width,
                                 1 - (HEAD + FOOT + 0.6) / height))
        shown = [[math.nan if log is None else max(-3.0, min(3.0, log)) for log in row] for row in logs]
        panel.pcolormesh(shown, cmap="PuOr", norm=TwoSlopeNorm(0, -3, 3), edgecolors="white", linewidth=1.5)
        for row, server_logs in enumerate(logs):
            for column, log in enumerate(server_logs):
                text = "failed" if log is None else f"{2 ** log:.2f}"
                panel.text(column + 0.5, row + 0.5, text, ha="center", va="center", fontsize=7.5,
                           color="white" if log is not None and abs(log) > 2 else INK)
        self._name_servers(panel, 0.5)
        panel.set_xticks([column + 0.5 for column in range(len(cells))],
                         [f"{cell.load} \N{MULTIPLICATION SIGN} {cell.clients}" for cell in cells], rotation=60,
                         ha="left", rotation_mode="anchor")
        panel.xaxis.tick_top()
        panel.tick_params(length=0)
        for column in range(1, len(cells)):
            if cells[column].placement != cells[column - 1].placement:
                panel.axvline(column, color=INK, linewidth=1.5)
        for placement in dict.fromkeys(cell.placement for cell in cells):
            columns = [column for column, cell in enumerate(cells) if cell.placement == placement]
            panel.text(statistics.mean(columns) + 0.5, len(self._servers) + 0.25, PLACED[placement],
                       ha="center", va="top", fontsize=8.5, color=INK)
        for spine in panel.spines.values():
            spine.set_visible(False)
        low, high = (matplotlib.colormaps["PuOr"](position) for position in (0.12, 0.88))
        self._save(figure, name, [Patch(color=low, label="fewer than the floor"),
                                  Patch(color=high, label="more than the floor")])

    def _log_ratio(self, cell: Cell, server: str) -> float | None:
        ratios = cell.ratios(server, self._results.reference, "rate")
        return math.log2(statistics.median(ratios)) if ratios else None

    def _panels(self, title: str, grid: Sequence[Sequence[Cell]]) -> tuple[Figure, list[list[Axes]]]:
        rows, columns = len(grid), len(grid[0])
        panel_height = ROW * len(self._servers) + 0.1
        height = HEAD + FOOT + rows * panel_height + (rows - 1) * GAP
        figure = self._figure(title, WIDTH, height)
        step = (WIDTH - LABELS - 0.1) / columns
        panels: list[list[Axes]] = []
        for row, cells in enumerate(grid):
            bottom = height - HEAD - panel_height - row * (panel_height + GAP)
            panels.append([])
            for column, cell in enumerate(cells):
                panel = figure.add_axes(((LABELS + column * step) / WIDTH, bottom / height,
                                         (step - 0.15 - FIGURES) / WIDTH, panel_height / height))
                load = f"{cell.load}, " if len({one.load for one in cells}) > 1 else ""
                words = f"{load}{cell.clients} client{'s' * (cell.clients != 1)}, {PLACED[cell.placement]}"
                panel.set_title(words, loc="left", color=INK, fontsize=8.5, weight="bold", pad=17)
                self._name_servers(panel, 0)
                panel.tick_params(axis="y", length=0, labelleft=column == 0)
                panel.set_ylim(len(self._servers) - 0.4, -0.6)
                panels[-1].append(panel)
        return figure, panels

    def _figure(self, title: str, width: float, height: float) -> Figure:
        figure = Figure(figsize=(width, height), facecolor="white")
        figure.text(0.1 / width, 1 - 0.12 / height, title, fontsize=13, weight="bold", va="top", color=INK)
        return figure

    def _name_servers(self, panel: Axes, offset: float) -> None:
        panel.set_yticks([row + offset for row in range(len(self._servers))],
                         [server.name for server in self._servers])
        if offset:
            panel.invert_yaxis()
        for label, server in zip(panel.get_yticklabels(), self._servers, strict=True):
            if server.is_fusewire:
                label.set(color=FUSEWIRE, weight="bold")

    @staticmethod
    def _paint(server: Entry) -> dict[str, str]:
        if server.is_fusewire:
            return {"facecolor": FUSEWIRE, "edgecolor": FUSEWIRE}
        if server.is_floor:
            return {"facecolor": FLOOR, "edgecolor": QUIET, "hatch": "////"}
        return {"facecolor": OTHER, "edgecolor": OTHER}

    def _kinds(self) -> list[Patch]:
        kinds = {"fusewire": Entry("", is_floor=False, is_fusewire=True),
                 "bare loops, no library": Entry("", is_floor=True, is_fusewire=False),
                 "other libraries": Entry("", is_floor=False, is_fusewire=False)}
        shown = [self._paint(server) for server in self._servers]
        return [Patch(label=label, **self._paint(kind)) for label, kind in kinds.items() if self._paint(kind) in shown]

    def _references(self, grid: Sequence[Sequence[Cell]]) -> list[Line2D]:
        floors = self._results.floors
        lines = []
        if self._results.reference:
            lines.append(Line2D([], [], color=REFERENCE, linewidth=1, linestyle="--",
                                label=f"{self._results.reference} (1.00\N{MULTIPLICATION SIGN})"))
        if len(floors) > 1 and grid:
            lines.append(Line2D([], [], color=REFERENCE, linewidth=1, linestyle=":", label="best of the bare loops"))
        return lines

    def _save(self, figure: Figure, name: str, legend: Sequence[Patch | Line2D]) -> None:
        width, height = figure.get_size_inches()
        figure.legend(handles=list(legend), loc="lower left", bbox_to_anchor=(0.02 / width, 0.56 / height),
                      ncol=len(legend), frameon=False, fontsize=8, columnspacing=1.4, handlelength=1.6)
        figure.text(0.1 / width, 0.08 / height, self._caption(width), fontsize=7, color=QUIET, va="bottom")
        FigureCanvasSVG(figure)
        svg = io.StringIO()
        figure.savefig(svg, format="svg", metadata={"Date": None})
        (self._folder / name).write_text(compact(svg.getvalue()), encoding="utf-8")

    def _caption(self, width: float) -> str:
        machine, settings = self._results.machine, self._results.settings
        others = max(cell.others for cell in self._results.cells)
        lines = [f"{machine['cpu']}, {machine['cpus']} CPUs, Linux {machine['kernel']}. "
                 f"Medians of {settings['rounds']} interleaved rounds of {settings['seconds']:g} s; "
                 f"other programs took up to {others:.0%} of the CPU time.",
                 "Clients on the server's CPU, on another one, or left free. Servers in the order of their requests "
                 f"per second, geometric mean, in {', '.join(dict.fromkeys(cell.load for cell in self._ordering))}.",
                 *textwrap.wrap(shlex.join(self._results.command), int(width * 18))]
        return "\n".join(lines[:4])


def draw(results: Results, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(STYLE):
        drawing = Drawing(results, folder)
        drawing.bars("requests.svg", "Requests per second (getattr)", ["getattr"], RATE)
        drawing.bars("bandwidth.svg", "Reads and writes of 1 MiB", ["read-1m", "write-1m"], BANDWIDTH)
        drawing.bars("cpu.svg", "Server CPU time per request (getattr): less is better", ["getattr"], CPU)
        drawing.latency("latency.svg", "Latency (getattr): less is better", "getattr")
        drawing.system_calls("system-calls.svg", "System calls per request (getattr): less is better", "getattr")
        drawing.ratios("ratios.svg")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("json", type=Path, help="what script/bench --json wrote")
    parser.add_argument("folder", type=Path, help="where the SVG files go")
    options = parser.parse_args()
    draw(Results.from_document(json.loads(options.json.read_text(encoding="utf-8"))), options.folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
