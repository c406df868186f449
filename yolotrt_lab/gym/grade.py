"""The check of a reader's loop: what is wrong, on which line, and how long a frame takes beside the solution's."""

from __future__ import annotations

import linecache
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sized
from functools import cache
from html import escape
from itertools import pairwise
from math import isclose
from numbers import Real
from pathlib import Path
from textwrap import shorten
from typing import Any, NamedTuple

import numpy as np

from ..device import Device, open_device
from ..errors import LabError, SettingsError, plain
from ..simulate import Preset
from ..tables import Table
from .exercise import Exercise, exercises, table
from .rig import FRAMES
from .trial import STEADY, Line, Stopped, Trial, try_live, try_loop

_AS_FAST = 1.02
"""So much longer than the solution's a frame may be."""

_WIDE = 64  # letters of a line of code in a table


class Hold(NamedTuple):
    """What can hold the host: a row of `holds.md`."""

    why: str
    slow: str
    fix: str


def _holds() -> dict[str, Hold]:
    text = Path(__file__).with_name("holds.md").read_text(encoding="utf-8")
    return {what: Hold(*texts) for what, *texts in table(text)}


HOLDS = _holds()
_ANY_CALL = Hold("", "{what} takes {us} us of each frame, which the solution does without", "call it less often")


class Finding(NamedTuple):
    """Something that is wrong."""

    what: str
    fix: str
    lines: tuple[Line, ...] = ()
    """Where: the line at fault, then what it collides with."""


class Check:
    """What `check` found. It shows itself, as text and in Jupyter; `passed` says whether all is right.

    `findings` are what is wrong, the worst first. `trial` is the simulated run, None for a value:
    `plots.timeline(ax, checked.trial.spans, checked.trial.source)` draws it. `calls` is what held the host.
    """

    def __init__(self, findings: list[Finding], good: str, hint: str, trial: Trial | None = None) -> None:
        self.findings, self.hint, self.trial = findings, hint, trial
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
        places = [f"  {at}: {shown(line)}" for at, line in zip(("here", "and here"), found.lines, strict=False)]
        fix, hint = [f"Fix: {found.fix}."] * bool(found.fix), [f"Hint: {self.hint}"] * bool(self.hint)
        return [f"Not yet: {found.what}.", *places, *fix, *hint, *self.notes]

    def __repr__(self) -> str:
        return "\n".join([*self._said(), *([f"\n{self.calls}"] if self.calls else [])])

    def _repr_html_(self) -> str:
        first, *rest = (re.sub("`(.*?)`", r"<code>\1</code>", escape(line)) for line in self._said())
        text = "".join(f"<br><code>{line.strip()}</code>" if line.startswith("  ") else f"<br>{line}" for line in rest)
        mark = "&#10003;" if self.passed else "&#10007;"
        return f"<p><b>{mark}</b> {first}{text}</p>{self.calls._repr_html_() if self.calls else ''}"


def shown(line: Line) -> str:
    """A line of code, as a reader finds it.

    >>> shown(("nowhere.py", 3))
    'nowhere.py, line 3'
    """
    file, number = line
    shell = sys.modules.get("IPython")
    name = Path(file).name
    if shell is not None and (running := shell.get_ipython()) is not None:
        known = getattr(running.compile, "format_code_name", lambda file: None)(file)
        name = " ".join(known) if known else name
    source = linecache.getline(file, number).strip()
    return f"{name}, line {number}" + (f": {source}" if source else "")


_given: defaultdict[str, set[str]] = defaultdict(set)
"""The hints that were given, of each exercise that is not done."""


def check(loop: Callable[..., Any], device: Device | None = None, *, exercise: str | None = None) -> Check:
    """Grade `loop(frames, done)`: run it on a fresh simulated device, and, where `device` is a GPU, live as well.

    It takes images from `frames` and hands each frame's result to `done`, in order. In it the names of the notebooks'
    raw cells are those of the device that grades, and `new_context(batch)` gives a further execution context with its
    memory. The exercise is that of the function's name (or `exercise`); a loop without one is compared with none. For
    an exercise that asks for a value the function returns it. `device` is by default what `open_device()` gives.
    SettingsError for an `exercise` that there is not, and for a loop that is no plain function.

    Threads may prepare frames and take results; calls to the GPU must come from one of them, which the error says.
    Not seen: what NumPy reads from memory that a copy still writes, a write in flight that leaves the same bytes before
    the next line or call, and device memory that is freed while the network still uses it and that CuPy would hand out
    again.

    >>> def mine(frames, done):
    ...     for frame in frames:
    ...         done(letterbox(frame))
    >>> print(check(mine, open_device("simulated")).findings[0].what)
    done must get the network's output of one frame, 2,822,400 bytes, got 4,915,200
    """
    name = str(exercise or getattr(loop, "__name__", ""))
    found = exercises().get(name)
    if exercise is not None and found is None:
        raise SettingsError(f"the exercise must be one of {', '.join(exercises())}, got {exercise!r}", fix="use one")
    if found is not None and found.kind == "value":
        return _check_value(loop, found)
    device = device or open_device()
    preset = getattr(device, "preset", None) or Preset.load("h200")
    trial = try_loop(loop, found, preset)
    best, start = (_try_known(found, part, preset) for part in ("solution", "start")) if found else (None, None)
    faults = list(_faults(trial))
    findings = faults or _slow(trial, best)
    checked = Check(findings, _times(trial, best, start), _next_hint(found, findings), trial)
    if best is not None and trial.calls and findings:
        checked.notes.append(f"A frame took {trial.frame_us:,.0f} us, that of the solution {best.frame_us:,.0f}.")
    if checked.passed:
        checked.notes += _doubts(trial, best, preset)
    if trial.calls and (found is None or found.tells == "all" or checked.passed):
        checked.calls = _table(trial)
    if device.kind == "cuda" and not faults:
        _add_live(checked, loop, found, device)
    return checked


_known: list[tuple[tuple[str, str], Preset, Trial]] = []


def _try_known(exercise: Exercise, part: str, preset: Preset) -> Trial:
    """The trial of its solution or start, which is run once."""
    found = next((trial for key, of, trial in _known if key == (exercise.name, part) and of == preset), None)
    if found is None:
        found = try_loop(exercise.function(getattr(exercise, part)), exercise, preset)
        _known.append(((exercise.name, part), preset, found))
    return found


def _next_hint(exercise: Exercise | None, findings: list[Finding]) -> str:
    """The next one for the first finding; all of them again once the exercise is done."""
    if exercise is None or not findings:
        _given.pop(exercise.name if exercise else "", None)
        return ""
    if not (hints := exercise.hints_for(findings[0].what)):
        return ""
    hint = next((each for each in hints if each not in _given[exercise.name]), hints[-1])
    _given[exercise.name].add(hint)
    return f"{hint} ({hints.index(hint) + 1} of {len(hints)})"


def _faults(trial: Trial) -> Iterator[Finding]:
    """What is wrong but for the time, the worst first."""
    where = () if trial.line is None else (trial.line,)
    if isinstance(trial.error, Stopped):
        yield Finding(str(trial.error), "let the loop end with its frames", where)
    elif trial.error is not None and not trial.in_flight:
        yield Finding(*_told(trial.error), getattr(trial.error, "lines", ()) or where)
    else:
        yield from _results(trial)
        yield from _memory(trial)
        if trial.captures >= FRAMES - STEADY:
            yield _held(trial, "capture")


def _results(trial: Trial) -> Iterator[Finding]:
    numbers = trial.numbers
    wrong = next((place for place, number in enumerate(numbers[:FRAMES]) if number != place), None)
    if wrong is not None and numbers[wrong] is None:
        yield Finding(
            f"the result of frame {wrong} must be the network's output, got bytes that no download had written yet, or "
            "parts of two frames",
            "wait for the event behind the download before you read",
        )
    elif wrong is not None:
        yield Finding(
            f"the result of frame {wrong} must be its own, got that of frame {numbers[wrong]}",
            "hand over each slot's result before the slot is used again, in the order of the frames",
        )
    elif len(numbers) != FRAMES:
        yield Finding(
            "the loop ends while frames are in flight: " * trial.in_flight
            + f"done must be called once for each of {FRAMES} frames, got {len(numbers)} calls",
            "call done(result) for every frame, also for those that are in flight when the frames end",
        )


def _memory(trial: Trial) -> Iterator[Finding]:
    made = tuple(line for _, kind, line in trial.calls if kind == "allocation" and line)
    words = ("bytes of host memory", "bytes of device memory", "pieces of registered memory")
    for what, *held in zip(words, *trial.held[STEADY:], strict=True):
        if len(held) > 1 and all(later > sooner for sooner, later in pairwise(held)):
            more = (held[-1] - held[0]) // (len(held) - 1)
            fix = "create it once, before the loop, or give it back"
            yield Finding(f"memory leaks: {more:,} more {what} with each frame", fix, made[:1])


def _slow(trial: Trial, best: Trial | None) -> list[Finding]:
    """Where the time goes that the solution does not take."""
    if best is None or not trial.calls or trial.frame_us <= _AS_FAST * best.frame_us:
        return []
    more: dict[str, float] = defaultdict(float)
    for run, sign in ((trial, 1), (best, -1)):
        for us, each, _ in run.calls:
            more[each] += sign * us
    what = max({each for _, each, _ in trial.calls}, key=lambda each: more[each])
    unused = Finding("pinned memory is there, and no copy uses it", "let the copies use it, or leave it out")
    if best.runs < FRAMES < 2 * trial.runs and what in ("enqueue", "graph launch", "wait"):
        return [_no_batch(trial, best), *([unused] if trial.unused else [])]
    found = _held(trial, what)
    if not trial.unused:
        return [found]
    if what in ("pageable upload", "pageable download", "copy", "naive letterbox"):  # for that very reason
        return [found._replace(what=f"{unused.what}: {found.what}")]
    return [found, unused]


def _held(trial: Trial, what: str) -> Finding:
    """That what holds the host, where it does so for longest."""
    us, line = next((us, line) for us, each, line in trial.calls if each == what)
    hold = HOLDS.get(what, _ANY_CALL)
    return Finding(hold.slow.format(what=what, us=f"{us:,.0f}"), hold.fix, (line,) if line else ())


def _no_batch(trial: Trial, best: Trial) -> Finding:
    """The solution runs the network for several frames at once."""
    size = FRAMES // best.runs
    line = next((line for _, each, line in trial.calls if each in ("enqueue", "graph launch")), None)
    return Finding(
        f"the network runs {trial.runs} times for {FRAMES} frames, in the solution {best.runs} times",
        f"run {size} frames in a batch, in the context of new_context(batch={size})",
        (line,) if line else (),
    )


def _doubts(trial: Trial, best: Trial | None, preset: Preset) -> Iterator[str]:
    """What works here and costs time, or fails, elsewhere."""
    for line, nbytes in trial.reused if best is None or not best.reused else ():
        took_us = preset.pinned_allocation.ns(nbytes) / 1e3 if preset.pinned_allocation else 0.0
        yield (
            f"Memory is allocated in each frame: {shown(line)}. CuPy's pool gives the same again; a program without "
            f"one calls cudaHostAlloc and cudaFreeHost, {took_us:,.0f} us of each frame."
        )
    for line in trial.captured_cold:
        yield (
            f"A context's first run is in a capture: {shown(line)}. TensorRT-RTX 1.4 takes it, TensorRT 8.5 did not "
            "(NVIDIA/TensorRT#2603): it may allocate then. Run it once before."
        )


def _times(trial: Trial, best: Trial | None, start: Trial | None) -> str:
    if not trial.calls:
        return ""
    text = f"A frame takes {trial.frame_us:,.0f} us"
    text += f", that of the solution {best.frame_us:,.0f}" if best else ""
    text += f", of the start {start.frame_us:,.0f}" if start and start.calls else ""
    return f"{text}; the busiest part of the GPU needs {trial.limit_us:,.0f}. Results, hazards and memory are in order."


def _table(trial: Trial) -> Table:
    longest = [each for each in trial.calls if each[0] > 0.01 * trial.frame_us]
    where = [shorten(shown(line), _WIDE, placeholder="...") if line else "" for _, _, line in longest]
    why = [HOLDS[what].why if what in HOLDS else "" for _, what, _ in longest]
    rows = [[at, f"{us:,.0f}", what, so] for at, (us, what, _), so in zip(where, longest, why, strict=True)]
    return Table(["what holds the host", "us a frame", "what", "why"], rows, trial.source)


def _told(error: BaseException) -> tuple[str, str]:
    if isinstance(error, LabError):
        return error.message, error.fix
    return plain(f"{type(error).__name__}: {error}"), ""


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
        value = _plain(answer())
    except Exception as error:
        findings = [Finding(*_told(error))]
    else:
        findings = [] if _same(value, exercise, exercise.solution) else [_wrong_value(value, exercise)]
    return Check(findings, "", _next_hint(exercise, findings))


def _wrong_value(value: Any, exercise: Exercise) -> Finding:
    fix = f"return {exercise.asks}"
    if isinstance(value, Sized) and not isinstance(value, str):
        return Finding(f"the answer must be one value, got {type(value).__name__} of {len(value):,}", fix)
    told_of = (each.message for each in exercise.wrong if _same(value, exercise, each.source))
    return Finding(next(told_of, f"the answer is not {value!r}"), fix)


def _plain(value: Any) -> Any:
    """Python's own in place of NumPy's number, or of an array without an axis."""
    return value.item() if isinstance(value, np.generic | np.ndarray) and value.ndim == 0 else value


@cache
def _value(exercise: str, source: str) -> Any:
    """What a function of that source returns, which is run once."""
    return exercises()[exercise].function(source)()


def _same(value: Any, exercise: Exercise, source: str) -> bool:
    """Whether a function of that source returns the value."""
    other = _value(exercise.name, source)
    if isinstance(value, Real) and isinstance(other, Real):
        return isclose(value, other, rel_tol=0.05)
    return isinstance(value, type(other)) and bool(value == other)
