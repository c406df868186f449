"""Loops as students write them: what a GPU runs rightly passes, and what it gets wrong is refused."""

from __future__ import annotations

import re
import threading

import numpy as np
import pytest
from samples import sampled

import yolotrt_lab as lab
from yolotrt_lab.gym import trial

LOOP = """
def mine(frames, done):
    h = cupyx.empty_pinned(d_image.shape, d_image.dtype)
    for frame in frames:
        letterbox(frame, out=h)
        d_image.set(h, stream)
        context.execute_async_v3(stream.ptr)
        d_output.get(stream, out=h_output, blocking=False)
        stream.synchronize()
        done(h_output)
"""
MAKE = "    h = cupyx.empty_pinned(d_image.shape, d_image.dtype)\n"


def each(*lines):
    """Lines for each frame."""
    return "".join(f"        {line}\n" for line in lines)


FILL, UPLOAD, RUN, DOWNLOAD, WAIT, DONE = (each(line.strip()) for line in LOOP.splitlines()[4:])
RAW_UPLOAD = each("memcpy_async(d_image.data.ptr, h.ctypes.data, h.nbytes, TO_DEVICE, stream.ptr)")
CAPTURE = f"""
    stream.begin_capture()
{"".join(line[4:] for line in (UPLOAD, RUN, DOWNLOAD, ""))}    graph = stream.end_capture()
"""
TIMED = """
from contextlib import contextmanager

@contextmanager
def timed():
    begin = stream.record()
    yield
    end = stream.record()
    end.synchronize()
    cupy.cuda.get_elapsed_time(begin, end)
"""

# What stands in place of which part of LOOP
RIGHT = {
    "a fresh array": {FILL: each("fresh = letterbox(frame)"), UPLOAD: UPLOAD.replace("h,", "fresh,")},
    "a fresh array by its address": {FILL: each("h = letterbox(frame)"), UPLOAD: RAW_UPLOAD},
    "fresh arrays in tuples in a list": {
        "    for frame in frames": "    held = [(letterbox(frame), 1) for frame in frames]\n    for frame in held",
        FILL: "",
        UPLOAD: RAW_UPLOAD.replace("h.", "frame[0]."),
    },
    "written by NumPy": {FILL: each("h[:] = letterbox(frame)")},
    "written in the line of its upload": {FILL: "", UPLOAD: each("h[:] = letterbox(frame); d_image.set(h, stream)")},
    "a new pinned array each frame": {MAKE: "", FILL: each(MAKE.strip()) + FILL},
    "no pool": {MAKE: "    cupy.cuda.set_pinned_memory_allocator(None)\n" + MAKE},
    "alloc_pinned_memory": {
        MAKE: "    block = cupy.cuda.alloc_pinned_memory(d_image.nbytes)\n"
        "    h = np.frombuffer(block, d_image.dtype, d_image.size).reshape(d_image.shape)\n"
    },
    "zeros_pinned": {MAKE: MAKE.replace("empty", "zeros") + "    h_output = cupyx.empty_like_pinned(d_output)\n"},
    "registered": {
        MAKE: "    h = np.empty(d_image.shape, d_image.dtype)\n"
        "    cupy.cuda.runtime.hostRegister(h.ctypes.data, h.nbytes, 0)\n"
    },
    "a stream of its own": {MAKE: MAKE + "    stream = cupy.cuda.Stream(non_blocking=True)\n"},
    "ExternalStream": {MAKE: MAKE + "    stream = cupy.cuda.ExternalStream(globals()['stream'].ptr)\n"},
    "an entered stream": {"    for": "    with stream:\n     for", UPLOAD: UPLOAD.replace(", stream", "")},
    "a stream in use": {
        MAKE: MAKE + "    stream.use()\n",
        RUN: RUN.replace("stream", "cupy.cuda.get_current_stream()"),
    },
    "stream.done": {WAIT: each("while not stream.done: pass")},
    "event.done": {WAIT: each("event = stream.record()", "while not event.done: pass")},
    "an event": {WAIT: each("stream.record().synchronize()")},
    "the device": {WAIT: each("cupy.cuda.Device().synchronize()")},
    "the runtime": {WAIT: each("cupy.cuda.runtime.streamSynchronize(stream.ptr)")},
    "a blocking get": {DOWNLOAD: "", WAIT: "", DONE: each("done(d_output.get(stream))")},
    "results at the end": {
        "    for": "    kept = []\n    for",
        DONE: each("kept.append(h_output.copy())") + "    for each in kept: done(each)\n",
    },
    "a graph": {"    for": CAPTURE + "    for", UPLOAD: each("graph.launch(stream)"), RUN: "", DOWNLOAD: ""},
    "timed in a context manager": {
        "def": TIMED + "\ndef",
        RUN: each("with timed(): context.execute_async_v3(stream.ptr)"),
    },
    "uploads and downloads in streams of their own": {
        "    for": "    up, down = (cupy.cuda.Stream(non_blocking=True) for _ in range(2))\n    for",
        UPLOAD: each("d_image.set(h, up)", "stream.wait_event(up.record())"),
        DOWNLOAD: each("down.wait_event(stream.record())", "d_output.get(down, out=h_output, blocking=False)"),
        WAIT: each("down.synchronize()"),
    },
    "two halves of one block": {
        MAKE: "    both = cupyx.empty_pinned((2, *d_image.shape), d_image.dtype)\n"
        "    uploaded = [cupy.cuda.Event() for _ in both]\n",
        "for frame in frames": "for i, frame in enumerate(frames)",
        FILL: each("h = both[i % 2]", "uploaded[i % 2].synchronize()", "h[:] = letterbox(frame)"),
        RUN: each("uploaded[i % 2].record(stream)", "both[1 - i % 2] = 0") + RUN,
        WAIT: WAIT,
    },
    "parts of a batch, each uploaded while the next is written": {
        MAKE: "    context, d_image, d_output = new_context(batch=4)\n"
        + MAKE
        + "    h_output = cupyx.empty_pinned(d_output.shape, d_output.dtype)\n",
        "for frame in frames": "for i, frame in enumerate(frames)",
        FILL: each("h[i % 4] = letterbox(frame)[0]"),
        UPLOAD: each("d_image[i % 4].set(h[i % 4], stream)", "if i % 4 < 3: continue"),
        DONE: each("for each in h_output: done(each)"),
    },
}

THREADED = """
import queue, threading

def mine(frames, done):
    free, full = queue.Queue(), queue.Queue()
    for _ in range(2):
        free.put(cupyx.empty_pinned(d_image.shape, d_image.dtype))
    def prefetch():
        for frame in frames:
            h, image = free.get(), letterbox(frame)
            FILL
        full.put(None)
    thread = threading.Thread(target=prefetch)
    thread.start()
    while (h := full.get()) is not None:
        d_image.set(h, stream)
        context.execute_async_v3(stream.ptr)
        d_output.get(stream, out=h_output, blocking=False)
        stream.synchronize()
        free.put(h)
        done(h_output)
    thread.join()
"""
FILLED = "np.copyto(h, image)\n            full.put(h)"


def function(source):
    names = {"np": np, "threading": threading}
    exec(compile(source, "mine.py", "exec"), names)
    return names["mine"]


def edited(changes):
    source = LOOP
    for old, new in changes.items():
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    return function(source)


# Each way to fill, to submit and to wait, to capture and to overlap; the others are other names of the same
KINDS = (
    *("a fresh array by its address", "written in the line of its upload", "a new pinned array each frame"),
    *("stream.done", "an event", "a blocking get", "results at the end", "a graph", "timed in a context manager"),
    *("uploads and downloads in streams of their own", "two halves of one block"),
)


@pytest.mark.parametrize("style", sampled(RIGHT, KINDS))
def test_what_a_gpu_runs_rightly_passes(style, gpu):
    checked = lab.gym.check(edited(RIGHT[style]), gpu)
    assert checked.passed, str(checked)


@pytest.mark.parametrize("fill", [FILLED, "h[:] = image; full.put(h)"])
def test_another_thread_may_prepare_frames(fill, gpu):
    checked = lab.gym.check(function(THREADED.replace("FILL", fill)), gpu)
    assert checked.passed, str(checked)


def test_what_lands_while_another_thread_runs_is_no_write_of_the_program(gpu):
    busy = FILLED + "\n            for _ in range(300): sum(range(50))"
    checked = lab.gym.check(function(THREADED.replace("FILL", busy)), gpu)  # NumPy lets threads run while it writes
    assert checked.passed, str(checked)


NEVER_KNOWN = "no wait says that the copy is over"
NOT_HELD = "that of a live array, got 4,915,200 bytes that none has"
WRONG = {
    "the wait before the download": (NEVER_KNOWN, {DOWNLOAD: WAIT + DOWNLOAD, WAIT + DONE: DONE}),
    "the event before the download": (
        NEVER_KNOWN,
        {DOWNLOAD: each("event = stream.record()") + DOWNLOAD, WAIT: each("event.synchronize()")},
    ),
    "another stream's wait": (NEVER_KNOWN, {WAIT: each("cupy.cuda.Stream(non_blocking=True).synchronize()")}),
    "asked once": (NEVER_KNOWN, {WAIT: each("stream.done")}),
    "refilled in flight": (NEVER_KNOWN, {RUN: each("letterbox(frame, out=h)") + RUN}),
    "refilled in flight by NumPy": (NEVER_KNOWN, {RUN: each("h[:] = 1") + RUN}),
    "refilled in the line of the upload": (NEVER_KNOWN, {UPLOAD: UPLOAD[:-1] + "; h[:] = 1\n"}),
    "refilled in the line of the wait": (NEVER_KNOWN, {WAIT: each("h[:] = 1; stream.synchronize()")}),
    "the part in flight of a block is refilled": (
        NEVER_KNOWN,
        {
            MAKE: "    both = cupyx.empty_pinned((2, *d_image.shape), d_image.dtype)\n    h = both[1]\n",
            RUN: each("both[0] = 0", "both[1, 0, 1] = 0") + RUN,
        },
    ),
    "an array that nobody holds": (NOT_HELD, {UPLOAD: RAW_UPLOAD.replace("h.ctypes", "letterbox(frame).ctypes")}),
    "an address of nothing": (NOT_HELD, {UPLOAD: RAW_UPLOAD.replace("h.ctypes.data", "1234")}),
    "nothing runs": ("the result of frame 0 must be the network's output", {RUN: ""}),
    "nothing is uploaded": ("the result of frame 0 must be the network's output", {UPLOAD: ""}),
    "each result twice": ("frame 1 must be its own, got that of frame 0", {DONE: 2 * DONE}),
    "results that are one array": (
        "frame 0 must be its own, got that of frame 15",
        {
            "    for": "    kept = []\n    for",
            DONE: each("kept.append(h_output)") + "    for each in kept: done(each)\n",
        },
    ),
    "a result on the device": ("use .get()", {DONE: each("done(d_output)")}),
    "device memory leaks": (
        "memory leaks: 4,000 more bytes of device memory",
        {"    for": "    kept = []\n    for", DONE: DONE + each("kept.append(cupy.empty(1000, np.float32))")},
    ),
    "registered memory leaks": (
        "memory leaks: 1 more pieces of registered memory",
        {FILL: each("h = letterbox(frame)", "cupy.cuda.runtime.hostRegister(h.ctypes.data, h.nbytes, 0)")},
    ),
    "a graph and no wait": (
        NEVER_KNOWN,
        {"    for": CAPTURE + "    for", UPLOAD: each("graph.launch(stream)"), RUN: "", DOWNLOAD: "", WAIT: ""},
    ),
    "a stream that is gone": (
        "a live stream",
        {MAKE: MAKE + "    ptr = cupy.cuda.Stream().ptr\n", RUN: RUN.replace("stream.ptr", "ptr")},
    ),
}


@pytest.mark.parametrize("fault", sampled(WRONG, every=3))
def test_what_a_gpu_gets_wrong_is_refused(fault, gpu):
    what, changes = WRONG[fault]
    checked = lab.gym.check(edited(changes), gpu)
    assert not checked.passed
    assert re.search(re.escape(what), str(checked)), str(checked)


def test_a_slot_that_is_given_back_too_early_to_another_thread(gpu):
    early = THREADED.replace("FILL", "letterbox(frame, out=h)\n            full.put(h)").replace("range(2)", "range(1)")
    early = early.replace("        free.put(h)\n        done", "        done").replace(
        "        context.",
        "        free.put(h)\n        __import__('time').sleep(0.01)  # the other thread fills it\n        context.",
    )
    said = str(lab.gym.check(function(early), gpu))
    assert NEVER_KNOWN in said or "while they were in flight" in said  # whichever thread comes first


@pytest.mark.parametrize("hangs", ["threading.Event().wait()", "while True: pass"])
def test_a_line_that_hangs_is_left_after_the_time_that_is_said(hangs, gpu, monkeypatch):
    monkeypatch.setattr(trial, "_MOST_SECONDS", 0.3)
    (found,) = lab.gym.check(edited({DONE: f"{DONE}    {hangs}\n"}), gpu).findings
    assert (found.what, found.lines) == ("the loop must end, got 0.3 s in one line", (("mine.py", 11),))
