"""One run of a reader's loop: watched line by line on the simulated device, or timed on a GPU."""

from __future__ import annotations

import sys
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from traceback import walk_tb
from types import FrameType, FunctionType
from typing import Any

import numpy as np

from ..device import Device
from ..errors import HazardError, SettingsError
from ..frames import read_images
from ..simulate import Preset
from ..simulate.hazards import WRITE
from ..types import Source, Span
from .exercise import Exercise, exercises
from .rig import FRAMES, LiveRig, SimulatedRig

Line = tuple[str, int]

STEADY = 4
"""From which frame on a simulated run counts."""

_LIVE_FRAMES = 120
_MOST_LINES, _MOST_SECONDS = 200_000, 10.0
_LOOKS = 20  # in that time, whether there is a new line; on a slow machine they come late too
_SAMPLES = 61  # words of each piece of pinned memory that are looked at after each line; odd, as is their distance


class Stopped(Exception):
    """The loop did not end; `line` is where it was."""

    def __init__(self, message: str, line: Line | None) -> None:
        super().__init__(message)
        self.line = line


@dataclass(slots=True)
class Trial:
    """What a simulated run showed. `spans` and `source` are what `plots.timeline` draws."""

    source: Source
    spans: list[Span]
    numbers: list[int | None]
    """The frames that the results are of; None for one that is of none."""
    held: list[tuple[int, int, int]]
    """At each frame, bytes of host and of device memory, and pieces of registered memory."""
    runs: int = 0
    """How often the network ran."""
    unused: int = 0
    """Bytes of pinned memory that the loop allocated, and that no copy used."""
    captures: int = 0
    """How many graphs it captured, from frame `STEADY` on."""
    reused: list[tuple[Line, int]] = field(default_factory=list)
    """Where a pool gave memory again in each frame, and how many bytes of it."""
    captured_cold: list[Line] = field(default_factory=list)
    """Where a capture took the first run of an execution context."""
    error: BaseException | None = None
    line: Line | None = None
    """Where the error came up."""
    in_flight: bool = False
    """The loop returned while copies still used its memory, and results were missing."""
    begin_ns: int = 0
    end_ns: int = 0
    limit_us: float = 0.0
    """What the busiest part of the GPU needs for a frame: no loop that asks the same of it is faster."""
    calls: list[tuple[float, str, Line | None]] = field(default_factory=list)
    """What held the host: us a frame, what it was, and where; the longest first."""

    @property
    def frame_us(self) -> float:
        """A frame's time, after the first ones."""
        return (self.end_ns - self.begin_ns) / (FRAMES - STEADY) / 1e3

    def blame(self, error: BaseException, watch: Watch) -> None:
        """This went wrong; say where."""
        steps = walk_tb(error.__traceback__)
        at = [(step.f_code.co_filename, line) for step, line in steps if step.f_globals is watch.names]
        self.error, self.line = error.with_traceback(None), at[-1] if at else None
        if isinstance(error, Stopped):
            self.line = error.line
        if isinstance(error, HazardError):  # memory that goes when the loop returns is freed on no line of it
            mine = tuple(line for line in error.lines if line[0] in watch.files)
            self.in_flight = mine[:1] != error.lines[:1] and len(self.numbers) < FRAMES
            error.lines = mine


class Watch:
    """Follows the lines of a loop, in all of its threads: stops one that would never end, charges the host for what it
    copies into pinned memory, and finds a write to bytes that a copy still uses, on the line that writes.

    The lines are those of functions whose globals are `names`; `files` are the files that these stand in.
    """

    def __init__(self, rig: SimulatedRig, names: dict[str, Any]) -> None:
        self.names, self._rig = names, rig
        self.files: set[str] = set()
        self.count = 0
        self._seen: weakref.WeakKeyDictionary[Any, np.ndarray] = weakref.WeakKeyDictionary()
        self._seeing = threading.Lock()  # NumPy lets other threads run while it writes
        self._at: Line | None = None
        self._line_of: dict[int, Line] = {}
        self._errors: list[BaseException] = []
        self._ended, self._returned, self._late = threading.Event(), False, False
        rig.machine.hazards.write = self._write
        rig.trace.before_call = self._look
        for block in rig.device.namespace.page_locked():
            self._seen[block] = _sample(block)

    def run(self, loop: Callable[..., Any], *arguments: Any) -> None:
        """Run the loop in a thread; the first error of it or of a thread that it started is raised here.

        What runs longer is left where it stands, for ever: no `except` can hold that.
        """
        before, hook = threading.gettrace(), threading.excepthook
        threading.settrace(self._on_call)
        threading.excepthook = self._in_thread
        try:
            runner = threading.Thread(target=self._run, args=(loop, arguments), daemon=True)
            runner.start()
            count = looks = 0
            while not self._ended.wait(_MOST_SECONDS / _LOOKS) and looks < _LOOKS:
                count, looks = self.count, looks + 1 if count == self.count else 0
        finally:
            self._late = not self._returned
            if self._returned:
                runner.join()  # it is at its last instruction, and until it has ended the device is its own
            threading.settrace(before)  # type: ignore[arg-type]
            threading.excepthook = hook
        if self._errors:
            raise self._errors[0]
        if self._late:
            self._park()
            got = f"no end after {self.count:,} lines" if self._ended.is_set() else f"{_MOST_SECONDS:g} s in one line"
            raise Stopped(f"the loop must end, got {got}", self._at)

    def leave(self) -> None:
        """Watch no more: the device would hold the watch, which holds its memory, for ever."""
        self._rig.machine.hazards.write = lambda array, action: action()
        self._rig.trace.before_call = lambda: None

    def _run(self, loop: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        try:
            loop(*arguments)
        except BaseException as error:
            self._end(error)
        self._returned = True
        self._ended.set()

    def _in_thread(self, thread: threading.ExceptHookArgs) -> None:
        if thread.exc_type is not SystemExit:  # that just ends a thread
            self._end(thread.exc_value)

    def _end(self, error: BaseException | None) -> None:
        self._errors += [error] if error is not None else []
        self._ended.set()

    def _park(self) -> None:
        """Lines that are under way, such as an endless loop in one line, stop at their next instruction."""
        for frame in sys._current_frames().values():
            step: FrameType | None = frame
            while step is not None:
                step.f_trace_opcodes = step.f_trace_opcodes or step.f_globals is self.names
                step = step.f_back

    def _on_call(self, frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_globals is not self.names:
            return None
        self.files.add(frame.f_code.co_filename)
        return self._on_line

    def _on_line(self, frame: FrameType, event: str, argument: Any) -> Any:
        self.count += 1
        if self.count > _MOST_LINES:
            self._late = True
            self._ended.set()
        if self._late:
            threading.Event().wait()
        if event != "exception":
            self._look()
            self._at = self._line_of[threading.get_ident()] = frame.f_code.co_filename, frame.f_lineno
        return self._on_line

    def _look(self) -> None:
        """What the program has written into pinned memory by itself, since the line or the call before."""
        line = self._line_of.get(threading.get_ident())
        with self._seeing:
            for block in self._rig.device.namespace.page_locked():
                sample, seen = _sample(block), self._seen.get(block)
                self._seen[block] = sample
                if seen is not None and len(changed := np.flatnonzero(sample != seen)):
                    self._wrote(block, changed, line)

    def _wrote(self, block: Any, changed: np.ndarray, line: Line | None) -> None:
        """These of the words that are looked at: they are known to be the host's, and writing them takes time."""
        machine, device = self._rig.machine, self._rig.device
        places = block.ptr + 4 * _places(block.size)
        for part in np.split(changed, np.flatnonzero(np.diff(changed) > 1) + 1):
            try:
                first, last = int(places[part[0]]), int(places[part[-1]])
                machine.hazards.check_known(block._buffer.region, first, last + 4, WRITE)
            except HazardError as error:
                raise HazardError(error.message, fix=error.fix, lines=(line, *error.lines[1:])) from None
        begin, share = device.now_ns(), len(changed) / len(places) * block.size / self._rig.names["image_spec"].nbytes
        machine.advance(int(share * machine.preset.host_work_ns.get("copy_to_slot", 0)))
        self._rig.spent.append(("copy", begin, device.now_ns(), line))

    def _write(self, array: np.ndarray, action: Callable[[], Any]) -> None:
        """The lab, or the GPU, writes there."""
        block = self._rig.device.namespace.page_locked_at(array.__array_interface__["data"][0])
        with self._seeing:
            action()
            if block is not None:
                self._seen[block] = _sample(block)


@cache
def _places(size: int) -> np.ndarray:
    return np.arange(0, size // 4, max(size // 4 // _SAMPLES, 1) | 1)


def _sample(block: Any) -> np.ndarray:
    words: np.ndarray = block._buffer.raw[: block.size // 4 * 4].view(np.uint32)
    sample: np.ndarray = words[_places(block.size)]
    return sample


def try_loop(loop: Callable[..., Any], exercise: Exercise | None = None, preset: Preset | None = None) -> Trial:
    """Run `loop(frames, done)` on a fresh simulated device, whatever it does."""
    rig = SimulatedRig(exercise, preset or Preset.load("h200"))
    before = set(map(id, rig.device.namespace.page_locked()))
    watch = Watch(rig, _globals(loop))
    trial = Trial(rig.device.source, rig.device.spans, rig.numbers, rig.held)
    try:
        with _named(loop, rig.names):
            watch.run(loop, rig.take(), rig.done)
        trial.end_ns = rig.device.now_ns()
        rig.device.synchronize()  # a hazard of the last frames comes up here
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        trial.blame(error, watch)
    finally:
        watch.leave()
    allocated = [each for each in rig.device.namespace.page_locked() if id(each) not in before and each.size > 1 << 20]
    trial.unused = sum(each.size for each in allocated if not each._copied)
    trial.runs = sum(span.row == "kernel" for span in trial.spans)
    names = rig.device.namespace
    trial.reused = [(line, size) for (line, size), times in names.reused.items() if line and times > FRAMES // 2]
    trial.captured_cold = [line for line in names.captured_cold if line is not None]
    if trial.error is None and len(rig.done_ns) == FRAMES:
        trial.begin_ns = rig.done_ns[STEADY - 1]  # from result to result: frames may be taken ahead
        trial.limit_us, trial.calls = _limit_us(trial, rig), _calls(trial, rig)
        trial.captures = sum(
            span.name == "cudaGraphInstantiate" and span.start_ns >= trial.begin_ns for span in trial.spans
        )
    return trial


def mystery(name: str) -> Trial:
    """A run of the loop that an exercise asks about, and that it does not show."""
    exercise = exercises()[name]
    return try_loop(exercise.function(exercise.loop), exercise)


def _globals(loop: Callable[..., Any]) -> dict[str, Any]:
    if not isinstance(loop, FunctionType):
        raise SettingsError(f"a loop must be a plain function, got {loop!r}", fix="write def name(frames, done): ...")
    return loop.__globals__


@contextmanager
def _named(loop: Callable[..., Any], names: dict[str, Any]) -> Iterator[None]:
    """The names of the device in place of the reader's, in his loop and in all functions and classes beside it."""
    there = _globals(loop)
    before = {name: there[name] for name in names if name in there}
    there.update(names)
    try:
        yield
    finally:
        for name in names:
            there.pop(name, None)  # the loop may have deleted it
        there.update(before)


_WAITS = ("cudaStreamSynchronize", "cudaEventSynchronize", "cudaDeviceSynchronize")
_KINDS = {"cudaLaunchKernel": "enqueue", "cudaGraphLaunch": "graph launch", "cudaGraphInstantiate": "capture"}
_KINDS["cudaMalloc"] = "allocation"
_KINDS |= dict.fromkeys(_WAITS, "wait") | dict.fromkeys(("cudaHostAlloc", "cudaHostRegister"), "allocation")


def _calls(trial: Trial, rig: SimulatedRig) -> list[tuple[float, str, Line | None]]:
    copies = {span.correlation: span.name for span in trial.spans if span.row in ("upload", "download")}
    found = list(rig.spent)
    for span in trial.spans:
        if span.row == "api":
            what = _KINDS.get(span.name) or copies.get(span.correlation, span.name)
            found.append((what, span.start_ns, span.end_ns, rig.trace.lines.get(span.correlation)))
    took: Counter[tuple[str, Line | None]] = Counter()
    for what, begin, end, line in found:
        if begin >= trial.begin_ns and end <= trial.end_ns:
            took[what, line] += end - begin
    return [(ns / (FRAMES - STEADY) / 1e3, what, line) for (what, line), ns in took.most_common()]


def _limit_us(trial: Trial, rig: SimulatedRig) -> float:
    rows: dict[str, list[int]] = {"upload": [], "kernel": [], "download": []}
    for span in trial.spans:
        if span.row in rows and trial.begin_ns <= span.start_ns < trial.end_ns:
            took = span.end_ns - span.start_ns  # that of a network is longer where it is launched kernel by kernel
            rows[span.row].append(min(took, rig.gpu_ns.get(span.name, took)))
    # how many a frame: one more or less in the window is not of these frames, and a batch has one for four
    quarters = {row: round(4 * len(took) / (FRAMES - STEADY)) for row, took in rows.items()}
    return max((float(np.mean(took)) * quarters[row] / 4 for row, took in rows.items() if took), default=0.0) / 1e3


_RIGS: weakref.WeakKeyDictionary[Device, dict[str, LiveRig]] = weakref.WeakKeyDictionary()


def try_live(
    loops: dict[str, Callable[..., Any]], exercise: Exercise | None, device: Device, rounds: int = 3
) -> dict[str, tuple[float, int]]:
    """Run loops on a GPU, in turns: each one's us a frame (median of `rounds`), and how many results were wrong."""
    kind = exercise.camera if exercise else "frames"
    rigs = _RIGS.setdefault(device, {})
    rig = rigs.get(kind) or rigs.setdefault(kind, LiveRig(exercise, device, read_images("synthetic", 8)))

    def run(loop: Callable[..., Any], frames: int, *, compare: bool) -> tuple[float, int]:
        with _named(loop, rig.names):
            return rig.run(loop, frames, compare=compare)

    wrong = {name: run(loop, 16, compare=True)[1] for name, loop in loops.items()}
    took: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(rounds):
        for name, loop in loops.items():
            took[name].append(run(loop, _LIVE_FRAMES, compare=False)[0])
    return {name: (float(np.median(took[name])), wrong[name]) for name in loops}
