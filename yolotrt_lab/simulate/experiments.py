"""Experiments on a device: how long one copy blocks the host, and what is gained where things run at once.

The copy experiment is behind most of what the lab says: a kernel keeps the stream busy for the backlog, the copy is
submitted behind it, and the host synchronizes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import product
from math import ceil
from typing import Any

import numpy as np

from ..device import Device, Graph, HostBuffer
from ..engine import Engine
from ..errors import whole
from ..recording import Recording, machine_info
from ..speed.kernels import Decoder, Letterboxer
from ..speed.limits import confidence_for, engine_graphs, engine_us, median_us
from ..types import HostMemory, Pixels, Source
from .preset import interpolated
from .timed_engine import spin

SIZES = (4_096, 65_536, 262_144, 1_228_800, 4_915_200, 24_883_200)
"""Bytes: a page, small tensors, a 640 x 640 uint8 and float32 image, a 1080p float32 frame."""

BACKLOGS_NS = (0, 1_000_000, 5_000_000, 20_000_000)
MEMORIES = (HostMemory.PAGEABLE, HostMemory.PINNED)
DIRECTIONS = ("h2d", "d2h")


class CopyProbe:
    """One host buffer, one device buffer and a stream, to time copies of `nbytes` between them.

    SettingsError for less than a byte.

    >>> from yolotrt_lab import HostMemory, open_device
    >>> CopyProbe(open_device("simulated"), HostMemory.PINNED, 4_915_200).time("h2d", backlog_ns=1_000_000)[0]
    7100
    """

    def __init__(self, device: Device, memory: HostMemory, nbytes: int) -> None:
        whole("the bytes of a copy", nbytes, 1)
        self._device = device
        self._stream = device.stream()
        self._host = device.empty_host((nbytes,), np.uint8, memory)
        self._buffer = device.empty_device(nbytes)
        self._host.array[:] = 1

    def time(self, direction: str, backlog_ns: int) -> tuple[int, int]:
        """How long the copy call and the synchronize after it block the host, in ns; 'h2d' uploads, 'd2h' downloads."""
        device, stream = self._device, self._stream
        if backlog_ns:
            spin(device, backlog_ns, stream)
        begin = device.now_ns()
        if direction == "h2d":
            device.upload(self._host, self._buffer, stream)
        else:
            device.download(self._buffer, self._host, stream)
        returned = device.now_ns()
        stream.synchronize()
        return returned - begin, device.now_ns() - returned

    def median(self, direction: str, backlog_ns: int, *, repeats: int, discard: int = 2) -> tuple[int, int]:
        """Medians over `repeats` copies after `discard` that warm up."""
        times = [self.time(direction, backlog_ns) for _ in range(discard + repeats)][discard:]
        call_ns, sync_ns = np.median(times, axis=0)
        return int(call_ns), int(sync_ns)


def measure_copies(
    device: Device,
    *,
    sizes: Sequence[int] = SIZES,
    backlogs_ns: Sequence[int] = BACKLOGS_NS,
    repeats: int = 6,
    command: str = "",
    keep: Callable[[Recording], str] | None = None,
) -> Recording:
    """The copy table: a row for each direction, kind of host memory, size and backlog, medians of `repeats` copies.

    Its columns are `direction`, `host_memory`, `bytes`, `backlog_ns`, `call_ns` and `sync_ns`. About 4 seconds on a GPU
    with the default arguments. SettingsError where there is no size, no backlog or no repeat. After an error or Ctrl-C
    `keep` gets the rows so far, with a note, and says where they lie: the error says it then.

    >>> from yolotrt_lab import open_device
    >>> len(measure_copies(open_device("simulated"), sizes=[4_096], backlogs_ns=[0], repeats=1))
    4
    """
    counts = {"the number of sizes": len(sizes), "the number of backlogs": len(backlogs_ns), "repeats": repeats}
    for name, number in counts.items():
        whole(name, number, 1)
    rows: list[tuple[Any, ...]] = []

    def table(*notes: str) -> Recording:
        names = ("direction", "host_memory", "bytes", "backlog_ns", "call_ns", "sync_ns")
        columns = {name: np.array(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
        about: dict[str, Any] = {"machine": machine_info(), "settings": {"repeats": repeats}, "command": command}
        return Recording("copies", columns, device.source, label="copies", notes=notes, **about)

    try:
        for nbytes, memory in product(sizes, MEMORIES):
            probe = CopyProbe(device, memory, nbytes)
            for direction, backlog_ns in product(DIRECTIONS, backlogs_ns):
                median_ns = probe.median(direction, backlog_ns, repeats=repeats)
                rows.append((direction, str(memory), nbytes, backlog_ns, *median_ns))
    except BaseException as error:
        if keep is not None and rows:
            error.add_note(keep(table(f"unfinished: {type(error).__name__} ended the run after {len(rows)} rows")))
        raise
    return table()


# What runs at once: contexts, batches, and the lab's kernels beside the engine

BATCHES = (2, 4, 8, 16)
"""The batch sizes that `calibrate` is best given engines for: those that the ladder and its limits run."""

_CONTEXTS = (1, 2, 3, 4, 6, 8)
_LAUNCHES, _FEWEST = 240, 24  # of single frames, and of batches
_REPEATED = 100  # times a kernel in a graph: alone its launch would take longer than the kernel
_BESIDE = 60  # times all kernels beside the engine: as long as a few of its inferences
_TELLS_NS = 500
_FRAME = (1080, 1920, 3)


def measure_concurrency(
    device: Device,
    engine: Engine,
    batches: Mapping[int, Engine],
    images: Sequence[np.ndarray] | None,
    progress: Callable[[str], None],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The fields of `EngineCost` and those of `Preset` about work that runs at once; `batches` are by batch size.

    Where the kernels' rates beside the engine cannot be measured, they are those of contexts, and `measured` says so.
    """
    by_contexts, by_batch = {}, {}
    for contexts in _CONTEXTS:
        progress(f"contexts at once: {contexts}")
        by_contexts[contexts] = _frame_ns(device, engine, contexts)
    for batch, batched in batches.items():
        progress(f"batches of {batch}")
        by_batch[str(batch)] = (_frame_ns(device, batched, 1), _frame_ns(device, batched, 2))
    progress("kernels alone and beside the engine")
    kernels = _LabKernels(device, engine, images)
    rates = kernels.sharing(by_contexts)
    source = Source.read_back(device.source.as_dict())
    measured = f"{source.stamp}, {engine.label}: CUDA graphs launched back to back"
    if not rates:
        rates = {contexts: by_contexts[1] / frame_ns for contexts, frame_ns in by_contexts.items()}
        measured += "; that the lab's kernels share the GPU as contexts do is assumed"
    named = {str(contexts): frame_ns for contexts, frame_ns in by_contexts.items()}
    sharing = tuple(round(rate, 3) for rate in interpolated(rates))
    return (
        {"frame_ns_by_contexts": named, "frame_ns_by_batch": by_batch, "measured": measured},
        {"kernel_ns": kernels.alone_ns(), "kernel_sharing": sharing},
    )


def _frame_ns(device: Device, engine: Engine, contexts: int) -> int:
    launches = max(_LAUNCHES // engine.inputs[0].shape[0], _FEWEST)
    return round(1e3 * engine_us(device, engine, contexts, launches=launches))


def _times(times: int, *calls: Callable[[], None]) -> None:
    for call in calls * times:
        call()


class _LabKernels:
    """The lab's kernels in one stream, on a frame and what the engine finds in it; contexts of the engine in others."""

    def __init__(self, device: Device, engine: Engine, images: Sequence[np.ndarray] | None) -> None:
        frame = np.zeros(_FRAME, np.uint8) if images is None else np.ascontiguousarray(images[0])
        confidence = 0.25 if images is None else confidence_for(device, engine, images)
        self._device = device
        # All at once: a GPU has eight queues from the host, which streams get in turn, and two streams in one queue
        # wait for each other.
        self._stream, *streams = [device.stream() for _ in range(max(_CONTEXTS))]
        self._engines = engine_graphs(device, engine, streams)
        context = engine.context(device)
        letterboxer = Letterboxer(device, engine.inputs[0], (frame.shape[0], frame.shape[1]))
        decoder = Decoder(device, engine.outputs[0], letterboxer.geometry, confidence=confidence)
        inputs, outputs = context.buffers[engine.inputs[0].name], context.buffers[engine.outputs[0].name]
        frames, results = device.empty_device(frame.nbytes), device.empty_device(decoder.result.nbytes)
        scratch = decoder.scratch(self._stream)
        self._letterbox = partial(letterboxer.launch, frames, inputs, self._stream)
        even = (frame.shape[0] & ~1, frame.shape[1] & ~1)
        planar = Letterboxer(device, engine.inputs[0], even, Pixels.NV12)  # of any bytes: they don't change its time
        self._letterbox_nv12 = partial(planar.launch, frames, inputs, self._stream)
        self._list_candidates = partial(decoder.list_candidates, outputs, scratch, self._stream)
        self._decode = partial(decoder.launch, outputs, scratch, results, self._stream)
        device.upload(HostBuffer(frame), frames, self._stream)
        self._letterbox_nv12()
        self._letterbox()
        context.enqueue(self._stream)
        self._decode()  # a kernel compiles at its first launch, which cannot be captured
        self._stream.synchronize()

    def alone_ns(self) -> dict[str, int]:
        """The GPU's time in each kernel, by name."""
        decode_ns, candidates_ns = self._alone_ns(self._decode), self._alone_ns(self._list_candidates)
        self._decode()  # which forgets the candidates that were listed again and again
        self._stream.synchronize()
        found = {"candidates": candidates_ns, "suppress": max(decode_ns - candidates_ns, 0)}
        letterboxes = {"letterbox": self._letterbox, "letterbox_nv12": self._letterbox_nv12}
        return {**found, **{name: self._alone_ns(submit) for name, submit in letterboxes.items()}}

    def _alone_ns(self, submit: Callable[[], None], launches: int = 4) -> int:
        """By the difference between a graph of many and of one, which has the same launch in it."""

        def graph_us(times: int) -> float:
            graph = self._graph(times, submit)
            return median_us(self._device, lambda: _times(launches, partial(graph.launch, self._stream)), 5)

        return max(round(1e3 * (graph_us(_REPEATED) - graph_us(1)) / launches / (_REPEATED - 1)), 0)

    def _graph(self, times: int, *submits: Callable[[], None]) -> Graph:
        return self._device.capture(lambda: _times(times, *submits), self._stream)

    def sharing(self, frame_ns: Mapping[int, int]) -> dict[int, float]:
        """`Preset.kernel_sharing` by how many run at once; `frame_ns` is the engine's time for a frame by contexts.

        Empty where the kernels are too short to tell, or never get the GPU beside the engine.
        """
        graph = self._graph(_BESIDE, self._letterbox, self._decode)
        alone_ns = self._beside_ns(graph, 0, 0)
        if alone_ns is None or alone_ns < _BESIDE * _TELLS_NS:
            return {}
        found = {}
        for count in sorted(set(frame_ns) - {1}):
            inferences = ceil(2 * alone_ns * count / (frame_ns[count] * (count - 1)))
            if took_ns := self._beside_ns(graph, count - 1, inferences):
                found[count] = count * alone_ns / took_ns
        return {1: 1.0, **found} if found else {}

    def _beside_ns(self, graph: Graph, contexts: int, inferences: int, rounds: int = 5) -> int | None:
        """The GPU's time for the graph beside that many contexts, median of `rounds`; None where it outlasts them.

        Each context runs that many inferences, or up to eight times as many where they end before the kernels do.
        """
        self._once(graph, contexts, inferences)
        for more in (1, 2, 4, 8):
            took = [self._once(graph, contexts, more * inferences) for _ in range(rounds)]
            if all(covered for _, covered in took):
                return round(float(np.median([ns for ns, _ in took])))
        return None

    def _once(self, graph: Graph, contexts: int, inferences: int) -> tuple[int, bool]:
        """What the graph took, and whether all contexts were at work until its end."""
        device, engines = self._device, self._engines[:contexts]
        begin, end = device.event(timing=True), device.event(timing=True)
        ends = [device.event(timing=True) for _ in engines]
        device.synchronize()
        for number in range(inferences):
            for (inference, stream), event in zip(engines, ends, strict=True):
                inference(stream)
                if number == 0:
                    stream.record(event)
        for event in ends:  # at the first inference: the kernels start when all contexts are at work
            self._stream.wait(event)
        for (_, stream), event in zip(engines, ends, strict=True):
            stream.record(event)
        self._stream.record(begin)
        graph.launch(self._stream)
        self._stream.record(end)
        device.synchronize()
        took_ns = end.elapsed_ns(begin)
        return took_ns, all(event.elapsed_ns(begin) >= took_ns for event in ends)
