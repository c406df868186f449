"""Measured hardware: the figures that the simulated device runs on, as a JSON file.

`yolotrt-lab calibrate` measures one; `data/presets/` holds those that ship with the lab. Times are integer
nanoseconds. Rates are bytes per nanosecond, which is GB/s.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import SettingsError
from ..packages import lab_path

FORMAT = 1


@dataclass(frozen=True, slots=True)
class PinnedCopy:
    """A copy that the GPU makes by itself: `cudaMemcpyAsync` from or to page-locked memory.

    The call holds the host for `call_ns` (`busy_call_ns` while the stream has work, or when the host has moved
    megabytes since its last such call), the copy engine takes `fixed_ns + bytes / rate`.
    """

    call_ns: int
    busy_call_ns: int
    fixed_ns: int
    rate: float


@dataclass(frozen=True, slots=True)
class PageableCopy:
    """A copy that the driver makes through staging memory of its own: the host is held for `call_ns + bytes / rate`.

    An upload of at most `staging_bytes` is put into the staging memory whatever the stream has to do, and costs
    `staged_call_ns + bytes / staged_rate`. A larger one, and every download, waits for the stream first, and its last
    piece reaches its end `tail_ns` after the call has returned.
    """

    call_ns: int
    rate: float
    tail_ns: int
    staging_bytes: int = 0
    staged_call_ns: int = 0
    staged_rate: float = 1.0


@dataclass(frozen=True, slots=True)
class EngineCost:
    """One model on one GPU. `enqueue_ns` is the host's time in `execute_async_v3`, `gpu_ns` the GPU's for its kernels.

    While the host still launches kernels the GPU cannot be done: it ends no earlier than `tail_ns` after the call.
    `graph_*` are the same captured into a CUDA graph, whose first kernel begins `graph_submit_ns` after the launch call
    on an idle GPU. `cold_*` hold when the host has moved megabytes since its last enqueue, which took longer then on
    every machine that was measured; its caches are the likely reason. `kernels` is how many places of the launch queue
    it takes.

    `frame_ns_by_contexts` is what a frame took, as a CUDA graph, with that many contexts at once, `frame_ns_by_batch`
    in batches of that size with one context and with two; only their ratios count. `measured` says where they are from.
    Without the former contexts run one by one, without the latter so do the frames of a batch.
    `sharing` is the total rate of 1, 2, ... contexts that run at once, against one alone; it follows from the former.
    """

    enqueue_ns: int
    cold_enqueue_ns: int
    gpu_ns: int
    tail_ns: int
    graph_launch_ns: int
    graph_submit_ns: int
    cold_graph_launch_ns: int
    graph_gpu_ns: int
    kernels: int
    frame_ns_by_contexts: Mapping[str, int] = field(default_factory=dict)
    frame_ns_by_batch: Mapping[str, Sequence[int]] = field(default_factory=dict)
    measured: str = ""
    sharing: tuple[float, ...] = ()

    def for_batch(self, batch: int) -> EngineCost:
        """The cost of one inference of a batch, with its `sharing`; SettingsError where others were measured only."""
        if batch == 1 or not self.frame_ns_by_batch:
            return self._times(batch, self._sharing())
        if str(batch) not in self.frame_ns_by_batch:
            raise SettingsError(
                f"no batch of {batch} was measured; there are {', '.join(self.frame_ns_by_batch)}",
                fix="use one of these, or a GPU",
            )
        one, two = self.frame_ns_by_batch[str(batch)]
        return self._times(batch * one / self.frame_ns_by_contexts.get("1", self.graph_gpu_ns), (1.0, one / two))

    def _times(self, times: float, sharing: tuple[float, ...]) -> EngineCost:
        gpu_ns, graph_gpu_ns = round(self.gpu_ns * times), round(self.graph_gpu_ns * times)
        return replace(self, gpu_ns=gpu_ns, graph_gpu_ns=graph_gpu_ns, sharing=sharing)

    def _sharing(self) -> tuple[float, ...]:
        frame_ns = {int(count): took for count, took in self.frame_ns_by_contexts.items()}
        alone = frame_ns.get(1, self.graph_gpu_ns)
        return interpolated({count: alone / took for count, took in frame_ns.items()})


def interpolated(rates: Mapping[int, float]) -> tuple[float, ...]:
    """Rates of 1, 2, ... at once, from those of some of these counts: straight lines in between."""
    if not rates:
        return ()
    counts = sorted(rates)
    return tuple(np.interp(range(1, counts[-1] + 1), counts, [rates[count] for count in counts]).tolist())


@dataclass(frozen=True, slots=True)
class NeighbourCost:
    """What other processes that keep the same GPU busy cost this one.

    Between two turns of this process its neighbours have the GPU for `turns_ns`, by their number (in between, and
    beyond, as many times longer as there are more of them); a turn ends after `slice_ns`, or earlier where the work
    runs dry. Each neighbour adds `upload_share` of its duration to an upload and `call_ns` to a page-locked copy call.
    `source` says what it was fitted to.
    """

    turns_ns: Mapping[str, int]
    slice_ns: int
    upload_share: float
    call_ns: int
    source: str

    def others_ns(self, neighbours: int) -> int:
        """How long that many neighbours have the GPU between two turns of this process."""
        counts = sorted(map(int, self.turns_ns))
        known = [self.turns_ns[str(count)] for count in counts]
        if neighbours > counts[-1]:
            return known[-1] * neighbours // counts[-1]
        return int(np.interp(neighbours, [0, *counts], [0, *known]))


@dataclass(frozen=True, slots=True)
class Registration:
    """`cudaHostRegister`: the call holds the host for `call_ns`, and each piece of memory that stays registered adds
    `kept_ns` to a synchronize that waits. `source` says what it was fitted to.
    """

    call_ns: int
    kept_ns: int
    source: str


@dataclass(frozen=True, slots=True)
class Preset:
    """Everything that the simulated device knows about a machine.

    `submit_ns` is from the begin of a call to the begin of its work on an idle GPU, `wake_up_ns` from the end of the
    work to the return of the synchronize that waited for it, `synchronize_ns` a synchronize with nothing to wait for.
    `range_ns` is the host's time between two stages of a loop. `host_work_ns` is by name (`Device.host_work`).
    `kernel_ns` is the GPU's time for a frame in the lab's own kernels, by name. `kernel_sharing` is for them what
    `EngineCost.sharing` is for an engine: with n - 1 contexts at work beside it a kernel has an n-th of the n-th rate.
    Without it a kernel has the GPU to itself.
    `command` made the file. `neighbours` and `registration` are None where they were not measured.
    """

    name: str
    gpu: str
    driver: str
    cpu: str
    date: str
    command: str
    pinned_upload: PinnedCopy
    pinned_download: PinnedCopy
    pageable_upload: PageableCopy
    pageable_download: PageableCopy
    launch_ns: int
    submit_ns: int
    wake_up_ns: int
    synchronize_ns: int
    record_ns: int
    query_ns: int
    range_ns: int
    launch_queue_depth: int
    engines: Mapping[str, EngineCost] = field(default_factory=dict)
    host_work_ns: Mapping[str, int] = field(default_factory=dict)
    kernel_ns: Mapping[str, int] = field(default_factory=dict)
    kernel_sharing: tuple[float, ...] = ()
    neighbours: NeighbourCost | None = None
    registration: Registration | None = None

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
        text = json.dumps({"format": FORMAT, **asdict(self)}, indent=2) + "\n"
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_text(text, encoding="utf-8")
        except OSError as error:
            raise SettingsError(f"{path} cannot be written: {error}", fix="name another place") from error

    @classmethod
    def load(cls, name_or_path: str | Path) -> Preset:
        """Read a preset that ships with the lab by name ('h200'), or any by the path of its file (`*.json`)."""
        path = Path(name_or_path)
        if path.suffix != ".json":
            path = _shipped(str(name_or_path))
        try:
            return cls._from_json(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise SettingsError(
                f"{path} is no preset: {error}", fix="make one on a GPU: yolotrt-lab calibrate --out FILE"
            ) from error

    @classmethod
    def _from_json(cls, values: dict[str, Any]) -> Preset:
        if (found := values.pop("format", None)) != FORMAT:
            raise ValueError(f"format {found!r}, this lab reads format {FORMAT}")
        for name, kind in _NESTED.items():
            values[name] = kind(**values[name])
        for name, kind in _OPTIONAL.items():
            if values.get(name) is not None:
                values[name] = kind(**values[name])
        values["engines"] = {model: _engine_cost(cost) for model, cost in values["engines"].items()}
        values["kernel_sharing"] = tuple(values.get("kernel_sharing", ()))
        return cls(**values)


def _engine_cost(values: dict[str, Any]) -> EngineCost:
    return EngineCost(**{**values, "sharing": tuple(values.get("sharing", ()))})


_NESTED = {
    "pinned_upload": PinnedCopy,
    "pinned_download": PinnedCopy,
    "pageable_upload": PageableCopy,
    "pageable_download": PageableCopy,
}
_OPTIONAL = {"neighbours": NeighbourCost, "registration": Registration}


def shipped_presets() -> list[str]:
    """Names of the presets that ship with the lab."""
    return sorted(path.stem for path in lab_path("data", "presets").glob("*.json"))


def _shipped(name: str) -> Path:
    if name not in (names := shipped_presets()):
        raise SettingsError(f"no preset {name!r}", fix=f"use one of {', '.join(names)}, or the path of a .json file")
    return lab_path("data", "presets", f"{name}.json")
