"""A bill as text for a terminal and as a page: one list of sections, so that the two never say different things."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape

from .accounts import Bill, Grew
from .explanations import ALL_ALONG, EXPLANATIONS
from .look import ms, number
from .measured import Measured

_WIDTH = 110
_KINDS = {
    "frames": "",
    "rates": "frames a second, billed as the time of a frame",
    "summary": "a summary: totals or averages of a run, and no series of frames",
    "events": "single calls or events, and no series of frames",
    "layers": "the layers of a network, and no series of frames",
    "telemetry": "telemetry without frames",
}
_WORDS = {str(each.cause): each.words for each in EXPLANATIONS}
_FIXES = {str(each.cause): each.fix for each in EXPLANATIONS}
_VERDICTS = {"proven": "proven", "possible": "possible", "excluded": "excluded", "not_measured": "not measured"}


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, and lines or the rows of a table under it."""

    title: str
    rows: tuple[tuple[str, ...], ...] = ()
    lines: tuple[str, ...] = field(default=())


def sections(bill: Bill) -> Iterator[Section]:
    """Everything that a bill says, in its order."""
    if said := _KINDS[bill.kind]:
        yield Section("", lines=(f"{bill.format or 'this'} is {said}",))
    if bill.spent:
        head = ("stage", "early", "late") if bill.frames else ("part", "time")
        rows = [(s.stage, ms(s.early_ms), ms(s.late_ms))[: len(head)] for s in bill.spent]
        yield Section("where a frame's time goes" if bill.frames else "where the time goes", (head, *rows))
    if bill.frames:
        yield Section("what grew, stalled or repeats", lines=tuple(_moves(bill)))
        yield from _causes(bill)
    rows = [
        (f.fix.replace("_", " "), "not measured" if f.at_most_ms is None else ms(f.at_most_ms), _why(f.because))
        for f in bill.fixes
    ]
    if bill.frames or any(each.at_most_ms is not None for each in bill.fixes):
        yield Section("what each fix can take off a frame, at most", tuple(rows))
    if bill.next:
        yield Section("measure next", lines=bill.next)
    if bill.unread:
        yield Section("not read", lines=(", ".join(bill.unread),))
    yield Section("", lines=(*bill.notes, *filter(None, [bill.origin])))


def _why(because: str) -> str:
    return because.removeprefix("not measured: ")


def _causes(bill: Bill) -> Iterator[Section]:
    """The causes by verdict; last of what is possible that which nothing speaks for."""
    for verdict in ("proven", "possible", "excluded", "not_measured"):
        causes = [each for each in bill.causes if each.verdict == verdict]
        if verdict in ("proven", "possible"):
            told = [each for each in causes if not each.because.endswith(ALL_ALONG)]
            rows = tuple(
                (str(c.cause), f"{_WORDS[str(c.cause)]}: {c.because}. Fix: {_FIXES[str(c.cause)]}") for c in told
            )
            causes = [each for each in causes if each not in told]
            if rows:
                yield Section(_VERDICTS[verdict], rows)
        if causes:
            title = "possible, and nothing speaks for it" if verdict == "possible" else _VERDICTS[verdict]
            yield Section(title, tuple((str(each.cause), each.because) for each in causes))


def _moves(bill: Bill) -> Iterator[str]:
    for word, changes in (("grew", bill.grew), ("fell", bill.fell)):
        for each in changes:
            yield f"{each.stage} {word} {_levels(each)}"
    for stall in bill.stalls:
        frames = f"{stall.frames:,} frames" if stall.frames != 1 else "one frame"
        yield (
            f"{stall.stage} stalled in {frames}: {ms(stall.median_ms)} in the median, {ms(stall.longest_ms)} at most, "
            f"{stall.share:.1%} of all time"
        )
    if bill.period is not None:
        yield f"it repeats every {bill.period} frames"
    if bill.steady:
        yield "steady: within what this run could show"
    elif bill.steady is None:
        yield "whether it is steady can't be told from this"


def _levels(each: Grew) -> str:
    return f"from {number(each.from_ms)} to {ms(each.to_ms)} ({each.shape}, since frame {each.since:,})"


def as_text(bill: Bill) -> str:
    """Plain text for a terminal; commands stay whole, so that they can be copied."""
    lines: list[str] = []
    for section in sections(bill):
        lines += ["", section.title + ":"] if section.title else [""]
        indent = "  " if section.title else ""
        lines += _table(section.rows)
        for line in section.lines:
            lines += _wrapped(line, indent)
    text = "\n".join(lines).strip("\n")
    return "".join(each if each.isprintable() or each == "\n" else "?" for each in text)  # names may hold escapes


def _table(rows: tuple[tuple[str, ...], ...]) -> Iterator[str]:
    if not rows:
        return
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    for row in rows:
        first = "  ".join(cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=True))
        yield from textwrap.wrap(
            row[-1],
            _WIDTH,
            initial_indent=f"  {first}  ",
            subsequent_indent=" " * (4 + len(first)),
            break_long_words=False,
            break_on_hyphens=False,
        )


def _wrapped(text: str, indent: str) -> list[str]:
    if "--" in text or " # " in text:
        return [indent + text]
    return textwrap.wrap(
        text, _WIDTH, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


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
        from ..plots import as_svg
        from .diagram import drawn

        figure = f'<figure style="margin: 1rem 0">{as_svg(drawn(measured, bill))}</figure>'
    title = escape(f"Where the time of {name} goes")
    return _PAGE.format(title=title, figure=figure, sections="\n".join(map(_section, sections(bill))))


def _section(section: Section) -> str:
    title = f"<h2>{escape(section.title[:1].upper() + section.title[1:])}</h2>" if section.title else ""
    rows = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in section.rows)
    table = f"<table>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>" if section.rows else ""
    return f"<section>{title}{table}{''.join(f'<p>{escape(line)}</p>' for line in section.lines)}</section>"


def as_comparison(before: Bill, after: Bill) -> str:
    """Two bills side by side: the late time of each stage, what grew, and what each fix did against its bound."""
    one, two = ({s.stage: s.late_ms for s in each.spent} for each in (before, after))
    rows: list[tuple[str, ...]] = [("stage", "before", "after", "change")]
    for name in dict.fromkeys([*one, *two]):
        both = name in one and name in two
        cells = [ms(each[name]) if name in each else "-" for each in (one, two)]
        rows.append((name, *cells, ms(two[name] - one[name]) if both else "-"))
    lines = [f"before: {before.origin}", f"after: {after.origin}", "", "late times:", *_table(tuple(rows))]
    moved = [f"{label}: {line}" for label, each in (("before", before), ("after", after)) for line in _moves(each)]
    lines += ["", "what grew, stalled or repeats:", *(part for line in moved for part in _wrapped(line, "  "))]
    lines += [
        "",
        "causes whose verdict changed:",
        *(_table(tuple(_changed(before, after))) if any(_changed(before, after)) else ["  none"]),
    ]
    lines += [
        "",
        "what the first bill said at most, and what the frame did:",
        *(f"  {line}" for line in _kept(before, after)),
    ]
    return "\n".join(lines)


def _changed(before: Bill, after: Bill) -> Iterator[tuple[str, str]]:
    said = {each.cause: each for each in after.causes}
    for each in before.causes:
        if each.verdict != said[each.cause].verdict:
            words = (_VERDICTS[each.verdict], _VERDICTS[said[each.cause].verdict])
            yield str(each.cause), f"{words[0]}, then {words[1]}: {said[each.cause].because}"


def work_ms(bill: Bill) -> float | None:
    """What a frame takes late in the run, without a queue in front of it; None where that was not measured."""
    spent = {each.stage: each.late_ms for each in bill.spent}
    if "frame" in spent and "beyond the stages" not in spent:
        return spent["frame"]
    if "frame" in spent and "latency" in spent:
        return spent["frame"]
    known = [s.late_ms for s in bill.spent if s.stage in _STAGES]
    return sum(known) if known else spent.get("latency", spent.get("frame"))


_STAGES = ("preprocess", "upload", "infer", "download", "synchronize", "postprocess")


def _kept(before: Bill, after: Bill) -> Iterator[str]:
    one, two = work_ms(before), work_ms(after)
    if one is None or two is None:
        yield "the frame was not measured in both"
        return
    took = one - two
    yield f"the frame goes from {ms(one)} to {ms(two)}: {ms(abs(took))} {'less' if took >= 0 else 'more'}"
    for each in before.fixes:
        if each.at_most_ms:
            within = "within it" if took <= each.at_most_ms else "more than it: something else changed too"
            yield f"{each.fix.replace('_', ' ')}: at most {ms(each.at_most_ms)}; the change is {within}"
