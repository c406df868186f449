"""A bill as text, as a page with its figure, and beside another one: text and page are one list of sections."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..plots.style import STAGE_COLOURS, TELEMETRY_LABELS, as_svg, figure, figure_of, legend_above, mark_of, stamp
from ..types import Stage
from . import thresholds as at
from .accounts import Bill, Fix, Judged, Stalled
from .explanations import ALL_ALONG, EXPLANATIONS
from .look import GPU_CALLS, QUEUE, UNCOVERED, ms, number
from .measured import Measured

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH = 110
"""Letters in a line of text, where a terminal does not have fewer."""
_NARROWEST = 30  # letters of a last column
_TOLD = 0.0005  # share of all time, which rounds to 0.1 %
_KINDS = {
    "frames": "",
    "rates": "frames a second, billed as the time of a frame",
    "summary": "a summary: totals or averages of a run, and no series of frames",
    "events": "single calls or events, and no series of frames",
    "layers": "the layers of a network, and no series of frames",
    "telemetry": "telemetry without frames",
}
_EXPLAINED = {each.cause: each for each in EXPLANATIONS}
Rows = tuple[tuple[str, ...], ...]


class Section(NamedTuple):
    """A heading, and the rows of a table or lines under it."""

    title: str
    rows: Rows = ()
    lines: tuple[str, ...] = ()


def sections(bill: Bill) -> Iterator[Section]:
    """Everything that a bill says, in its order."""
    if said := _KINDS[bill.kind]:
        yield Section("", lines=(f"{bill.format or 'this'}: {said}",))
    if bill.frames > 1:
        yield Section("", lines=(_in_short(bill),))
    if bill.spent:
        head = ["stage", "early", "late", *["mean"] * bill.beside_medians] if bill.frames else ["part", "time"]
        rows = [(s.stage, ms(s.early_ms), ms(s.late_ms), ms(s.mean_ms))[: len(head)] for s in bill.spent]
        yield Section("where a frame's time goes" if bill.frames else "where the time goes", (tuple(head), *rows))
    if bill.frames:
        yield Section("what grew, stalled or repeats", lines=tuple(_moves(bill)))
        yield from _causes(bill)
    if bill.frames or any(each.at_most_ms is not None for each in bill.fixes):
        yield Section("what each fix can take off a frame, at most", tuple(_fix_row(each) for each in bill.fixes))
    if bill.next:
        yield Section("measure next", lines=bill.next)
    if bill.unread:
        yield Section("not read", lines=(", ".join(bill.unread),))
    told = _could_not_show(bill) if bill.steady else ""
    yield Section("", lines=(*(note for note in bill.notes if note != told), *filter(None, [bill.origin])))


def _in_short(bill: Bill) -> str:
    """The largest growth of a part of the frame, what is proven, and the largest bound of a fix, in one line."""
    parts_that_grew = [each for each in bill.grew if each.stage not in ("latency", "frame")] or bill.grew
    grew = max(parts_that_grew, key=lambda each: each.to_ms - each.from_ms, default=None)
    said = f"{grew.stage} grew most, by {ms(grew.to_ms - grew.from_ms)}" if grew else "no growth that stands out"
    often = next((each for each in bill.stalls if each.more_often), None)
    if often and not grew:
        said = f"no level grew; {often.stage} stalled {_halves(often)}"
    few = ", too few rows to tell" if bill.frames < at.FEWEST_FRAMES else ""
    parts = [f"{bill.frames:,} frames{few}", said, f"proven: {', '.join(bill.proven) or 'nothing'}"]
    bounds = {each.fix: each.at_most_ms for each in bill.fixes if each.at_most_ms}
    if most := max(bounds, key=bounds.__getitem__, default=None):
        parts.append(f"most that one fix takes off a frame: {ms(bounds[most])} ({_plain(most)})")
    return "; ".join(parts)


def _fix_row(fix: Fix) -> tuple[str, ...]:
    at_most = "not measured" if fix.at_most_ms is None else ms(fix.at_most_ms)
    return _plain(fix.fix), at_most, fix.because.removeprefix("not measured: ")


def _causes(bill: Bill) -> Iterator[Section]:
    """The causes by verdict; last of what is possible that which nothing speaks for."""
    for verdict in ("proven", "possible", "excluded", "not_measured"):
        causes = [each for each in bill.causes if each.verdict == verdict]
        silent = [c for c in causes if verdict == "not_measured" or c.because.endswith(ALL_ALONG)]
        told = [c for c in causes if c not in silent]
        if verdict == "excluded" and told:
            yield Section(verdict, tuple((str(c.cause), c.because) for c in told))
            continue
        shared = [because for because, count in Counter(c.because for c in told).items() if count > 1]
        if own := [c for c in told if c.because not in shared]:
            yield Section(verdict, tuple(_with_fix(c, c.because) for c in own))
        for because in shared:
            rows = tuple(_with_fix(c) for c in told if c.because == because)
            yield Section(f"{verdict}, any of these: {because}", rows)
        if silent:
            title = f"possible, and nothing speaks for it: {ALL_ALONG}" if verdict == "possible" else _plain(verdict)
            yield Section(title, lines=tuple(_together(silent)))


def _together(causes: list[Judged]) -> Iterator[str]:
    """Causes of which the same is said, in one line."""
    for because in dict.fromkeys(each.because for each in causes):
        names = ", ".join(each.cause for each in causes if each.because == because)
        yield f"{names}: {because.removesuffix(f'; {ALL_ALONG}')}"


def _plain(word: str) -> str:
    return word.replace("_", " ")


def _with_fix(judged: Judged, because: str = "") -> tuple[str, str]:
    explained = _EXPLAINED[judged.cause]
    told = f"{explained.words}: {because.rstrip('.')}" if because else explained.words
    return str(judged.cause), f"{told}. Fix: {explained.fix}"


def _moves(bill: Bill) -> Iterator[str]:
    """What moved: of 'latency' and 'frame' one where both do the same, and no stalls of a stage that cost nothing."""
    for word, changes in (("grew", bill.grew), ("fell", bill.fell)):
        by_stage = {each.stage: (each.shape, number(each.to_ms - each.from_ms)) for each in changes}
        for each in changes:
            if each.stage == "latency" and by_stage.get("frame") == by_stage["latency"]:
                continue
            wave = "goes up and down," if each.to_ms > each.from_ms else "goes down and up,"
            moves = wave if each.shape == "wave" else word
            levels = f"from {number(each.from_ms)} to {ms(each.to_ms)}"
            since = f"frame {each.since:,}" if each.since else "the start"
            often = f" in one of every {each.every} frames" if each.every > 1 else ""
            yield f"{each.stage} {moves} {levels}{often} ({each.shape}, since about {since})"
    stalls = {each.stage: each for each in bill.stalls if each.stage not in set(Stage) or each.share >= _TOLD}
    if {"latency", "frame"} <= stalls.keys() and stalls["latency"].frames == stalls["frame"].frames:
        del stalls["latency"]
    for name, stall in stalls.items():
        often, took = "one frame", ms(stall.longest_ms)
        if stall.frames > 1:
            often, took = f"{stall.frames:,} frames", f"{ms(stall.median_ms)} in the median, {took} at most"
        if stall.more_often:
            often += f", {_halves(stall)}"
        if stall.in_a_row >= at.IN_A_ROW:
            often += f", up to {stall.in_a_row:,} in a row, from frame {stall.first:,} on"
        yield f"{name} stalled in {often}: {took}, {stall.share:.1%} of all time"
    if bill.period is not None:
        yield f"it repeats every {bill.period} frames"
    if bill.steady:
        apart = "from repeating, it is " if bill.period is not None else ""
        yield f"{'apart ' * bool(apart)}{apart}steady: {_could_not_show(bill)}"
    elif bill.steady is None:
        yield "whether it is steady can't be told from this"


def _halves(stall: Stalled) -> str:
    before = stall.frames - stall.second_half
    return f"more often in the second half of the run ({stall.second_half:,} frames, before {before:,})"


def _could_not_show(bill: Bill) -> str:
    """The note that says how small a growth would not have shown."""
    return next((note for note in bill.notes if note.startswith("this run could not show")), "")


def as_text(bill: Bill, width: int = WIDTH) -> str:
    """Plain text for a terminal; commands stay whole, so that they can be copied."""
    return _text(sections(bill), width)


def _text(told: Iterable[Section], width: int) -> str:
    """Sections as text, without what names may do to a terminal; those that say nothing are left out."""
    lines: list[str] = []
    for section in told:
        if section.rows or section.lines:
            lines += ["", *_wrapped(f"{section.title}:", "", width)] if section.title else [""]
        indent = "  " if section.title else ""
        lines += _table(section.rows, width)
        for line in section.lines:
            lines += _wrapped(line, indent, width)
    text = "\n".join(lines).strip("\n")
    return "".join(each if each.isprintable() or each == "\n" else "?" for each in text)


def _table(rows: Rows, width: int) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)] if rows else []
    for row in rows:
        first = "".join(f"  {cell.ljust(long)}" for cell, long in zip(row[:-1], widths, strict=True))
        yield from _wrapped(row[-1], f"{first}  ", width)


def _wrapped(text: str, first: str, width: int) -> list[str]:
    """The text in lines; a command stays whole."""
    if "--" in text:
        return [first + text]
    options: dict[str, Any] = {"initial_indent": first, "subsequent_indent": " " * len(first)}
    options |= {"break_long_words": False, "break_on_hyphens": False}
    return textwrap.wrap(text, max(width, len(first) + _NARROWEST), **options)


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
:root {{ color-scheme: light; }}
body {{ margin: 0 auto; max-width: 64rem; padding: 1rem 1.5rem 3rem; color: #1f2328; background: #fff;
 font: 1.0625rem/1.55 system-ui, sans-serif; }}
h1 {{ font-size: 1.5rem; margin: 1rem 0 .25rem; }}
h2 {{ font-size: 1.15rem; margin: 1.75rem 0 .25rem; }}
table {{ border-collapse: collapse; font-size: .9375rem; margin: .5rem 0; }}
td {{ text-align: left; vertical-align: top; padding: .2rem 1.2rem .2rem 0; border-bottom: 1px solid #d1d9e0; }}
p, td {{ overflow-wrap: anywhere; }}
svg {{ max-width: 100%; height: auto; }}
</style>
</head>
<body>
<h1>{title}</h1>
{figure}
{sections}
</body>
</html>
"""


def as_html(bill: Bill, measured: Measured | None = None, name: str = "this loop") -> str:
    """One page that loads nothing from elsewhere; with the times of `measured` drawn, where there are any."""
    figure = ""
    if measured is not None and bill.frames and any((values > 0).any() for values in measured.times_ns.values()):
        figure = f'<figure style="margin: 1rem 0">{as_svg(drawn(measured, bill))}</figure>'
    title = escape(f"Where the time of {name} goes")
    return _PAGE.format(title=title, figure=figure, sections="\n".join(map(_section, sections(bill))))


def _section(section: Section) -> str:
    title = f"<h2>{escape(section.title[:1].upper() + section.title[1:])}</h2>" if section.title else ""
    rows = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in section.rows)
    table = f"<table>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>" if section.rows else ""
    return f"<section>{title}{table}{''.join(f'<p>{escape(line)}</p>' for line in section.lines)}</section>"


def compare(before: Bill, after: Bill, width: int = WIDTH) -> str:
    """Two bills side by side: what changed, and whether each fix did what the first bill said at most.

    >>> from yolotrt_lab import Recording
    >>> from yolotrt_lab.diagnose import bill
    >>> one, two = (bill(Measured.of(Recording.shipped(name))) for name in ("plain-pageable", "plain-pinned"))
    >>> print(compare(one, two).splitlines()[0])
    before: recorded on NVIDIA H200, driver 580.159.04, 2026-11-29
    """
    return _text(_compared(before, after), width)


def _compared(before: Bill, after: Bill) -> Iterator[Section]:
    both = {"before": before, "after": after}
    mean = before.beside_medians or after.beside_medians
    one, two = ({s.stage: s.mean_ms if mean else s.late_ms for s in bill.spent} for bill in (before, after))
    yield Section("", lines=tuple(f"{label}: {each.origin}" for label, each in both.items()))
    why = "mean times, since in one of them much is in frames that stall or repeat" if mean else "late times"
    yield Section(why, tuple(_side_by_side(one, two)))
    yield Section("what another call takes now", lines=tuple(_moved(one, two)))
    moves = tuple(f"{label}: {moves}" for label, each in both.items() for moves in _moves(each))
    yield Section("what grew, stalled or repeats", lines=moves)
    changed = tuple(_changed(before, after))
    yield Section("causes whose verdict changed", changed, () if changed else ("none",))
    kept = tuple(_kept(before.fixes, one, two))
    lengths = tuple(_lengths(before, after))
    yield Section("what the first bill said at most, and what the frame did", lines=(*kept[:1], *lengths, *kept[1:]))


_Times = Mapping[str, float]
"""What each stage takes, in ms."""


def _side_by_side(one: _Times, two: _Times) -> Iterator[tuple[str, ...]]:
    yield "stage", "before", "after", "change"
    for name in dict.fromkeys([*one, *two]):
        change = ms(two[name] - one[name]) if name in one and name in two else "-"
        yield name, *(ms(each[name]) if name in each else "-" for each in (one, two)), change


def _moved(one: _Times, two: _Times) -> Iterator[str]:
    """Time that a call took before and that another one, which may wait for the GPU, takes now, whatever the reason."""
    calls = [stage for stage in (Stage.UPLOAD, *GPU_CALLS) if stage in one and stage in two]
    less = {stage: one[stage] - two[stage] for stage in calls if one[stage] > two[stage]}
    more = {stage: two[stage] - one[stage] for stage in calls if stage in GPU_CALLS and two[stage] > one[stage]}
    moved = min(sum(less.values()), sum(more.values()))
    if moved > at.OF_FRAME * (_work_ms(one) or 0.0):
        loser, winner = max(less, key=less.__getitem__), max(more, key=more.__getitem__)
        changes = f"{loser} takes {ms(less[loser])} less, {winner} {ms(more[winner])} more"
        yield f"{changes}: up to {ms(moved)} may only have moved"


def _changed(before: Bill, after: Bill) -> Iterator[tuple[str, str]]:
    said = {each.cause: each for each in after.causes}
    for each in before.causes:
        now = said[each.cause]
        if each.verdict != now.verdict:
            yield str(each.cause), f"{_plain(each.verdict)}, then {_plain(now.verdict)}: {now.because}"


def _work_ms(times: _Times) -> float | None:
    """What a frame takes without a queue in front of it; None where that was not measured."""
    if "frame" in times:
        return times["frame"]
    known = [times[stage] for stage in Stage if stage is not Stage.WAIT and stage in times]
    return sum(known) if known else times.get("latency")


def _kept(fixes: Iterable[Fix], one: _Times, two: _Times) -> Iterator[str]:
    """What the frame did, and by fix what the part of it did on which the fix acts. Which fix was made is not known."""
    before, after = _work_ms(one), _work_ms(two)
    rest = {QUEUE, UNCOVERED}  # of stages that overlap there is none
    if before is None or after is None or one.keys() - rest != two.keys() - rest:
        yield "the same times were not measured in both"
        return
    least = at.OF_FRAME * before
    yield f"the frame goes from {ms(before)} to {ms(after)}: {_less(before - after, 0.0)}"
    for fix, at_most in ((each.fix, each.at_most_ms) for each in fixes if each.at_most_ms):
        bound = f"{_plain(fix)}: at most {ms(at_most)}"
        if fix == "fewer_frames":  # they shorten the queue, not the frame
            if QUEUE in two:
                yield f"{bound} of latency, of which {ms(one[QUEUE] - two[QUEUE])} came off"
            continue
        part = _ACTS_ON.get(fix, "")
        part, took = (part, one[part] - two[part]) if part in one else ("the frame", before - after)
        known = fix != "gpu_alone"  # what other work took all along is in no bound
        more = "; this fix alone can't be the reason" if known and took > at_most + least else ""
        yield f"{bound}; {part} takes {_less(took, least)}{more}"


def _lengths(before: Bill, after: Bill) -> Iterator[str]:
    shorter, longer = sorted((before.frames, after.frames))
    if (before.grew or after.grew) and longer > at.FAST_START * shorter:
        yield f"the runs have {before.frames:,} and {after.frames:,} frames: in the shorter one less could grow"


_ACTS_ON = {"pinned_input": "upload", "pinned_output": "download", "cuda_graph": "infer"}


def _less(took: float, least: float) -> str:
    return "as long as before" if abs(took) <= least else f"{ms(abs(took))} {'less' if took > 0 else 'more'}"


# The figure of a page: times and telemetry over the frames, with marks where something starts to change.

_MOST_POINTS = 2_000
_LEAST_SPAN = 0.1
_APART = 10  # times the longest call
_FRAME_COLOURS = {"latency": "#000000", "frame": "#777777"}
_TELLING = ("sm_clock_mhz", "gpu_processes", "temperature_c", "host_memory_bytes")


def drawn(measured: Measured, bill: Bill) -> Any:
    """A figure of its own: the measured times above, below them the telemetry that tells causes apart, if any."""
    columns = [name for name in _TELLING if np.isfinite(measured.telemetry.get(name, np.nan)).any()]
    times = _times(measured)
    heights = [*[2.4] * len(times), *[1.0] * len(columns)]
    proven = _plain(" and ".join(bill.proven))
    figures, axes = figure(
        len(heights),
        1,
        height=(sum(heights) + 0.2) * 1.35 / len(heights),
        title=f"Proven: {proven}" if proven else "No cause is proven",
        sharex=True,
        height_ratios=heights,
        squeeze=False,
    )
    for ax, shown in zip(axes[:, 0], times, strict=False):
        _draw_times(ax, shown, measured, bill)
    for ax, name in zip(axes[len(times) :, 0], columns, strict=True):
        telemetry_column(ax, measured, name)
    for ax in axes[:-1, 0]:
        ax.set_xlabel("")
    return figures


def _times(measured: Measured) -> list[dict[str, np.ndarray]]:
    """Every measured time but `wait`. A latency beside which the calls would lie on the axis stands apart from them."""
    shown = {name: each for name, each in measured.times_ns.items() if name != Stage.WAIT and np.any(each > 0)}
    calls = {name: each for name, each in shown.items() if name != "latency"}
    longest = max((float(np.nanmedian(each)) for each in calls.values()), default=np.inf)
    if "latency" not in shown or np.nanmedian(shown["latency"]) < _APART * longest:
        return [shown]
    return [calls, {"latency": shown["latency"]}]


def _draw_times(ax: Axes, times_ns: Mapping[str, np.ndarray], measured: Measured, bill: Bill) -> None:
    """Dotted lines stand where a time starts to change.

    A long series is drawn as the first and the highest of every few frames, so that no spike is lost.
    """
    for name, values_ns in times_ns.items():
        stage = STAGE_COLOURS.get(Stage(name)) if name in set(Stage) else None
        colour = stage or _FRAME_COLOURS.get(name, "#AA4499")
        frames, values_ms = _thinned(np.maximum(values_ns, 1) / 1e6)
        ax.plot(frames, values_ms, color=colour, linewidth=0.9, label=name, **mark_of(len(frames)))
    for frame in dict.fromkeys(each.since for each in (*bill.grew, *bill.fell) if each.since):
        ax.axvline(frame, color="#999999", linewidth=0.9, linestyle=":")
    ylabel = "latency [ms]" if [*times_ns] == ["latency"] else "host time [ms]"
    ax.set(ylim=(0, None), xlabel="frame", ylabel=ylabel)
    legend_above(ax)
    stamp(figure_of(ax), measured.origin)


def telemetry_column(ax: Axes, measured: Measured, name: str) -> list[Any]:
    """One column of telemetry over the frames; gaps where the GPU did not tell."""
    label, unit = TELEMETRY_LABELS.get(name, (name, 1.0))
    lines = ax.plot(measured.telemetry[name] / unit, color="#333333", linewidth=1.2)
    low, high = ax.get_ylim()
    middle = (low + high) / 2
    reach = max(high - middle, _LEAST_SPAN / 2 * abs(middle))  # what stays, looks as if it stayed
    ax.set(xlabel="frame", ylim=(middle - reach, middle + reach))
    ax.set_title(label, loc="left", size=9)
    stamp(figure_of(ax), measured.origin)
    return lines


def _thinned(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Frames and values: all of a short series, the first and the highest of every few frames of a long one."""
    few = -(-len(values) // (_MOST_POINTS // 2))
    if few < 3:
        return np.arange(len(values)), values
    starts = np.arange(0, len(values), few)
    return np.repeat(starts, 2), np.column_stack([values[starts], np.maximum.reduceat(values, starts)]).ravel()
