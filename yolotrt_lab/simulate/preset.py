"""Measured hardware: the figures that the simulated device runs on, as a JSON file.

`yolotrt-lab calibrate` measures one; `data/presets/` holds those that ship with the lab. Times are integer
nanoseconds. Rates are bytes per nanosecond, which is GB/s.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np

from ..errors import SettingsError, closest
from ..files import read_file, write_file
from ..packages import lab_path

FORMAT = 1
_MOST = 10**15  # ns, or bytes


@dataclass(frozen=True, slots=True)
class PinnedCopy:
    """`cudaMemcpyAsync` from or to page-locked memory: the call only submits the copy, which the GPU makes.

    >>> Preset.load("h200").pinned_upload.rate
    47.905
    """

    call_ns: int
    busy_call_ns: int
    """The call while the stream has work, or when the host has moved megabytes since the last such call."""
    fixed_ns: int
    """The copy takes this, and bytes / `rate`."""
    rate: float


@dataclass(frozen=True, slots=True)
class PageableCopy:
    """`cudaMemcpyAsync` through the driver's staging memory: the call blocks the host for `call_ns` + bytes / `rate`.

    It waits for the stream first, but for an upload of at most `staging_bytes`. Larger uploads of all threads take
    turns: on an H200 1, 2, 4 and 8 threads got 15.3, 13.9, 14.6 and 14.8 GB/s together (2026-11-29).

    >>> Preset.load("h200").pageable_upload.staging_bytes
    2081280
    """

    call_ns: int
    rate: float
    tail_ns: int
    """From the return of the call to the end of the copy's last piece."""
    staging_bytes: int = 0
    """The largest upload that is staged at once, for `staged_call_ns` + bytes / `staged_rate`."""
    staged_call_ns: int = 0
    staged_rate: float = 1.0


@dataclass(frozen=True, slots=True)
class Allocation:
    """Page-locked memory: `cudaHostAlloc` and, once the memory goes, `cudaFreeHost`, all of it charged to the first.

    >>> Preset.load("h200").pinned_allocation.ns(4_096)
    3000
    """

    call_ns: int
    rate: float
    """Bytes per nanosecond beyond `call_ns`."""
    small_bytes: int
    """So many bytes or fewer come out of a block that the driver keeps, and take `call_ns` alone."""
    source: str
    """What it was fitted to."""

    def ns(self, nbytes: int) -> int:
        """What so many bytes cost."""
        return self.call_ns + (int(nbytes / self.rate) if nbytes > self.small_bytes else 0)


@dataclass(frozen=True, slots=True)
class EngineCost:
    """One model on one GPU; `graph_*` are the same captured into a CUDA graph.

    `cold_*` hold when the host has moved megabytes since the last enqueue, which then took longer on every machine that
    was measured; the likely reason are its caches.

    >>> Preset.load("h200").engine("yolov8n-fp16").kernels
    85
    """

    enqueue_ns: int
    """`execute_async_v3` blocks the host for this."""
    cold_enqueue_ns: int
    gpu_ns: int
    """The GPU's time for the kernels."""
    tail_ns: int
    """The GPU ends no earlier than this after the enqueue returned: the host still launched kernels until then."""
    graph_launch_ns: int
    graph_submit_ns: int
    """From the launch of the graph to its first kernel on an idle GPU."""
    cold_graph_launch_ns: int
    graph_gpu_ns: int
    kernels: int
    """Places in the launch queue that one inference takes."""
    frame_ns_by_contexts: Mapping[str, int] = field(default_factory=dict)
    """A frame's time, as a CUDA graph, by how many contexts run at once. Empty: contexts run one by one."""
    frame_ns_by_batch: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """The same by batch size, with one context and with two. Empty: the frames of a batch run one by one."""
    measured: str = ""
    """On what the times by contexts and batches were measured. Only the ratios between them count."""
    sharing: tuple[float, ...] = ()
    """The total rate of 1, 2, ... contexts at once, against one alone; `for_batch` sets it."""

    def for_batch(self, batch: int) -> EngineCost:
        """The cost of one inference of a batch, with its `sharing`.

        SettingsError where only other batches were measured.
        """
        frame_ns = {int(count): took for count, took in self.frame_ns_by_contexts.items()}
        alone = frame_ns.get(1, self.graph_gpu_ns)
        times, sharing = float(batch), interpolated({count: alone / took for count, took in frame_ns.items()})
        if batch > 1 and self.frame_ns_by_batch:
            if str(batch) not in self.frame_ns_by_batch:
                raise SettingsError(
                    f"the batch must be one that was measured (1, {', '.join(self.frame_ns_by_batch)}), got {batch}",
                    fix="use one of these, or a GPU",
                )
            one, two = self.frame_ns_by_batch[str(batch)]
            times, sharing = batch * one / alone, (1.0, one / two)
        gpu_ns, graph_gpu_ns = round(self.gpu_ns * times), round(self.graph_gpu_ns * times)
        return replace(self, gpu_ns=gpu_ns, graph_gpu_ns=graph_gpu_ns, sharing=sharing)


def interpolated(rates: Mapping[int, float]) -> tuple[float, ...]:
    """Rates of 1, 2, ... at once from those of some counts, by straight lines between them."""
    if not rates:
        return ()
    counts = sorted(rates)
    return tuple(np.interp(range(1, counts[-1] + 1), counts, [rates[count] for count in counts]).tolist())


@dataclass(frozen=True, slots=True)
class OtherProcessesCost:
    """What other processes that keep the same GPU busy cost this one.

    >>> Preset.load("h200").other_processes.slice_ns
    2000000
    """

    turns_ns: Mapping[str, int]
    """How long the others have the GPU between two turns of this process, by how many they are."""
    slice_ns: int
    """A turn ends after this, or earlier where the work runs dry."""
    call_ns: int
    """Each other process lengthens a page-locked copy call by this."""
    source: str
    """What all of it was fitted to."""
    upload_times: Mapping[str, float] = field(default_factory=dict)
    """An upload takes so many times as long, by how many the others are. Empty: as long as alone."""
    enqueue_times: Mapping[str, float] = field(default_factory=dict)
    """The same of an engine that is enqueued call by call."""
    host_work_times: Mapping[str, float] = field(default_factory=dict)
    """The same of the host's own work."""


def by_count(measured: Mapping[str, float], count: int, none: float = 1.0) -> float:
    """What holds where there are `count` of something: on a line between measured counts, from `none` where there are
    none; beyond them what is added grows in proportion. By default it is how many times as long something takes.
    """
    if not measured:
        return none
    known = {0: none, **{int(each): value for each, value in measured.items()}}
    counts = sorted(known)
    if count > counts[-1]:
        return none + (known[counts[-1]] - none) * count / counts[-1]
    return float(np.interp(count, counts, [known[each] for each in counts]))


@dataclass(frozen=True, slots=True)
class Registration:
    """What `cudaHostRegister` costs.

    >>> Preset.load("h200").registration.call_ns
    600000
    """

    call_ns: int
    kept_ns: int
    """Each piece of memory that stays registered lengthens a synchronize that waits by this."""
    source: str
    """What both were fitted to."""


@dataclass(frozen=True, slots=True)
class Preset:
    """Everything that the simulated device knows about a machine."""

    name: str
    gpu: str
    driver: str
    cpu: str
    date: str
    command: str
    """It created the file."""
    pinned_upload: PinnedCopy
    pinned_download: PinnedCopy
    pageable_upload: PageableCopy
    pageable_download: PageableCopy
    launch_ns: int
    submit_ns: int
    """From the start of a call to the start of its work on an idle GPU."""
    wake_up_ns: int
    """From the end of the work to the return of the synchronize that waited for it."""
    synchronize_ns: int
    """A synchronize with nothing to wait for."""
    record_ns: int
    query_ns: int
    range_ns: int
    """The host's time between two stages of a loop."""
    launch_queue_depth: int
    engines: Mapping[str, EngineCost] = field(default_factory=dict)
    host_work_ns: Mapping[str, int] = field(default_factory=dict)
    """The host's own work, by name."""
    kernel_ns: Mapping[str, int] = field(default_factory=dict)
    """The GPU's time for a frame in the lab's own kernels, by name."""
    kernel_sharing: tuple[float, ...] = ()
    """A kernel beside n - 1 contexts has an n-th of the n-th of these rates. Empty: it has the GPU to itself."""
    other_processes: OtherProcessesCost | None = None
    """None where it was not measured, as `registration`."""
    registration: Registration | None = None
    pinned_allocation: Allocation | None = None
    """None: it takes no time."""
    upload_turn_times: Mapping[str, float] = field(default_factory=dict)
    """A pageable upload takes so many times as long, by how many of the process take turns. Empty: as long as alone.

    On two H200s (2026-11-29) 4 threads uploaded a frame each 0.367 and 0.417 ms, one alone took 0.368 and 0.44; with 8
    threads it was 0.457 and 0.465: 1.24 and 1.06 times as long, and 1.14 is within 20 % of both."""
    derived_from: str = ""
    """The preset of the simulated device on which this one was measured; '' for one that was measured on a GPU."""
    cold_synchronize_ns: int | None = None
    """`cudaStreamSynchronize` with nothing to wait for, when the host has moved megabytes since the last wait in the
    driver. None: `synchronize_ns`. The h200 preset has the 6.9 us of the report's loop alone; on other H200s it was
    5.8 and 8.5 us (2026-11-29)."""
    capture_times: float = 0.0
    """Capturing an engine and instantiating the graph takes so many times as long as its plain enqueue; 0: no time.

    On an H200 (2026-11-30, YOLOv8n, TensorRT-RTX 1.4.0.76, medians of 30) it was 747 us to capture and 314 to
    instantiate, against 1,117 us for a plain frame: 0.95 times."""

    @property
    def label(self) -> str:
        """The name in figures, which says what was not measured on a GPU."""
        return self.name + (f", derived from {self.derived_from} by the simulation" if self.derived_from else "")

    def engine(self, model: str) -> EngineCost:
        """The cost of a model such as 'yolov8n-fp16'; SettingsError names those that were measured."""
        if model not in self.engines:
            raise SettingsError(
                f"preset {self.name} has no engine {model!r}; it has {', '.join(self.engines) or 'none'}",
                fix="measure it on your GPU: yolotrt-lab calibrate --out FILE",
            )
        return self.engines[model]

    def save(self, path: str | Path) -> None:
        """Write the preset as JSON; SettingsError where that place cannot be written."""
        write_file(path, json.dumps({"format": FORMAT, **asdict(self)}, indent=2) + "\n")

    @classmethod
    def load(cls, name_or_path: str | Path) -> Preset:
        """Read a preset that ships with the lab by name ('h200'), or any by the path of its file (`*.json`).

        SettingsError for an unknown name, and for a file that is no preset.

        >>> Preset.load("h200").gpu
        'NVIDIA H200'
        """
        path = Path(name_or_path)
        if path.suffix != ".json":
            if name_or_path not in (names := shipped_presets()):
                raise SettingsError(
                    f"there is no preset {str(name_or_path)!r}{closest(str(name_or_path), names)}",
                    fix=f"use one of {', '.join(names)}, or the path of a .json file",
                )
            path = lab_path("data", "presets", f"{name_or_path}.json")
        try:
            content = read_file(path)
        except OSError as error:
            raise SettingsError(f"{path} cannot be read: {error.strerror}", fix="check the path") from error
        try:
            values = json.loads(content)
            if not isinstance(values, dict) or (found := values.pop("format", None)) != FORMAT:
                found = "none" if not isinstance(values, dict) else repr(found)
                raise ValueError(f"the format must be {FORMAT}, got {found}")
            preset: Preset = _read(cls, values)
        except (ValueError, TypeError, RecursionError) as error:
            what = f"{path} is no preset: {getattr(error, 'message', error)}"
            raise SettingsError(what, fix="measure one on a GPU: yolotrt-lab calibrate --out FILE") from error
        return preset


_BY_NAME = ("engines", "host_work_ns", "kernel_ns")
_LEAST = {"launch_queue_depth": 1, "kernels": 1, "rate": 1e-6, "staged_rate": 1e-6}


def _read(kind: Any, value: Any, name: str = "a preset", least: float = 0) -> Any:
    """What JSON gave for the field `name`, as its type; dataclasses may be nested. ValueError where it is another, or
    a number that no machine has; TypeError where a field is missing, or unknown.
    """
    if isinstance(kind, type) and is_dataclass(kind):
        kinds: Any = get_type_hints(kind)
        given = _checked(dict, value, name)
        return kind(**{field: _read(kinds.get(field), each, field) for field, each in given.items()})
    if isinstance(kind, UnionType):  # or None
        return None if value is None else _read(get_args(kind)[0], value, name)
    if get_origin(kind) is Mapping:
        given = _checked(dict, value, name)
        if name not in _BY_NAME and not all(re.fullmatch("(?a)[1-9][0-9]{0,8}", count) for count in given):
            raise ValueError(f"{name} must be by count, such as '2', got {', '.join(map(repr, given))}")
        of = get_args(kind)[1]
        return {
            key: _read(of, each, f"{name} of {key}", 0 if name in _BY_NAME else 1e-6) for key, each in given.items()
        }
    if get_origin(kind) is tuple:
        given, (of, *more) = _checked(list, value, name), get_args(kind)
        if Ellipsis not in more and len(given) != 1 + len(more):
            raise ValueError(f"{name} must have {1 + len(more)} numbers, got {len(given)}")
        return tuple(_read(of, each, name, 1e-6) for each in given)
    if kind in (int, float):
        number = float(value) if kind is float and type(value) is int else _checked(kind, value, name)
        if not (least := _LEAST.get(name, least)) <= number < _MOST:
            raise ValueError(f"{name} must be {least} or more, and below {_MOST:,}, got {number:.6g}")
        return number
    return value if kind is None else _checked(kind, value, name)  # of an unknown field: the class refuses it


def _checked(kind: type, value: Any, name: str) -> Any:
    if type(value) is not kind:
        raise ValueError(f"{name} must be of type {kind.__name__}, got {value!r:.50}")
    return value


def shipped_presets() -> list[str]:
    """Names of the presets that ship with the lab.

    >>> shipped_presets()
    ['h200']
    """
    return sorted(path.stem for path in lab_path("data", "presets").glob("*.json"))
