"""Loops of PyTorch with one thing wrong in each, logged as people log: the bill must not be wrong and sure of any.

    python -m scripts.torch_loops FOLDER [LOOP ...]

on a GPU, with PyTorch, OpenCV and nvidia-ml-py; a loop takes some seconds. It writes NAME.log or NAME.csv, and beside
it telemetry in nvidia-smi's words. Those of an NVIDIA H200 are in `tests/data/cases/torch`, and
`tests/diagnose/test_torch.py` says what a bill of each may say.
"""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any, TextIO

import cv2
import numpy as np

SECONDS = 8.0
"""A loop that is not done by then ends."""
SMALL, LARGE = (np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8) for size in ((720, 1280), (1080, 1920)))
ON_GPU = """import sys, torch
a = torch.randn(int(sys.argv[1]), int(sys.argv[1]), device="cuda", dtype=torch.float16)
while True:
    for _ in range(8): a @ a
    torch.cuda.synchronize()"""
ON_HOST = "while True: sum(range(10_000))"
SMI = "timestamp, clocks.sm [MHz], clocks.max.sm [MHz], power.draw [W], temperature.gpu, memory.used [MiB], {}".format(
    ", ".join(f"clocks_event_reasons.{name}" for name in ("sw_power_cap", "sw_thermal_slowdown", "hw_thermal_slowdown"))
)


def network() -> Any:
    """Twenty-five convolutions in half precision, as slow as a small detector."""
    import torch

    layers: list[Any] = [torch.nn.Conv2d(3, 64, 3, 2, 1)]
    for place in range(24):
        layers += [torch.nn.Conv2d(64, 64, 3, 1 if place % 8 else 2, 1), torch.nn.SiLU()]
    return torch.nn.Sequential(*layers, torch.nn.Conv2d(64, 84, 1), torch.nn.Flatten(2)).cuda().half().eval()


class Loop:
    """One loop: a log, a network, and what a case changes of a frame."""

    def __init__(self, log: TextIO, style: str, net: Any) -> None:
        import torch

        self.torch, self.net, self.log, self.style = torch, net, log, style
        self.side, self.image, self.kept = 640, SMALL, list[Any]()
        self.processes: list[subprocess.Popen[bytes]] = []
        self.numbers, self.end, self.number = count(1), time.monotonic() + SECONDS, 0
        self.after: Callable[..., object] = lambda placed, out: None
        """What a case does at the end of a frame."""

    def frames(self, number: int) -> Iterator[int]:
        """So many frames, or as many as there is time for."""
        for self.number in range(number):
            if time.monotonic() < self.end:
                yield self.number

    def beside(self, script: str, *arguments: str, times: int = 1) -> None:
        """Start other processes; they end with the loop."""
        self.processes += [subprocess.Popen([sys.executable, "-c", script, *arguments]) for _ in range(times)]

    def write(self, times: dict[str, float]) -> None:
        """One frame's times, in seconds."""
        number, now = next(self.numbers), datetime.now()
        ms = {name: 1e3 * took for name, took in times.items()}
        if self.style == "csv":
            head = f"time,{','.join(f'{name}_ms' for name in ms)}\n" if number == 1 else ""
            self.log.write(f"{head}{now},{','.join(f'{took:.3f}' for took in ms.values())}\n")
        elif self.style == "stamped":
            self.log.write(f"[{now}] {', '.join(f'{name}: {took:.2f} ms' for name, took in ms.items())}\n")
        elif self.style == "lines":
            self.log.write("".join(f"frame {number}: {name} took {1e3 * took:.1f} us\n" for name, took in ms.items()))
        else:
            self.log.write(f"Frame {number}: {' | '.join(f'{name}={took:.3f}ms' for name, took in ms.items())}\n")

    def prepare(self) -> np.ndarray:
        """The frame as the network takes it, float16 (1, 3, side, side)."""
        return cv2.dnn.blobFromImage(self.image, 1 / 255, (self.side, self.side), swapRB=True).astype(np.float16)

    def upload(self, blob: np.ndarray) -> Any:
        """To the GPU, from pageable memory."""
        return self.torch.from_numpy(blob).cuda()

    def decode(self, found: np.ndarray) -> None:
        """Forty boxes compared with a hundred, as NMS does."""
        best = np.argsort(-found[0, 4:].max(0))[:100]
        boxes = found[0, :4, best].astype(np.float32)
        for box in boxes[:40]:
            np.abs(boxes - box).sum(1)

    def frame(self, *, synchronize: bool = True, grad: bool = False, due: float | None = None) -> None:
        """One frame and its line in the log."""
        marks, names = [time.perf_counter()], list[str]()

        def done(name: str) -> None:
            names.append(name)
            marks.append(time.perf_counter())

        blob = self.prepare()
        done("preprocess")
        placed = self.upload(blob)
        done("upload")
        with self.torch.set_grad_enabled(grad):
            out = self.net(placed)
        done("inference")
        if synchronize:
            self.torch.cuda.synchronize()
            done("sync")
        found = out.detach().cpu().numpy()
        done("download")
        self.decode(found)
        self.after(placed, out)
        done("postprocess")
        times = dict(zip(names, np.diff(marks).tolist(), strict=True))
        self.write(times | ({"total": marks[-1] - marks[0]} if due is None else {"latency": marks[-1] - due}))


Case = Callable[[Loop], None]
CASES: dict[str, tuple[str, Case]] = {}


def case(style: str) -> Callable[[Case], Case]:
    """Make a function a case, with the style of its log."""

    def keep(function: Case) -> Case:
        CASES[function.__name__] = style, function
        return function

    return keep


@case("plain")
def steady(loop: Loop) -> None:
    """Nothing wrong but pageable memory."""
    for _ in loop.frames(600):
        loop.frame()


@case("stamped")
def more_boxes(loop: Loop) -> None:
    """Postprocessing takes longer with every frame."""

    def after(*_: Any) -> None:
        boxes = np.ones((20 + 2 * loop.number, 4))
        for box in boxes:
            np.abs(boxes - box).sum(1)

    loop.after = after
    for _ in loop.frames(500):
        loop.frame()


@case("csv")
def kept_on_gpu(loop: Loop) -> None:
    """Inputs and outputs are kept: a leak of the GPU's memory, and nothing gets slower."""
    loop.after = lambda *both: loop.kept.append(both)
    for _ in loop.frames(600):
        loop.frame()


@case("stamped")
def freed_each_frame(loop: Loop) -> None:
    """PyTorch's cache is emptied after each frame: the next one allocates anew."""
    for _ in loop.frames(500):
        loop.frame()
        loop.torch.cuda.empty_cache()


@case("stamped")
def other_thread(loop: Loop) -> None:
    """From frame 200 on another thread submits eight images at a time to the same stream."""
    stop, batch = threading.Event(), loop.torch.zeros(8, 3, 640, 640, device="cuda").half()

    @loop.torch.no_grad()
    def submit() -> None:
        while not stop.wait(0.004):
            loop.net(batch)

    thread = threading.Thread(target=submit)
    for number in loop.frames(500):
        if number == 200:
            thread.start()
        loop.frame()
    stop.set()
    thread.join()


@case("csv")
def other_process(loop: Loop) -> None:
    """From about frame 250 on another process multiplies matrices on this GPU."""
    for number in loop.frames(800):
        if number == 200:
            loop.beside(ON_GPU, "4096")
        loop.frame()


@case("plain")
def no_synchronize(loop: Loop) -> None:
    """`.cpu()` waits for the network: the wait is in the download."""
    for _ in loop.frames(500):
        loop.frame(synchronize=False)


@case("lines")
def kept_graph(loop: Loop) -> None:
    """Autograd is on, and what it keeps is kept: memory grows."""
    loop.side = 320
    loop.after = lambda _, out: loop.kept.append(out)
    for _ in loop.frames(300):
        loop.frame(grad=True)


@case("csv")
def new_sizes(loop: Loop) -> None:
    """Every tenth frame has another size than the others, of sixteen."""
    for number in loop.frames(400):
        loop.side = 640 if number % 10 else 352 + 32 * (number // 10 % 16)
        loop.frame()


@case("stamped")
def busy_cores(loop: Loop) -> None:
    """From frame 250 on three processes a core work beside it."""
    import os

    for number in loop.frames(600):
        if number == 250:
            loop.beside(ON_HOST, times=3 * (os.cpu_count() or 8))
            loop.end = time.monotonic() + SECONDS
        loop.frame()


@case("plain")
def held_interpreter(loop: Loop) -> None:
    """From frame 250 on another thread of Python computes: each step waits for the interpreter."""
    stop = threading.Event()

    def compute() -> None:
        while not stop.is_set():
            sum(range(2_000))

    thread = threading.Thread(target=compute)
    for number in loop.frames(300):
        if number == 250:
            thread.start()
            loop.end = time.monotonic() + SECONDS
        loop.frame()
    stop.set()
    thread.join()


@case("csv")
def collected(loop: Loop) -> None:
    """Objects are kept, and Python looks through more of them each time: stalls that grow."""
    gc.set_threshold(700, 10, 3)
    for _ in loop.frames(800):
        loop.kept += [{"box": [place]} for place in range(400)]
        loop.frame()
    gc.set_threshold(700, 10, 10)


@case("plain")
def written(loop: Loop) -> None:
    """Every thirtieth frame is written to a file."""
    loop.after = lambda *_: loop.number % 30 or cv2.imwrite("/tmp/frame.png", SMALL)
    for _ in loop.frames(600):
        loop.frame()


@case("stamped")
def larger(loop: Loop) -> None:
    """From frame 300 on frames are 1080p instead of 720p, and the network's input 960 instead of 640."""
    for number in loop.frames(600):
        loop.side, loop.image = (640, SMALL) if number < 300 else (960, LARGE)
        loop.frame()


@case("plain")
def overload(loop: Loop) -> None:
    """Frames arrive every 2 ms, faster than they are served."""
    first = time.perf_counter()
    for number in loop.frames(500):
        loop.frame(due=first + 0.002 * number)


@case("plain")
def tracking(loop: Loop) -> None:
    """Each frame is compared with all before it."""

    def after(*_: Any) -> None:
        loop.kept.append(np.ones((50, 4)))
        for boxes in loop.kept:
            np.abs(boxes - loop.kept[-1]).sum()

    loop.after = after
    for _ in loop.frames(600):
        loop.frame()


@case("csv")
def pinned(loop: Loop) -> None:
    """Pinned memory that is filled in place, nothing wrong."""
    slot = loop.torch.empty(1, 3, 640, 640, dtype=loop.torch.float16).pin_memory()
    placed = loop.torch.empty_like(slot, device="cuda")

    def upload(blob: np.ndarray) -> Any:
        return placed.copy_(slot, non_blocking=True)

    prepare = loop.prepare
    loop.prepare = lambda: np.copyto(slot.numpy(), prepare())
    loop.upload = upload
    for _ in loop.frames(600):
        loop.frame()


@contextmanager
def telemetry(path: Path) -> Iterator[None]:
    """Ten times a second what `nvidia-smi --query-gpu` would say."""
    import pynvml as nvml

    nvml.nvmlInit()
    gpu, stop = nvml.nvmlDeviceGetHandleByIndex(0), threading.Event()

    def watch() -> None:
        with path.open("w") as file:
            print(SMI, file=file)
            while not stop.wait(0.1):
                reasons = nvml.nvmlDeviceGetCurrentClocksThrottleReasons(gpu)
                flags = ("Active" if reasons & bit else "Not Active" for bit in (0x4, 0x20, 0x40))
                clocks = (f"{ask(gpu, 1)} MHz" for ask in (nvml.nvmlDeviceGetClockInfo, nvml.nvmlDeviceGetMaxClockInfo))
                power, warm = nvml.nvmlDeviceGetPowerUsage(gpu) / 1e3, nvml.nvmlDeviceGetTemperature(gpu, 0)
                used = nvml.nvmlDeviceGetMemoryInfo(gpu).used >> 20
                now = datetime.now().strftime("%Y/%m/%d %H:%M:%S.%f")[:-3]
                print(now, *clocks, f"{power:.2f} W", warm, f"{used} MiB", *flags, sep=", ", file=file)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def main(folder: str, *chosen: str) -> None:
    """Run the loops, one after the other."""
    import torch

    torch.backends.cudnn.benchmark = True
    cv2.setNumThreads(4)
    net, out = network(), Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    for name, (style, run) in CASES.items():
        if chosen and name not in chosen:
            continue
        ending = ".csv" if style == "csv" else ".log"
        with (out / f"{name}{ending}").open("w") as log, telemetry(out / f"{name}.smi.csv"):
            loop = Loop(log, style, net)
            try:
                run(loop)
            finally:
                for process in loop.processes:
                    process.kill()
                    process.wait()
        del loop
        gc.collect()
        torch.cuda.empty_cache()
        print(name, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
