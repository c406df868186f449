"""Every error that the lab raises on purpose, and the fix that each one names.

LabError
├── MissingPackageError      a package that this step needs is not installed (also an ImportError)
├── MissingNameError         the simulated modules lack a name of the real ones (also an AttributeError)
├── SettingsError            a value the caller chose is not usable (also a ValueError)
├── DeviceError
│   ├── NoGpuError           no NVIDIA driver, or no GPU behind it
│   ├── OutOfMemoryError     pinned or device memory ran out (also a MemoryError)
│   ├── SlotInFlightError    the GPU may still use this slot
│   └── HazardError          bytes in flight were touched (the simulated device found it)
├── EngineError
│   ├── ModelError           the ONNX file cannot be read, or the runtime does not support it
│   ├── PlanError            a serialized engine is damaged, or not for this runtime, version or GPU
│   ├── ShapeError           a tensor has another shape than the engine's
│   ├── DtypeError           a tensor has another dtype than the engine's
│   └── CaptureError         the engine cannot be captured into a CUDA graph
├── FrameSourceError         a video, folder or camera cannot be read
├── RecordingError           a recording cannot be read or written
├── MeasurementsError        a table or log of times cannot be read; says where and why
├── TraceError               a trace or report cannot be used
│   ├── ReportError          the file is no report of Nsight Systems, or is damaged
│   └── NsysError            nsys is needed and not there, or gave up
└── NotebookError            a notebook failed; says which cell and why
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from operator import index as whole_number

TYPE_CHECKING = False  # typing itself takes a tenth of the time of the command's help
if TYPE_CHECKING:
    from enum import StrEnum
    from typing import TypeVar

    _Kind = TypeVar("_Kind", bound=StrEnum)

# C0 but for tab and newline, DEL, C1, separators and turns of the writing direction, halves of UTF-16
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def plain(text: str) -> str:
    r"""The text as a terminal may show it: what would steer the terminal becomes a replacement character.

    >>> ascii(plain("\x1b[2Jinfer"))
    "'\\ufffd[2Jinfer'"
    """
    return _CONTROLS.sub("\ufffd", text)


def closest(word: str, known: Iterable[str]) -> str:
    """A question that a message about an unknown word can end with; '' where none of the known ones is near.

    >>> closest("overlaod", ["overload", "steady"])
    "; did you mean 'overload'?"
    """
    from difflib import get_close_matches

    near = get_close_matches(word, list(known), 1)
    return f"; did you mean {near[0]!r}?" if near else ""


class LabError(Exception):
    """Base of the tree. `fix` is one sentence that says what to do, and is part of the printed message."""

    def __init__(self, message: str, *, fix: str = "") -> None:
        self.message, self.fix = (plain(words).replace("\n", " ") for words in (message, fix))
        super().__init__(f"{self.message}\nFix: {self.fix}" if fix else self.message)

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows in place of a traceback into the lab's own lines; IPython asks for it by this name."""
        return [f"{type(self).__name__}: {self}"]


class MissingPackageError(LabError, ImportError):
    """A package that this step needs is not installed."""

    def __init__(self, package: str, *, needed_for: str, install: str) -> None:
        super().__init__(f"{package} is not installed; it is needed for {needed_for}.", fix=install)
        self.package = package


class MissingNameError(LabError, AttributeError):
    """The simulated modules lack a name of the real ones; the message lists those they have."""


class SettingsError(LabError, ValueError):
    """A value the caller chose is not usable."""


class DeviceError(LabError):
    """Something about the CUDA device or its memory."""


class NoGpuError(DeviceError):
    """No NVIDIA driver, or no GPU behind it."""


class OutOfMemoryError(DeviceError, MemoryError):
    """Pinned or device memory ran out."""


class SlotInFlightError(DeviceError):
    """The GPU may still use this slot; wait for it or use another."""


class HazardError(DeviceError):
    """Bytes in flight were touched. Only the simulated device can see this; on a GPU the result is silently wrong.

    `lines` are those of the program, each (file, line): where it went wrong, then the other call. Empty where the
    device keeps no trace.
    """

    def __init__(self, message: str, *, fix: str = "", lines: tuple[tuple[str, int] | None, ...] = ()) -> None:
        super().__init__(message, fix=fix)
        self.lines = tuple(line for line in lines if line is not None)


class EngineError(LabError):
    """Something about an inference engine. `log` holds the lines that the runtime logged meanwhile."""

    def __init__(self, message: str, *, fix: str = "", log: tuple[str, ...] = ()) -> None:
        super().__init__(message, fix=fix)
        self.log = log


class ModelError(EngineError):
    """The ONNX file cannot be read, or the runtime does not support it."""


class PlanError(EngineError):
    """A serialized engine is damaged, or not for this runtime, version or GPU."""


class ShapeError(EngineError):
    """A tensor has another shape than the engine's."""


class DtypeError(EngineError):
    """A tensor has another dtype than the engine's."""


class CaptureError(EngineError):
    """The engine cannot be captured into a CUDA graph."""


class FrameSourceError(LabError):
    """A video, folder or camera cannot be read."""


class RecordingError(LabError):
    """A recording cannot be read or written."""


class MeasurementsError(LabError):
    """A table or log of times cannot be read; the message says where in it and why."""


class TraceError(LabError):
    """A trace, or the report of Nsight Systems that it comes from, cannot be used."""


class ReportError(TraceError):
    """The file is no report of Nsight Systems, or is damaged."""


class NsysError(TraceError):
    """nsys is needed and is not there, is too old, or gave up."""


class NotebookError(LabError):
    """A notebook failed; the message says which cell and why."""


def whole(name: str, value: int, least: int) -> int:
    """The value as Python's own int, which JSON knows; SettingsError below `least`, or where it is no whole number."""
    try:
        number = None if isinstance(value, bool) else whole_number(value)
    except TypeError:
        number = None
    if number is None:
        raise SettingsError(f"{name} must be a whole number, got {value!r}", fix=f"use {least} or more")
    if number < least:
        raise SettingsError(f"{name} must be {least} or more, got {number}", fix=f"use {least} or more")
    return number


def member(name: str, kind: type[_Kind], value: str) -> _Kind:
    """The member of `kind` that has this value; SettingsError for any other."""
    try:
        return kind(value)
    except ValueError:
        choices = ", ".join(kind)
        raise SettingsError(f"{name} must be one of {choices}, got {str(value)!r}", fix="use one of these") from None
