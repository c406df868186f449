"""A diagnosis for a terminal: the verdict, why, what it explains, what its cure can buy, and what to run next."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping

from ..types import Cause, Stage
from .findings import SURE, UNDETERMINED, Diagnosis, Evidence, Finding, number

_WIDTH = 100

IN_WORDS: Mapping[Cause, str] = {
    Cause.PAGEABLE_OVERLOAD: "frames come faster than they are served, and pageable uploads are why",
    Cause.SHARED_GPU: "other processes use this GPU",
    Cause.SHARED_STREAM: "synchronize waits for frames that another thread has submitted",
    Cause.LAUNCH_QUEUE: "the queue of launches is full, and every launch waits",
    Cause.MOVED_WAIT: "the download call waits in synchronize's place",
    Cause.CLOCK_DROP: "the GPU runs at a lower clock",
    Cause.HEAT: "the GPU is too hot and lowers its clock",
    Cause.ALLOCATION: "memory is allocated in the loop",
    Cause.LEAK: "the process keeps more memory with every frame",
    Cause.PREPROCESS: "the host's own work on a frame takes longer",
    Cause.SHAPE_CHANGE: "the input's shape changes",
    Cause.WARM_UP: "the first frames are slow, and only these",
    Cause.NONE: "nothing is wrong with the loop",
}
"""Each cause for a reader who does not know its name."""

_TOO_FEW = "too few frames"
_NO_STAGE = "no stage was measured"
_NOTHING_KNOWN = "nothing that the lab knows"
_TRACE = (
    "take a trace, `yolotrt-lab trace capture --out mine -- python loop.py`, and read it with "
    "`yolotrt-lab diagnose mine.sqlite`"
)
_NEXT = {
    _TOO_FEW: "the same loop for some hundred frames",
    _NO_STAGE: "print a time for each call of a frame (cudaMemcpyAsync, enqueueV3, cudaStreamSynchronize and your own "
    f"work before and after them), so that it shows which of them grows; or {_TRACE}",
    _NOTHING_KNOWN: "the same loop for ten times as many frames, to see whether it goes on; and, if this is none yet, "
    f"{_TRACE}",
}
_MEASURED = {"latency", "frame", *Stage}
_LEAST_SHARE = 0.03


def as_text(diagnosis: Diagnosis) -> str:
    """Some 20 lines of plain text."""
    lines = [f"verdict: {verdict_line(diagnosis)}"]
    shown: tuple[Evidence, ...] = ()
    for finding in diagnosis.findings:
        lines += ["", *_finding_lines(finding, diagnosis, finding.evidence != shown)]
        shown = finding.evidence
    if not diagnosis.findings:
        lines += ["", *(line for text in open_lines(diagnosis) for line in _wrapped(text))]
    lines += ["", *_wrapped(pinning_line(diagnosis))]
    for missing in diagnosis.missing:
        lines += _wrapped(f"not measured: {missing}")
    if diagnosis.origin:
        lines.append(diagnosis.origin)
    return "\n".join(lines)


def verdict_line(diagnosis: Diagnosis) -> str:
    """The verdict in one line, with the causes beside it, or the candidates that are left."""
    if diagnosis.verdict is not None:
        others = [str(cause) for cause in diagnosis.causes if cause is not diagnosis.verdict]
        return " and ".join([str(diagnosis.verdict), *others])
    candidates = " or ".join("nothing wrong" if cause is Cause.NONE else str(cause) for cause in diagnosis.candidates)
    return f"{UNDETERMINED}: {candidates or _why_open(diagnosis)}"


def open_lines(diagnosis: Diagnosis) -> list[str]:
    """What grows where no cause is named, and what to run to find one."""
    grown = [
        (name, growth)
        for name, growth in diagnosis.growth.items()
        if name in _MEASURED and growth.shape.grows and growth.rise > _LEAST_SHARE * diagnosis.slow_ms
    ]
    lines = [f"{name} grows by {number(growth.rise)} ms ({growth.shape})" for name, growth in grown]
    return [*lines, f"run next: {_NEXT[_why_open(diagnosis)]}"]


def _why_open(diagnosis: Diagnosis) -> str:
    if not diagnosis.growth:
        return _TOO_FEW
    return _NOTHING_KNOWN if set(Stage) & diagnosis.growth.keys() else _NO_STAGE


def buys_line(finding: Finding, diagnosis: Diagnosis) -> str:
    """What the finding explains and what its cure can buy at most."""
    if not finding.explains_ms and not finding.cure_limit_ms:
        return "no growth, and nothing to gain"
    limit, slow = number(finding.cure_limit_ms), number(diagnosis.slow_ms)
    beyond = finding.cure_limit_ms > diagnosis.slow_ms
    if not finding.explains_ms:
        if beyond:  # of a few frames
            return f"no growth; its cure can take at most {limit} ms off a frame that it hits"
        return f"a constant cost; its cure can take at most {limit} of your {slow} ms"
    explains = f"explains {number(finding.explains_ms)} ms of the change"
    if beyond:  # what a frame waits before it is taken up is no part of what it takes
        return f"{explains}; its cure can take at most {limit} ms off the latency"
    return f"{explains}; its cure can take at most {limit} of your {slow} ms"


def pinning_line(diagnosis: Diagnosis) -> str:
    """What the usual advice can buy here."""
    if diagnosis.pinning_limit_ms is None:
        return (
            f"what pinned memory can take off your {number(diagnosis.slow_ms)} ms is not known: the upload call was "
            "not measured"
        )
    at_most = f"pinned memory can take at most {number(diagnosis.pinning_limit_ms)}"
    if Cause.PAGEABLE_OVERLOAD in diagnosis.causes:  # every frame waits for all the frames before it
        return f"{at_most} ms off the work on each frame, and with it the wait that built up"
    return f"{at_most} of your {number(diagnosis.slow_ms)} ms off a frame"


def _finding_lines(finding: Finding, diagnosis: Diagnosis, with_evidence: bool) -> Iterator[str]:
    """`with_evidence` is False for a candidate that rests on the same numbers as the one before it."""
    kind = "found" if finding.confidence >= SURE else "candidate"
    named = f"{kind}: {finding.cause} (confidence {finding.confidence:.2f}): {IN_WORDS[finding.cause]}"
    yield from textwrap.wrap(named, _WIDTH, break_on_hyphens=False, subsequent_indent="  ")
    if with_evidence:
        for evidence in finding.evidence:
            yield from _wrapped(str(evidence), "  - ")
        yield from _wrapped(buys_line(finding, diagnosis), "  ")
    yield from _wrapped(f"cure: {finding.cure}", "  ")
    yield from _wrapped(f"run next: {finding.next_experiment}", "  ")


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        break_on_hyphens=False,
        break_long_words=False,  # a command must stay whole to be copied
        initial_indent=indent,
        subsequent_indent=" " * len(indent),
    )
