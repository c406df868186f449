"""The copy table: host time over the size of a copy."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import TYPE_CHECKING, Any

from ..recording import Recording
from ..types import SourceKind
from .style import LINES, MEMORY_COLOURS, figure_of, plain_numbers, stamp

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def copy_calls(ax: Axes, tables: Mapping[str, Recording], direction: str, call: str, *, backlog_ms: float) -> list[Any]:
    """Host time over the size of the copy, behind one backlog: `call` is 'call_ns' (the copy) or 'sync_ns'.

    `direction` is 'h2d' or 'd2h'. Simulated tables are dashed, with hollow marks.
    """
    lines = []
    for (label, table), memory in product(tables.items(), ("pageable", "pinned")):
        columns = table.columns
        chosen = (columns["direction"] == direction) & (columns["host_memory"] == memory)
        chosen &= columns["backlog_ns"] == round(backlog_ms * 1e6)
        simulated = table.source.kind is SourceKind.SIMULATED
        lines += ax.plot(
            columns["bytes"][chosen] / 1e6,
            columns[call][chosen] / 1e6,
            marker="o",
            color=MEMORY_COLOURS[memory],
            markerfacecolor="white" if simulated else MEMORY_COLOURS[memory],
            label=f"{memory}, {label}",
            **LINES[table.source.kind],
        )
    if backlog_ms:
        ax.axhline(backlog_ms, color="#999999", linewidth=0.8)
        ax.annotate("the backlog", (0.02, backlog_ms), (0, -11), ("axes fraction", "data"), "offset points", size=8)
    what = {"h2d": "upload", "d2h": "download"}[direction]
    title = {"call_ns": f"{what}: the copy call", "sync_ns": f"{what}: synchronize after it"}[call]
    ax.set(xscale="log", yscale="log", xlabel="size of the copy [MB]", ylabel="host time [ms]")
    for axis in (ax.xaxis, ax.yaxis):
        plain_numbers(axis)
    ax.set_title(title, loc="left")
    ax.legend(frameon=False, fontsize=8)
    stamp(figure_of(ax), *(table.source for table in tables.values()))
    return lines
