"""What all loops have in common: a run, from the recorder to the recording, however it ends, and captures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

from ..devices.base import Device, Stream
from ..engines.base import Engine
from ..errors import CaptureError, EngineError, ModelError, SettingsError
from ..recording import FrameRecorder, Recording, machine_info
from ..types import Detections
from .settings import LoopSettings


def captured(
    device: Device, engine: Engine, submit: Callable[[Stream], None], stream: Stream
) -> Callable[[Stream], None]:
    """What submits the work of `submit(stream)` as one CUDA graph. It has to have run once before.

    CaptureError where the engine, whose work is in it, cannot be captured.
    """
    try:
        return device.capture(partial(submit, stream), stream).launch
    except EngineError as error:
        if isinstance(error, CaptureError):
            raise
        raise CaptureError(
            f"{engine.label} cannot be captured: {error.message}", fix="use graph=False", log=error.log
        ) from error


class Loop(ABC):
    """A loop that is ready to run. With `postprocess` the boxes of the latest frame are in `detections`, and
    `on_boxes(frame, boxes)` is called for every frame after the warm-up.

    ModelError for an engine of several inputs: a loop fills one.
    """

    _recorder: FrameRecorder

    def __init__(
        self,
        device: Device,
        engine: Engine,
        settings: LoopSettings,
        on_boxes: Callable[[int, Detections], None] | None,
    ) -> None:
        if len(engine.inputs) != 1:
            names = ", ".join(spec.name for spec in engine.inputs)
            raise ModelError(f"{engine.label} has the inputs {names}", fix="export a model whose only input are images")
        self.device, self.engine, self.settings = device, engine, settings
        self.on_boxes = on_boxes
        self.detections: Detections | None = None
        self._machine = machine_info()
        self._busy = Lock()

    def run(self, path: str | Path | None = None, *, label: str = "", command: str = "") -> Recording:
        """Run the loop to its end, or to that of its sources, and return every frame; the warm-up is numbered from
        -`warmup` and marked.

        With `path` the recording is saved there, a long one bit by bit. After an error (a full disk, say) or Ctrl-C
        what was recorded is kept and every slot given back, so that the loop can run again. SettingsError while it
        runs already.
        """
        if not self._busy.acquire(blocking=False):
            raise SettingsError("this loop is running already", fix="make a loop for each thread")
        try:
            recorder = self._recorder = FrameRecorder(
                path,
                source=self.device.source,
                machine=self._machine,
                settings=self._recorded_settings(),
                label=label,
                command=command,
            )
            try:
                self._run()
            except BaseException:
                self._abandon()
                raise
            finally:
                recording = recorder.finish()
        finally:
            self._busy.release()
        return recording

    def _recorded_settings(self) -> dict[str, Any]:
        return {**asdict(self.settings), "engine": self.engine.label}

    @abstractmethod
    def _run(self) -> None:
        """All frames, each into the recorder. What belongs to one thread, such as ranges, is made here."""

    @abstractmethod
    def _abandon(self) -> None:
        """After an error: let the GPU finish what it has, and give every slot back."""
