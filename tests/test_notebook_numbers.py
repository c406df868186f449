"""What notebooks 00 to 05 say of times, in prose and titles, is what the shipped data says.

Times of host calls and frames come from untraced runs. From traces come only GPU times and what a wait consists of, and
two host times that are named as a profiler's.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import yolotrt_lab as lab
from yolotrt_lab import causes, nsight
from yolotrt_lab.types import Stage

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
TIME = re.compile(r"(?<![\d.])(\d[\d,]*(?:\.\d+)?) (ms|us|frames/s)\b")
SET_UP = {"00": set(), "01": set(), "02": {"5 ms", "1 ms"}, "03": {"0.4 ms"}, "04": set(), "05": {"100 ms"}}
"""Times that an experiment sets, and that nobody measured."""


@cache
def said(number: str) -> str:
    """The prose and the titles of figures of a notebook, in one line."""
    (path,) = NOTEBOOKS.glob(f"{number}_*.ipynb")
    texts = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            texts.append(source)
        else:
            texts += re.findall(r'title ?= ?"([^"]*)"', source)
    return " ".join(" ".join(texts).split())


@cache
def levels() -> dict[str, dict[str, float]]:
    """The report's curve at A, B and C."""
    found = causes.report_levels(lab.Recording.shipped("report"))
    return {"A": found[0, False], "B": found[20, False], "C": found[20, True]}


def preprocess_ms(processes: int, *, pinned: bool) -> float:
    steady = lab.Recording.shipped("report").steady
    chosen = (steady.columns["processes"] == processes) & (steady.columns["pinned"] == pinned)
    return float(np.median(steady.stage_ns(Stage.PREPROCESS)[chosen])) / 1e6


def report_numbers() -> list[str]:
    threads = json.loads(lab.lab_path("data", "threads.json").read_text(encoding="utf-8"))["threads"]
    (public,) = (each["milliseconds"] for each in threads if "milliseconds" in each)
    copy, upload, wait = (public[f"{call}"] for call in ("copy_from_Mat", "cudaMemcpyAsync", "cudaStreamSynchronize"))
    host = {round(whole - part, 3) for whole, part in zip(copy, upload, strict=True)}
    assert host == {1.2}
    return [
        *(f"`{call}` {first} -> {last} ms" for call, (first, last) in public.items()),
        f"{wait[0]} ms",
        f"{wait[1]} ms",
        f"from {wait[0]} to {wait[1]} ms",
        f"from {upload[0]} to {upload[1]} ms",
        f"it takes {host.pop()} ms more than its copy at the start, and 1.2 ms more at the end",
        f"{upload[1]} of about {copy[1] + wait[1]:.0f} ms",
        f"need not be {wait[1] / wait[0]:,.0f} times slower",
    ]


def curve() -> list[str]:
    a, b, c = (levels()[mark] for mark in "ABC")
    sync, upload = "cudaStreamSynchronize", "cudaMemcpyAsync"
    host = [each["copy_from_Mat"] - each[upload] for each in (a, b)]
    fresh, once = preprocess_ms(0, pinned=False), preprocess_ms(0, pinned=True)
    steady = lab.Recording.shipped("report").steady
    worst = (steady.columns["processes"] == 20) & (steady.columns["pinned"] == 0)
    mean = sum(float(steady.stage_ns(stage)[worst].mean()) for stage in Stage) / 1e6
    frame = float((steady.columns["done_ns"] - steady.columns["start_ns"])[worst].mean()) / 1e6
    calls = b["copy_from_Mat"] + b["enqueueV3"] + b[sync]
    return [
        f"the three calls make {calls:.1f} ms of a frame of {b['frame']:.1f} in the left column",
        f"all stages make {mean:.1f} ms of a frame of {frame:.1f}",
        f"Synchronize climbs from {a[sync]:.3f} to {b[sync]:.0f} ms",
        f"Of {b[sync]:.0f} ms",
        f"takes {a[sync]:.3f} ms: by the time",
        f"ynchronize takes {b[sync]:.1f} ms",
        f"Synchronize takes {c[sync]:.1f} ms",
        f"where it took {a[sync]:.4f}",
        f"drops from {b[upload]:.3f} to {c[upload]:.3f} ms",
        f"{c['frame']:.1f} instead of {b['frame']:.1f} ms",
        f"goes from {b['frame']:.1f} to {c['frame']:.1f} ms",
        f"takes {a['frame']:.1f} ms alone and {b['frame']:.1f} ms beside twenty, **nine times** as long",
        f"synchronize {a[sync]:.4f} and {b[sync]:.1f} ms, **{round(b[sync] / a[sync], -2):,.0f} times**",
        f"from {host[0]:.1f} to {host[1]:.1f} ms. The processor cores",
        f"preprocessing takes {fresh:.2f} ms into a fresh array, and {once:.2f} ms into memory",
    ]


def cameras() -> list[str]:
    found = causes.camera_levels(lab.Recording.shipped("cameras"))
    one, pageable, pinned = found[1, False], found[8, False], found[8, True]
    assert max(found[count, True]["upload"] for count in (1, 2, 4, 8)) < 0.01
    return [
        f"climbs from {one['upload']:.2f} to {pageable['upload']:.2f} ms",
        f"eight threads get {pageable['frames/s']:,.0f} frames/s",
        f"the call stays below 0.01 ms, and they get {pinned['frames/s']:,.0f}",
        f"eight cameras serve {pageable['frames/s']:,.0f} frames/s from pageable memory and {pinned['frames/s']:,.0f}",
        f"**{pinned['frames/s'] / pageable['frames/s']:.1f} times** as many",
    ]


def moved_wait() -> list[str]:
    steady = lab.Recording.shipped("moved-wait").steady
    synchronize, download = (np.median(steady.stage_ns(stage)) for stage in (Stage.SYNCHRONIZE, Stage.DOWNLOAD))
    return [
        f"A synchronize of {synchronize / 1e6:.3f} ms, made to order",
        f"synchronize takes {synchronize / 1e3:.1f} us, and `download` has the whole wait, {download / 1e3:.0f} us",
    ]


def in_cpp() -> list[str]:
    found = causes.report_levels(lab.Recording.shipped("public-program"))
    alone, beside, pinned = found[0, False], found[20, False], found[20, True]
    copy, sync, upload = "copy_from_Mat", "cudaStreamSynchronize", "cudaMemcpyAsync"
    return [
        f"`copy_from_Mat` goes from {alone[copy]:.2f} to {beside[copy]:.2f} ms and synchronize from {alone[sync]:.2f} "
        f"to {beside[sync]:.1f}: the report's numbers",
        f"the upload call takes {pinned[upload]:.2f} ms instead of {beside[upload]:.2f}, and the frame stays: "
        f"{beside['frame']:.1f} ms pageable, {pinned['frame']:.1f} pinned",
        f"Alone it goes from {alone['frame']:.2f} to {found[0, True]['frame']:.2f} ms",
    ]


def traced() -> list[str]:
    a, b, c = (nsight.attribute(nsight.shipped_trace(f"report-{mark}")) for mark in "abc")
    preprocess = preprocess_ms(20, pinned=False)
    wait, nothing = us(b.frames["synchronize_ns"]) / 1e3, us(b.waits_ns("nothing")) / 1e3
    copied = [us(each.copied("gpu_ns", "h2d")) for each in (b, c)]
    late = b.waits_ns("wake_up")
    bar = sum(np.mean(b.waits_ns(each)[3:]) for each in nsight.WAITS) / 1e6
    return [
        f"B's bar is {bar:.1f} ms, its row of synchronize {wait:.1f}:",
        f"{us(late):.0f} us in the median and {np.mean(late[3:]) / 1e3:.0f} in the mean",
        f"in A, {us(a.waits_ns('nothing')):.1f} of {us(a.frames['synchronize_ns']):.1f} us",
        f"Kernels: {us(a.frames['kernels_ns']):.0f} us alone, {us(b.frames['kernels_ns']):.0f} beside twenty",
        f"Of {wait:.1f} ms in B, {nothing:.1f} are time in which",
        f"{copied[1]:.0f} instead of {copied[0]:.0f} us",
        f"In B it takes {us(b.frames['preprocess_ns']) / 1e3:.1f} ms to preprocess, and without it {preprocess:.1f}",
        f"Of {wait:.1f} ms of synchronize in B, this loop's kernels are {us(b.frames['kernels_ns']) / 1e3:.2f}",
    ]


def us(times_ns: np.ndarray) -> float:
    """As the tables have it: the median over all frames but the first three."""
    return float(np.median(times_ns[3:])) / 1e3


def profiler() -> list[str]:
    added = json.loads(lab.lab_path("data", "traces", "h200", "profiler.json").read_text(encoding="utf-8"))
    pageable, pinned = added["graph-pageable"], added["graph-pinned"]
    untraced, by_graph, by_node = pageable
    assert untraced == "untraced"
    saved = {way: {part: pageable[way][part] - pinned[way][part] for part in pinned[way]} for way in pageable}
    more = {part: saved[by_graph][part] - saved[untraced][part] for part in ("upload", "synchronize")}
    seen, real = saved[by_graph]["frame"], saved[untraced]["frame"]
    return [
        f"Pinning takes **{real:.0f} us** off this frame. Under nsys it seems to take {seen:.0f}, "
        f"or {saved[by_node]['frame']:.0f} with nodes",
        f"Of the {seen - real:.0f} us too many, the upload call gives {more['upload']:.0f} and synchronize "
        f"{more['synchronize']:.0f}",
        f"the upload call's {saved[untraced]['upload']:.0f} us",
        f"synchronize gets {-saved[untraced]['synchronize']:.0f} us *longer*",
        f"a profiler says that pinning saves {seen / 1e3:.2f} ms",
        f"where the profiler says {seen / 1e3:.2f} ms, the saving is {real / 1e3:.2f}.",
    ]


SAYS = {
    "00": (report_numbers, curve),
    "01": (report_numbers, curve, cameras),
    "02": (report_numbers, curve, moved_wait),
    "03": (report_numbers, curve, cameras, in_cpp),
    "04": (curve, traced, profiler),
    "05": (),
}


@pytest.mark.parametrize("number", SAYS)
def test_no_time_is_said_that_the_data_does_not(number):
    text = said(number)
    for phrase in sorted((phrase for source in SAYS[number] for phrase in source()), key=len, reverse=True):
        text = text.replace(phrase, "")
    assert {" ".join(time) for time in TIME.findall(text)} - SET_UP[number] == set()


@pytest.mark.parametrize("source", [report_numbers, curve, cameras, in_cpp, moved_wait, traced, profiler])
def test_what_the_data_says_is_said(source):
    texts = [said(number) for number, sources in SAYS.items() if source in sources]
    assert [phrase for phrase in source() if not any(phrase in text for text in texts)] == []
