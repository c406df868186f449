"""The GPU's side of the overlapped loop: lanes, each with a slot, an execution context, graphs and events."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ..device import Device, Stream
from ..engine import Context, Engine, captured
from ..memory import Slot, SlotPool
from ..types import Detections, HostMemory, Stage
from ..vision import decode, letterbox_geometry
from .kernels import Decoder, Letterboxer, unpack

if TYPE_CHECKING:
    from .overlap import OverlapSettings

_Submit = Callable[[Stream], None]
_STAGES = (Stage.UPLOAD, Stage.INFER, Stage.DOWNLOAD)


class Lane:
    """One batch on its way, from a slot through an execution context and back into the slot.

    No buffer of a lane is another's too, so no graph is ever replayed on the memory of another frame. `actions` is what
    to call, by stage, to submit the batch; the slot's event follows the last of it.
    """

    def __init__(self, slot: Slot, context: Context, actions: Sequence[tuple[Stage, Callable[[], None]]]) -> None:
        self.slot = slot
        self.context = context
        self.by_stage = {stage: [act for where, act in actions if where is stage] for stage in _STAGES}
        self.actions = [act for _, act in actions]

    def submit(self) -> None:
        """Submit the batch in the slot, which is the GPU's from here on until `slot.wait`."""
        for act in self.actions:
            act()


class Lanes:
    """The lanes of a loop and what they share: streams, the pool of slots, and kernels.

    Lanes whose inferences run in the same stream have an execution context in common, each with buffers of its own.

    `frame_shape` is (height, width) of the frames where the GPU letterboxes them. CaptureError where the engine cannot
    be captured, OutOfMemoryError where memory for a slot or a context can't be had.
    """

    def __init__(self, device: Device, engine: Engine, settings: OverlapSettings, frame_shape: tuple[int, int]) -> None:
        self._device, self._engine, self._settings = device, engine, settings
        self._input, self._output = engine.inputs[0], engine.outputs[0]
        height, width = self._input.shape[-2:]
        self.geometry = letterbox_geometry(frame_shape, (height, width))
        self._decoding: dict[str, Any] = {"confidence": settings.confidence}
        self._decoding["end2end"] = settings.postprocess and engine.describe().end2end
        self._letterboxer = (
            Letterboxer(device, self._input, frame_shape, settings.pixels) if settings.gpu_letterbox else None
        )
        self._decoder = Decoder(device, self._output, self.geometry, **self._decoding) if settings.gpu_decode else None
        uploaded = [self._letterboxer.frames if self._letterboxer else self._input]
        downloaded = [self._decoder.result] if self._decoder else list(engine.outputs)
        self.pool = SlotPool(
            device,
            uploaded,
            downloaded,
            slots=settings.collect_after + 1,
            input_memory=settings.input_memory,
            output_memory=settings.output_memory,
        )
        for slot in self.pool.slots:
            for buffer in (*slot.inputs.values(), *slot.outputs.values()):
                buffer.array[...] = 0
        self._compute = [device.stream() for _ in range(settings.contexts)]
        self._copies = [device.stream(), device.stream()] if settings.overlap else None
        self._contexts: list[Context] = []
        self.lanes = [self._lane(slot) for slot in self.pool.slots]

    def of(self, slot: Slot) -> Lane:
        """The lane that this slot belongs to."""
        return self.lanes[slot.index]

    def detections(self, lane: Lane, item: int) -> Detections:
        """The boxes of one frame of the lane's batch, whose result has arrived."""
        slot = lane.slot
        if self._decoder is not None:
            found = unpack(slot.outputs[self._decoder.result.name].array, item)
            return self._decode(self._full_output(lane), item) if found is None else found
        return self._decode(slot.outputs[self._output.name].array, item)

    def _decode(self, output: np.ndarray, item: int) -> Detections:
        return decode(output[item : item + 1], self.geometry, **self._decoding)

    def _full_output(self, lane: Lane) -> np.ndarray:
        """The network's whole output, which a lane has until it is submitted again: for a frame of very many boxes."""
        buffer = self._device.empty_host(self._output.shape, self._output.dtype, HostMemory.PAGEABLE)
        stream = self._compute[0]
        self._device.download(lane.context.buffers[self._output.name], buffer, stream)
        stream.synchronize()
        return buffer.array

    def abandon(self) -> None:
        """Let the GPU finish what it has, and give every slot back."""
        self._device.synchronize()
        for slot in self.pool.slots:
            slot.release()

    def _lane(self, slot: Slot) -> Lane:
        """A lane on the streams that its number gives it, with its work captured where graphs are asked for."""
        number = slot.index % len(self._compute)
        compute, context = self._compute[number], self._context(number)
        upload, download = self._copies or (compute, compute)
        steps = [
            (Stage.UPLOAD, upload, self._upload(slot, context)),
            (Stage.INFER, compute, context.enqueue),
            (Stage.DOWNLOAD, download, self._download(slot, context, compute)),
        ]
        for _, stream, submit in steps:  # engines allocate, and kernels compile, when they run for the first time
            submit(stream)
            stream.synchronize()
        actions = []
        if self._settings.graph:
            steps = _merged(steps)
            steps = [
                (stage, stream, captured(self._device, self._engine, submit, stream, warm=True))
                for stage, stream, submit in steps
            ]
        before: Stream | None = None
        for stage, stream, submit in steps:
            if before is not None and stream is not before:
                event = self._device.event()
                actions += [(stage, partial(before.record, event)), (stage, partial(stream.wait, event))]
            actions.append((stage, partial(submit, stream)))
            before = stream
        assert before is not None
        return Lane(slot, context, [*actions, (Stage.DOWNLOAD, partial(slot.submitted, before))])

    def _context(self, number: int) -> Context:
        """The execution context of that stream; from the second time on a sibling of it."""
        if number < len(self._contexts):
            return self._contexts[number].sibling(self._device)
        self._contexts.append(self._engine.context(self._device))
        return self._contexts[-1]

    def _upload(self, slot: Slot, context: Context) -> _Submit:
        if (letterboxer := self._letterboxer) is None:
            return partial(context.upload, slot.input)
        device, source, target = self._device, slot.input, context.buffers[self._input.name]
        frames = device.empty_device(source.nbytes)

        def submit(stream: Stream) -> None:
            device.upload(source, frames, stream)
            letterboxer.launch(frames, target, stream)

        return submit

    def _download(self, slot: Slot, context: Context, stream: Stream) -> _Submit:
        device, decoder = self._device, self._decoder
        if decoder is None:
            return partial(context.download, slot.outputs)
        output, scratch = context.buffers[self._output.name], decoder.scratch(stream)
        target = slot.outputs[decoder.result.name]
        results = device.empty_device(target.nbytes)

        def submit(stream: Stream) -> None:
            decoder.launch(output, scratch, results, stream)
            device.download(results, target, stream)

        return submit


def _merged(steps: list[tuple[Stage, Stream, _Submit]]) -> list[tuple[Stage, Stream, _Submit]]:
    """Steps that follow each other in one stream as one step, so that one graph holds them."""
    if len({id(stream) for _, stream, _ in steps}) > 1:
        return steps
    submits = [submit for _, _, submit in steps]

    def submit(stream: Stream) -> None:
        for each in submits:
            each(stream)

    return [(Stage.INFER, steps[0][1], submit)]
