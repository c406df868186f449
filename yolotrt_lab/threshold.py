"""A threshold that leaves work for the search for boxes, whatever the weights of the network are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .devices.base import Device
from .engines.base import Engine
from .types import HostMemory
from .vision import Letterbox


def confidence_for(device: Device, engine: Engine, images: Sequence[np.ndarray], boxes: int = 20) -> float:
    """A threshold above which a frame of `images` has about that many candidates, whatever the weights are.

    With seeded weights scores mean nothing; with this threshold there is work for the search for boxes all the same.
    It lies in the middle of a gap between two scores, so that rounding moves no candidate across it.
    """
    spec, out, letterbox = engine.inputs[0], engine.outputs[0], Letterbox()
    context, stream = engine.context(device), device.stream()
    batch = device.empty_host(spec.shape, spec.dtype, HostMemory.PAGEABLE)
    output = device.empty_host(out.shape, out.dtype, HostMemory.PAGEABLE)
    scores = []
    for image in images:
        for item in batch.array:
            letterbox(image, item)
        device.upload(batch, context.buffers[spec.name], stream)
        context.enqueue(stream)
        device.download(context.buffers[out.name], output, stream)
        stream.synchronize()
        scores.append(output.array[0, 4:].astype(np.float32).max(axis=0))
    ordered = np.sort(np.concatenate(scores))[::-1]
    wanted = boxes * len(images)
    near = ordered[wanted // 2 : 2 * wanted]
    widest = int(np.argmax(near[:-1] - near[1:]))
    return float((near[widest] + near[widest + 1]) / 2)
