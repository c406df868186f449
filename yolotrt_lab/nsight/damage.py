"""Rows of a report that cannot be: what no thread and no GPU can have done is left out, and a note says so."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from .intervals import distinct, each, in_turn, taken
from .trace import CLOCK_SLACK_NS, DEVICE_WAITS, Columns, calls_of, packed, queue_of, rows_of

_ALONE_NS = 1_000_000_000
_FEW = 0.05  # of the rows; with more, the clocks or the report as a whole are wrong
_GPU = ("kernels", "copies", "memsets")
_LAWS = {
    "alone": "end long after everything else",
    "twice": "stand there twice",
    "holding": "hold other calls, which they do not make",
    "overlong": "still run when two later launches on their stream start",
    "early": "start before they are asked for",
    "unwaited": "still run when a call that waits for them has returned",
}


def without_damage(tables: dict[str, Columns], names: Iterable[str], titles: Mapping[str, str]) -> list[str]:
    """Leave out of the tables of a report, in place, the rows that cannot be; what was found, as notes.

    The tables have columns of times, threads, streams and correlations, and are sorted by start. `titles` holds the
    report's own name for each, `names` the texts of the codes in `name`.
    """
    notes: list[str] = []

    def leave_out(table: str, **laws: np.ndarray) -> None:
        keep = np.ones(len(tables[table]["start_ns"]), bool)
        for law, wrong in laws.items():
            if not (count := int(wrong.sum())):
                continue
            few = law == "twice" or count <= _FEW * len(wrong)
            done = "they are left out" if few else "idle times and waits are in doubt"
            first = tables[table]["start_ns"][np.argmax(wrong)]
            rows = f"{count} of {len(wrong)} rows of {titles[table]}"
            notes.append(f"{rows} {_LAWS[law]}, the first from {first} ns: {done}")
            keep[wrong] &= not few
        if not keep.all():
            tables[table] = rows_of(tables[table], keep)

    last_ns = _last_believable(tables)
    for table in tables:
        leave_out(table, alone=tables[table]["end_ns"] > last_ns)
    for table in ("api", *_GPU):
        leave_out(table, twice=_twice(tables[table]))
    leave_out("api", holding=_holding(tables["api"], _coded(names, lambda name: name.startswith("cuda"))))
    for table in _GPU:
        leave_out(table, overlong=_overlong(tables[table]))
    asked, asked_ns = calls_of(tables["api"]), tables["api"]["start_ns"]
    latest = _latest(tables, _coded(names, lambda name: name in DEVICE_WAITS))
    for table in _GPU:
        start, end = (tables[table][name] for name in ("start_ns", "end_ns"))
        call = asked(tables[table])
        early = (call >= 0) & (start < taken(asked_ns, call) - CLOCK_SLACK_NS)
        unwaited = (call >= 0) & (end > taken(latest, call) + CLOCK_SLACK_NS) if len(latest) else np.zeros_like(early)
        leave_out(table, early=early, unwaited=unwaited)
    for table, rows in tables.items():
        if len(rows["start_ns"]) > 1 and (rows["end_ns"] == rows["start_ns"]).all():
            notes.append(f"no row of {titles[table]} takes any time: what is said of times is wrong")
    return notes


def _coded(names: Iterable[str], choose: Callable[[str], bool]) -> np.ndarray:
    return np.array([*map(choose, names), False])


def _last_believable(tables: Mapping[str, Columns]) -> int:
    """The latest end but for those that are each further from all before them than these are long, and a second."""
    filled = [rows for rows in tables.values() if len(rows["start_ns"])]
    if not filled:
        return 0
    begin = min(int(rows["start_ns"][0]) for rows in filled)
    reached = max(int(rows["start_ns"][-1]) for rows in filled)
    last = max(int(rows["end_ns"].max()) for rows in filled)
    if last - reached <= reached - begin + _ALONE_NS:
        return last
    ends = np.unique(np.concatenate([rows["end_ns"][rows["end_ns"] >= reached] for rows in filled])).tolist()
    while len(ends) > 1 and ends[-1] - ends[-2] > ends[-2] - begin + _ALONE_NS:
        ends.pop()
    return int(ends[-1])


def _twice(rows: Columns) -> np.ndarray:
    """Those that are as the row before them."""
    again = np.zeros(len(rows["start_ns"]), bool)
    again[1:] = (rows["start_ns"][1:] == rows["start_ns"][:-1]) & (rows["end_ns"][1:] == rows["end_ns"][:-1])
    maybe = np.flatnonzero(again)
    for values in rows.values():
        again[maybe] &= values[maybe] == values[maybe - 1]
    return again


def _holding(calls: Columns, runtime: np.ndarray) -> np.ndarray:
    """Those in which others begin all the same: a runtime call makes driver calls, and these make none."""
    start, end = calls["start_ns"], calls["end_ns"]
    wrong = np.zeros(len(start), bool)
    if in_turn(start, end):
        return wrong
    of_runtime = runtime[calls["name"]]
    for _, rows in each(packed(calls)):
        wrong[rows[:-1]] = ~of_runtime[rows[:-1]] & (start[rows[1:]] < end[rows[:-1]])
        rows = rows[of_runtime[rows]]
        wrong[rows[:-1]] |= start[rows[1:]] < end[rows[:-1]]
    return wrong


def _latest(tables: Mapping[str, Columns], waits: np.ndarray) -> np.ndarray:
    """For each call the return of the next one that waits for its work; far away where the trace does not tell.

    Nothing where it tells that of no call.
    """
    api = tables["api"]
    if not waits.any():
        return np.empty(0, np.int64)
    latest = np.full(len(api["pid"]), np.iinfo(np.int64).max // 2)
    queues = {key for table in _GPU for key in distinct(queue_of(tables[table])).tolist()}
    pids = [key >> 32 & 0xFFFFFF for key in queues]
    for pid, rows in each(api["pid"]):
        waiting = waits[api["name"][rows]]
        if pids.count(pid) == 1 and waiting.any():  # all work is on one stream
            wait = np.append(rows[waiting], rows[waiting][-1])[np.cumsum(waiting)]
            before = (rows < wait) & (api["end_ns"][rows] <= api["start_ns"][wait])
            latest[rows[before]] = api["end_ns"][wait[before]]
    return latest


def _overlong(work: Columns) -> np.ndarray:
    """On a stream one launch follows another: a kernel may start while the one before it ends, and no later one."""
    wrong = np.zeros(len(work["start_ns"]), bool)
    if (work["start_ns"][2:] >= work["end_ns"][:-2]).all():
        return wrong
    for _, rows in each(queue_of(work)):
        correlation = work["correlation"][rows]
        opens = np.append(True, correlation[1:] != correlation[:-1])  # the nodes of a graph are of one launch
        starts = np.append(work["start_ns"][rows[opens]], [np.iinfo(np.int64).max] * 2)
        wrong[rows] = starts[np.cumsum(opens) + 1] < work["end_ns"][rows] - CLOCK_SLACK_NS
    return wrong
