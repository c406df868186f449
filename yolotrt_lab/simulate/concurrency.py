"""Frames at once: what contexts and batches bring the engine, and what the lab's own kernels do beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Any

import numpy as np

from ..device import Device, Graph, HostBuffer
from ..engine import Context, Engine
from ..speed.kernels import Decoder, Letterboxer
from ..speed.limits import confidence_for, engine_graphs, engine_us, median_us
from ..types import Source
from .preset import interpolated

_REPEATED = 100  # of a kernel in a graph, where launching it would take longer than it
_BESIDE = 60  # times that all kernels run beside the engine: for as long as a few of its inferences
_TELLS_NS = 500
_FRAME = (1080, 1920, 3)


class LabKernels:
    """The lab's kernels, in a stream of their own: on a frame, and on what a context of their own found in it."""

    def __init__(self, device: Device, engine: Engine, images: Sequence[np.ndarray] | None) -> None:
        frame = np.zeros(_FRAME, np.uint8) if images is None else np.ascontiguousarray(images[0])
        confidence = 0.25 if images is None else confidence_for(device, engine, images)
        self._device, self._stream = device, device.stream()
        self._context: Context = engine.context(device)
        self._letterboxer = Letterboxer(device, engine.inputs[0], (frame.shape[0], frame.shape[1]))
        geometry = self._letterboxer.geometry
        self._decoder = Decoder(device, engine.outputs[0], geometry, confidence=confidence)
        self._input = self._context.buffers[engine.inputs[0].name]
        self._output = self._context.buffers[engine.outputs[0].name]
        self._frames = device.empty_device(frame.nbytes)
        self._scratch = self._decoder.scratch(self._stream)
        self._results = device.empty_device(self._decoder.result.nbytes)
        device.upload(HostBuffer.over(frame), self._frames, self._stream)
        self._letterbox()
        self._context.enqueue(self._stream)
        self._decode()  # kernels compile when they are first launched, which cannot be captured
        self._stream.synchronize()

    def alone_ns(self) -> dict[str, int]:
        """The GPU's time in each kernel, by name, one after the other in a graph."""
        decode_ns, candidates_ns = self._alone_ns(self._decode), self._alone_ns(self._list_candidates)
        self._decode()  # which forgets the candidates that were listed again and again
        self._stream.synchronize()
        found = {"letterbox": self._alone_ns(self._letterbox), "candidates": candidates_ns}
        return {**found, "suppress": max(decode_ns - candidates_ns, 0)}

    def graph(self, times: int, *submits: Callable[[], None]) -> Graph:
        """A graph of these, or else of all kernels, so many times."""

        def submit() -> None:
            for _ in range(times):
                for each in submits or (self._letterbox, self._decode):
                    each()

        return self._device.capture(submit, self._stream)

    def _alone_ns(self, submit: Callable[[], None], launches: int = 4) -> int:
        """By the difference between a graph of many and of one, which has the same launch in it."""
        many_us, one_us = (
            median_us(self._device, lambda graph=graph: self._launch(graph, launches), 5)  # type: ignore[misc]
            for graph in (self.graph(_REPEATED, submit), self.graph(1, submit))
        )
        return max(round(1e3 * (many_us - one_us) / launches / (_REPEATED - 1)), 0)

    def _launch(self, graph: Graph, launches: int) -> None:
        for _ in range(launches):
            graph.launch(self._stream)

    def _letterbox(self) -> None:
        self._letterboxer.launch(self._frames, self._input, self._stream)

    def _decode(self) -> None:
        self._decoder.launch(self._output, self._scratch, self._results, self._stream)

    def _list_candidates(self) -> None:
        self._decoder.list_candidates(self._output, self._scratch, self._stream)


def kernel_sharing(
    device: Device, engine: Engine, kernels: LabKernels, frame_ns: Mapping[int, int]
) -> dict[int, float]:
    """`Preset.kernel_sharing` of 1 and of those numbers at once for which `frame_ns` has what the engine takes.

    Empty where kernels are too short to tell, or never get the GPU beside the engine.
    """
    beside = _Beside(device, engine, kernels.graph(_BESIDE), max(frame_ns) - 1)
    alone_ns = beside.kernels_ns(0, 0)
    if alone_ns is None or alone_ns < _BESIDE * _TELLS_NS:
        return {}
    found = {}
    for count in sorted(set(frame_ns) - {1}):
        inferences = ceil(2 * alone_ns * count / (frame_ns[count] * (count - 1)))
        if took_ns := beside.kernels_ns(count - 1, inferences):
            found[count] = count * alone_ns / took_ns
    return {1: 1.0, **found} if found else {}


class _Beside:
    """A graph of kernels in a stream, while contexts of the engine run in streams of theirs."""

    def __init__(self, device: Device, engine: Engine, graph: Graph, contexts: int) -> None:
        self._device, self._graph = device, graph
        # All at once: a GPU has eight queues from the host, which streams are given in turn, and two in one queue wait
        # for each other.
        self._stream, *streams = [device.stream() for _ in range(contexts + 1)]
        self._engines = engine_graphs(device, engine, streams)

    def kernels_ns(self, contexts: int, inferences: int, rounds: int = 5) -> int | None:
        """The GPU's time for the graph, median of `rounds`, beside so many contexts; None where it outlasts them.

        Each context runs so many inferences, or up to eight times as many where these are over before the kernels.
        """
        self._once(contexts, inferences)
        for more in (1, 2, 4, 8):
            took: list[int] = []
            while len(took) < rounds:
                ns, covered = self._once(contexts, more * inferences)
                if not covered:
                    break
                took.append(ns)
            else:
                return round(float(np.median(took)))
        return None

    def _once(self, contexts: int, inferences: int) -> tuple[int, bool]:
        """What the graph took, and whether all contexts were at work until its end."""
        device, engines = self._device, self._engines[:contexts]
        begin, end = device.event(timing=True), device.event(timing=True)
        ends = [device.event(timing=True) for _ in engines]
        device.synchronize()
        for number in range(inferences):
            for (graph, stream), event in zip(engines, ends, strict=True):
                graph.launch(stream)
                if number == 0:
                    stream.record(event)
        for event in ends:  # once, of the first inferences: the kernels begin when all contexts are at work
            self._stream.wait(event)
        for (_, stream), event in zip(engines, ends, strict=True):
            stream.record(event)
        self._stream.record(begin)
        self._graph.launch(self._stream)
        self._stream.record(end)
        device.synchronize()
        took_ns = end.elapsed_ns(begin)
        return took_ns, all(event.elapsed_ns(begin) >= took_ns for event in ends)


# Frames at once: what contexts and batches bring the engine, and what the lab's own kernels do beside it.


BATCHES = (2, 4, 8, 16)
"""Those that `calibrate` is best given engines for: what the ladder runs and looks for its limits among."""

_CONTEXTS = (1, 2, 3, 4, 6, 8)
_LAUNCHES, _FEWEST = 240, 24  # of single frames, and of batches: as many in each context


@dataclass(frozen=True, slots=True)
class Concurrency:
    """Fields of `EngineCost` and of `Preset`, by their names there."""

    frame_ns_by_contexts: Mapping[str, int] = field(default_factory=dict)
    frame_ns_by_batch: Mapping[str, Sequence[int]] = field(default_factory=dict)
    measured: str = ""
    kernel_ns: Mapping[str, int] = field(default_factory=dict)
    kernel_sharing: tuple[float, ...] = ()

    @property
    def of_engine(self) -> dict[str, Any]:
        """Those of `EngineCost`."""
        return {name: getattr(self, name) for name in ("frame_ns_by_contexts", "frame_ns_by_batch", "measured")}


def measure_concurrency(
    device: Device,
    engine: Engine,
    batches: Mapping[int, Engine],
    images: Sequence[np.ndarray] | None,
    progress: Callable[[str], None] = lambda step: None,
) -> Concurrency:
    """All of it, of the engine for single frames and of those for batches of so many.

    Where no rates of kernels beside the engine can be had, they are those of contexts, and `measured` says so.
    """
    by_contexts = {}
    for contexts in _CONTEXTS:
        progress(f"contexts at once: {contexts}")
        by_contexts[contexts] = _frame_ns(device, engine, contexts)
    by_batch = {}
    for batch, batched in batches.items():
        progress(f"batches of {batch}")
        by_batch[str(batch)] = [_frame_ns(device, batched, contexts) for contexts in (1, 2)]
    progress("kernels alone and beside the engine")
    kernels = LabKernels(device, engine, images)
    rates = kernel_sharing(device, engine, kernels, by_contexts)
    source = Source.read_back(device.source.as_dict())
    measured = f"{source.stamp}, {engine.label}: CUDA graphs launched back to back"
    if not rates:
        rates = {contexts: by_contexts[1] / frame_ns for contexts, frame_ns in by_contexts.items()}
        measured += "; that the lab's kernels share the GPU as contexts do is assumed"
    return Concurrency(
        {str(contexts): frame_ns for contexts, frame_ns in by_contexts.items()},
        by_batch,
        measured,
        kernels.alone_ns(),
        tuple(round(rate, 3) for rate in interpolated(rates)),
    )


def _frame_ns(device: Device, engine: Engine, contexts: int) -> int:
    launches = max(_LAUNCHES // engine.inputs[0].shape[0], _FEWEST)
    return round(1e3 * engine_us(device, engine, contexts, launches=launches))
