"""The check of a reader's loop: what is wrong, on which line, and how long a frame takes beside the solution's."""

from __future__ import annotations

import linecache
import sys
from collections import Counter
from collections.abc import Callable
from html import escape
from itertools import pairwise
from math import isclose
from typing import Any, NamedTuple

from ..device import Device, open_device
from ..errors import HazardError, SettingsError
from ..simulate import Preset
from ..tables import Table
from .exercise import Exercise, exercises
from .trial import FRAMES, STEADY, Line, Stopped, Trial, told, try_live, try_loop

_AS_FAST = 1.02
"""So much longer than the solution's a frame may be."""

_SLOW = {
    "pageable upload": "the upload call holds the host for {us} us: from pageable memory the driver makes the copy, "
    "after all that is in front of it",
    "pageable download": "the download call holds the host for {us} us: into pageable memory it waits for the GPU, and "
    "then for the copy. The wait has moved here",
    "wait": "the host waits {us} us here, and does nothing meanwhile",
    "enqueue": "the network is launched kernel by kernel, {us} us of each frame",
    "allocation": "memory is allocated or registered in each frame, {us} us",
    "naive_letterbox": "letterbox(frame) makes a new array in each frame, {us} us; letterbox(frame, out=array) fills "
    "one that is there",
    "letterbox": "the letterbox takes {us} us of each frame, and nothing else runs meanwhile",
    "copy": "the host copies into pinned memory, {us} us: that costs what pinning saves",
}
_CURES = {
    "pageable upload": "upload from pinned memory, created once: cupyx.empty_pinned(shape, dtype)",
    "pageable download": "download into pinned memory, created once",
    "wait": "wait for the event of what you read, no earlier and for no more than that",
    "enqueue": "capture it into a CUDA graph once and launch that, or run several frames in a batch",
    "allocation": "allocate once, before the loop",
    "naive_letterbox": "letterbox(frame, out=...) into the memory that is uploaded",
    "letterbox": "let the GPU work on the frame before meanwhile",
    "copy": "write it there in the first place: letterbox(frame, out=...)",
}
_WHY = {
    "pageable upload": "pageable: the driver makes the copy, and the call lasts as long",
    "pageable download": "pageable: the call waits for the GPU and for the copy",
    "pinned upload": "pinned: it only submits",
    "pinned download": "pinned: it only submits",
    "wait": "what is left of the GPU's work",
    "enqueue": "launches kernel by kernel",
    "graph launch": "one launch for all of it",
    "allocation": "the driver makes memory that the GPU can use",
    "naive_letterbox": "the host's own work, into a new array",
    "letterbox": "the host's own work, in place",
    "copy": "the host's own copy",
}


class Finding(NamedTuple):
    """Something that is wrong."""

    what: str
    fix: str
    lines: tuple[Line, ...] = ()
    """Where: the line at fault, then what it collides with."""


class Check:
    """What `check` found. It shows itself, as text and in Jupyter; `passed` says whether all is right.

    `trial` is the simulated run: `plots.timeline(ax, checked.trial.spans, checked.trial.source)` draws it.
    """

    def __init__(self, title: str, findings: list[Finding], good: str, hint: str, trial: Trial | None) -> None:
        self.title, self.findings, self.hint, self.trial = title, findings, hint, trial
        self._good = good
        self.notes: list[str] = []
        self.calls: Table | None = None

    @property
    def passed(self) -> bool:
        """True where nothing is wrong."""
        return not self.findings

    def _said(self) -> list[str]:
        if self.passed:
            return [f"Done. {self._good}".rstrip(), *self.notes]
        found = self.findings[0]
        lines = [f"Not yet: {found.what}."]
        for place, line in zip(("here", "and here"), found.lines, strict=False):
            lines.append(f"  {place}: {shown(line)}")
        lines += [f"Fix: {found.fix}."] * bool(found.fix)
        lines += [f"Hint: {self.hint}"] * bool(self.hint)
        return [*lines, *self.notes]

    def __str__(self) -> str:
        return "\n".join([*self._said(), *([f"\n{self.calls}"] if self.calls else [])])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        first, *rest = (escape(line) for line in self._said())
        mark = "&#10003;" if self.passed else "&#10007;"
        text = "".join(f"<br><code>{line.strip()}</code>" if line.startswith("  ") else f"<br>{line}" for line in rest)
        return f"<p><b>{mark}</b> {first}{text}</p>{self.calls._repr_html_() if self.calls else ''}"


def shown(line: Line) -> str:
    """A line of code, as a reader finds it.

    >>> shown(("nowhere.py", 3))
    'nowhere.py, line 3'
    """
    file, number = line
    shell = sys.modules.get("IPython")
    name = file.rpartition("/")[2]
    if shell is not None and (running := shell.get_ipython()) is not None:
        known = getattr(running.compile, "format_code_name", lambda file: None)(file)
        name = " ".join(known) if known else name
    source = linecache.getline(file, number).strip()
    return f"{name}, line {number}" + (f": {source}" if source else "")


_tries: Counter[str] = Counter()


def check(loop: Callable[..., Any], device: Device | None = None, *, exercise: str | None = None) -> Check:
    """Grade `loop(frames, done)`: run it on a fresh simulated device, and, where `device` is a GPU, live as well.

    It takes images from `frames` and hands each frame's result to `done`, in order. In it the names of the notebooks'
    raw cells are those of the device that grades, and `new_context(batch)` gives a further execution context with its
    memory. The exercise is that of the function's name (or `exercise`); a loop without one is compared with none. For
    an exercise that asks for a value the function returns it. `device` is by default what `open_device()` gives.
    SettingsError for an `exercise` that there is not, and for a loop that is no plain function.

    >>> def mine(frames, done):
    ...     for frame in frames:
    ...         done(letterbox(frame))
    >>> print(check(mine, open_device("simulated")).findings[0].what)
    done must get the network's output of one frame, 2,822,400 bytes, got 4,915,200
    """
    name = exercise or loop.__name__
    found = exercises().get(name)
    if exercise is not None and found is None:
        raise SettingsError(f"the exercise must be one of {', '.join(exercises())}, got {exercise!r}", fix="use one")
    if found is not None and found.kind == "value":
        return _check_value(loop, found)
    device = device or open_device()
    preset = getattr(device, "preset", None) or Preset.load("h200")
    trial = try_loop(loop, found, preset)
    best = start = None
    if found is not None:
        best, start = (_try_known(found, source, preset) for source in (found.solution, found.start))
    findings = list(_faults(trial)) or list(_slow(trial, best))
    good = _times(trial, best, start)
    checked = Check(found.title if found else name, findings, good, _next_hint(found, findings), trial)
    if best is not None and trial.error is None and trial.calls and findings:
        checked.notes.append(f"A frame took {trial.frame_us:,.0f} us, that of the solution {best.frame_us:,.0f}.")
    if trial.calls and (found is None or found.tells == "all" or checked.passed):
        checked.calls = _table(trial)
    if device.kind == "cuda" and trial.error is None and not list(_faults(trial)):
        _add_live(checked, loop, found, device)
    return checked


_known: dict[tuple[str, str, int], Trial] = {}


def _try_known(exercise: Exercise, source: str, preset: Preset) -> Trial:
    key = preset.name, source, id(preset) if preset.name != "h200" else 0
    if key not in _known:
        _known[key] = try_loop(exercise.function(source), exercise, preset)
    return _known[key]


def _next_hint(exercise: Exercise | None, findings: list[Finding]) -> str:
    """The next one at each try; from the first again once the exercise is done."""
    if exercise is None or not findings:
        _tries.pop(exercise.name if exercise else "", None)
        return ""
    tried = _tries[exercise.name]
    _tries[exercise.name] += 1
    number = min(tried, len(exercise.hints) - 1)
    return f"{exercise.hints[number]} ({number + 1} of {len(exercise.hints)})"


def _faults(trial: Trial) -> Any:
    """What is wrong but for the time, the worst first."""
    where = () if trial.line is None else (trial.line,)
    if isinstance(trial.error, Stopped):
        yield Finding(str(trial.error), "let the loop end with its frames", where)
    elif isinstance(trial.error, HazardError):
        yield Finding(*told(trial.error), trial.error.lines or where)
    elif trial.error is not None:
        yield Finding(*told(trial.error), where)
    else:
        yield from _results(trial)
        yield from _memory(trial)


def _results(trial: Trial) -> Any:
    for place, number in enumerate(trial.numbers[: trial.frames]):
        if number is None:
            got = "bytes that no download had written yet, or parts of two frames"
            yield Finding(
                f"the result of frame {place} must be the network's output, got {got}",
                "wait for the event behind the download before you read",
            )
            return
        if number != place:
            yield Finding(
                f"the result of frame {place} must be its own, got that of frame {number}",
                "hand over each slot's result before the slot is used again, in the order of the frames",
            )
            return
    if len(trial.numbers) != trial.frames:
        yield Finding(
            f"done must be called once for each of {trial.frames} frames, got {len(trial.numbers)} calls",
            "call done(result) for every frame, also for those that are in flight when the frames end",
        )


def _memory(trial: Trial) -> Any:
    words = ("bytes of host memory", "bytes of device memory", "pieces of registered memory")
    made = [(line, kind) for _, kind, line in trial.calls if kind == "allocation" and line]
    for place, what in enumerate(words):
        grown = trial.held[-1][place] - trial.held[STEADY][place]
        held = [each[place] for each in trial.held[STEADY:]]
        if grown and all(later > sooner for sooner, later in pairwise(held)):
            yield Finding(
                f"memory leaks: {grown // (FRAMES - STEADY):,} more {what} with each frame",
                "create it once, before the loop, or give it back",
                tuple(line for line, _ in made[:1]),
            )


def _slow(trial: Trial, best: Trial | None) -> Any:
    """Where the time goes that the solution does not take."""
    if best is None or trial.frame_us <= _AS_FAST * best.frame_us:
        return
    theirs: Counter[str] = Counter()
    for us, kind, _ in best.calls:
        theirs[kind] += us  # type: ignore[assignment]
    mine: Counter[str] = Counter()
    for us, kind, _ in trial.calls:
        mine[kind] += us  # type: ignore[assignment]
    kind = max(mine, key=lambda kind: mine[kind] - theirs[kind])
    us, line = next((us, line) for us, each, line in trial.calls if each == kind)
    text = _SLOW.get(kind, "{us} us go here").format(us=f"{us:,.0f}")
    if trial.unused:
        text = f"pinned memory is there, and no copy uses it: {text}"
    yield Finding(text, _CURES.get(kind, "look what this line does in each frame"), _only(line))


def _only(line: Line | None) -> tuple[Line, ...]:
    return () if line is None else (line,)


def _times(trial: Trial, best: Trial | None, start: Trial | None) -> str:
    if not trial.calls:
        return ""
    text = f"A frame takes {trial.frame_us:,.0f} us"
    if best is not None:
        text += f", that of the solution {best.frame_us:,.0f}"
    if start is not None and start.error is None and start.calls:
        text += f", of the start {start.frame_us:,.0f}"
    return f"{text}; the busiest part of the GPU needs {trial.limit_us:,.0f}. Results, hazards and memory are in order."


def _table(trial: Trial) -> Table:
    rows = [
        [_short(shown(line)) if line else "", f"{us:,.0f}", kind.replace("_", " "), _WHY.get(kind, "")]
        for us, kind, line in trial.calls
        if us > 0.01 * trial.frame_us
    ]
    return Table(["what holds the host", "us a frame", "what", "why"], rows, trial.source)


def _short(text: str, most: int = 64) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _add_live(checked: Check, loop: Callable[..., Any], exercise: Exercise | None, device: Device) -> None:
    loops = {"yours": loop} | ({"solution": exercise.function(exercise.solution)} if exercise else {})
    took = try_live(loops, exercise, device)
    us, wrong = took["yours"]
    text = f"Live on {device.source.gpu}: {us:,.0f} us a frame"
    text += f", the solution {took['solution'][0]:,.0f}" if exercise else ""
    checked.notes.append(f"{text}; {'all results are right' if not wrong else f'{wrong} of 16 results are wrong'}.")
    if wrong:
        checked.findings.append(Finding("on the GPU results belong to other frames", "look for a race"))


def _check_value(answer: Callable[..., Any], exercise: Exercise) -> Check:
    """An answer that is a value: that of the solution, or that of a typical wrong answer."""
    try:
        value = answer()
    except Exception as error:
        findings = [Finding(*told(error))]
    else:
        findings = []
        if not _same(value, exercise.function(exercise.solution)()):
            told_of = (each.message for each in exercise.wrong if _same(value, exercise.function(each.source)()))
            findings = [Finding(next(told_of, f"the answer is not {value!r}"), "look again where the question points")]
    return Check(exercise.title, findings, "", _next_hint(exercise, findings), None)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, int | float) and isinstance(other, int | float):
        return isclose(one, other, rel_tol=0.05)
    return bool(one == other)
