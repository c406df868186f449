"""What a trace is found to show, with exact numbers, and what it is not."""

import pytest
from tiny_report import TinyReport, pageable_frame

from yolotrt_lab.nsight.reports import read_trace
from yolotrt_lab.nsight.trace_findings import FindingKind, findings

US = 1_000


@pytest.fixture
def found(tmp_path):
    """Writes a report, reads it and returns its findings by kind."""

    def read(report, **options):
        listed = findings(read_trace(report.write(tmp_path / "r.sqlite")), **options)
        assert len({(finding.kind, finding.text) for finding in listed}) == len(listed)
        return {finding.kind: finding for finding in listed}

    return read


def frames(count=5, **options):
    report = TinyReport()
    for frame in range(count):
        pageable_frame(report, frame * 1_000 * US, 1 + 4 * frame, **options)
    return report


@pytest.mark.parametrize("driver", [False, True], ids=["runtime", "driver"])
def test_pageable_copies_are_all_named_and_no_pinned_one(found, driver):
    report = frames(driver=driver)
    report.copy("h2d", "Pageable", 6_000 * US, 6_001 * US, 900, nbytes=7)
    finding = found(report)[FindingKind.PAGEABLE_COPIES]
    assert finding.rows.tolist() == [0, 2, 4, 6, 8, 10]
    assert finding.numbers == {
        "copies": 6,
        "total_bytes": 20_000_007,
        "frames": 5,
        "total_call_ns": 1_500 * US,
        "bytes": 4_000_000,
        "call_ns": 300 * US,
        "gpu_ns": 280 * US,
        "gain_ns": 300 * US,
    }
    assert finding.text == (
        "6 copies to the GPU from pageable memory, 20.0 MB in all: in a frame their calls hold the host for 300.0 us; "
        "pinned memory saves at most 300.0 us of it."
    )


def test_pageable_copies_of_two_processes_are_named(found):
    report = frames(2)
    for frame in range(2):
        pageable_frame(report, (frame * 1_000 + 400) * US, 1 + 4 * frame, pid=20, tid=21)
    finding = found(report)[FindingKind.PAGEABLE_COPIES]
    assert len(finding.rows) == 4
    assert (finding.numbers["frames"], finding.numbers["call_ns"]) == (4, 300 * US)


def test_without_frames_pageable_copies_are_named_all_the_same(found):
    report = TinyReport()
    report.copy("d2h", "Pageable", 0, 10, 1, nbytes=1_000_000)
    report.copy("d2h", "Pinned", 20, 30, 2, nbytes=1_000_000)
    by_kind = found(report)
    assert list(by_kind) == [FindingKind.PAGEABLE_COPIES]
    assert by_kind[FindingKind.PAGEABLE_COPIES].numbers == {"copies": 1, "total_bytes": 1_000_000}
    assert by_kind[FindingKind.PAGEABLE_COPIES].text == "1 copies from the GPU to pageable memory, 1.0 MB in all."


def test_a_pageable_loop_that_takes_turns(found):
    by_kind = found(frames())
    assert set(by_kind) == {FindingKind.PAGEABLE_COPIES, FindingKind.SERIAL_COPIES, FindingKind.GAPS}
    serial = by_kind[FindingKind.SERIAL_COPIES].numbers
    assert serial == {
        "copies_ns": 330 * US,
        "kernels_ns": 500 * US,
        "upload_ns": 280 * US,
        "download_ns": 50 * US,
        "gain_ns": 330 * US,
    }
    gaps = by_kind[FindingKind.GAPS].numbers
    # 170 us without anything on the GPU, 10 of them as the synchronize call returns.
    assert (gaps["gap_ns"], gaps["idle_outside_ns"], gaps["idle_in_copy_ns"]) == (160 * US, 120 * US, 30 * US)


def loop(count, length, **steps):
    """Frames of `length` us; each step is (start, end) of a call, and with it what the GPU did: all in us.

    `launch` and `upload` and `download` have (call, GPU work); copies have the kind of their memory too.
    """
    report = TinyReport()
    for frame in range(count):
        begin = frame * length * US
        report.range("frame", begin, begin + length * US)
        for number, (step, (call, *work)) in enumerate(steps.items(), 1 + frame * len(steps)):
            name = {"launch": "cudaLaunchKernel", "synchronize": "cudaStreamSynchronize"}.get(step, "cudaMemcpyAsync")
            report.call(name, *(begin + us * US for us in call), number)
            if work:
                start, end = (begin + us * US for us in work[0])
                if step == "launch":
                    report.kernel("k", start, end, number)
                else:
                    report.copy({"upload": "h2d", "download": "d2h"}[step], work[1], start, end, number)
    return report


def test_a_wait_that_moved_into_a_download(found):
    launch, download = ((1, 3), (10, 90)), ((4, 100), (90, 99), "Pageable")
    by_kind = found(loop(4, 110, launch=launch, download=download, synchronize=((100, 104),)))
    moved = by_kind[FindingKind.MOVED_WAIT]
    assert moved.numbers == {"copies": 4, "call_ns": 96 * US, "moved_ns": 80 * US, "synchronize_ns": 4 * US}
    assert by_kind[FindingKind.BACKLOG_COPIES].numbers["backlog_ns"] == 80 * US
    # Pinned, the download still waits for the kernel: only what is left of its call can be saved.
    assert by_kind[FindingKind.PAGEABLE_COPIES].numbers["gain_ns"] == 16 * US


def test_a_pinned_download_moves_no_wait(found):
    launch, download = ((1, 3), (10, 90)), ((4, 8), (90, 99), "Pinned")
    report = loop(4, 110, launch=launch, download=download, synchronize=((8, 104),))
    assert not {FindingKind.MOVED_WAIT, FindingKind.BACKLOG_COPIES} & set(found(report))


def test_launches_that_the_gpu_waits_for(found):
    report = TinyReport()
    for frame in range(3):
        begin = frame * 1_000
        report.range("frame", begin * US, (begin + 600) * US)
        for launch in range(10):
            at = begin + 50 * launch
            number = 100 * frame + launch + 1
            report.call("cuLaunchKernel", at * US, (at + 20) * US, number)
            report.kernel("k", (at + 20) * US, (at + 40) * US, number)
        report.call("cuStreamSynchronize", (begin + 475) * US, (begin + 500) * US, 100 * frame + 90)
    finding = found(report)[FindingKind.LAUNCH_BOUND]
    # From 0 to 470 us, with kernels for 9 * 20 us of it: the tenth begins as the last launch ends.
    assert finding.numbers == {"launches": 10, "span_ns": 470 * US, "in_launch_ns": 200 * US, "gain_ns": 290 * US}


@pytest.mark.parametrize("kind", [FindingKind.OTHER_WORK, FindingKind.UNEXPLAINED_WAIT])
def test_synchronize_calls_that_wait_for_others_or_for_nothing(found, kind):
    report = loop(3, 200, launch=((1, 3), (150, 190)), synchronize=((10, 195),))
    if kind is FindingKind.OTHER_WORK:
        for begin in (0, 200, 400):
            report.kernel("another process's", (begin + 10) * US, (begin + 150) * US, 1, pid=20)
    by_kind = found(report)
    name = "other_streams_ns" if kind is FindingKind.OTHER_WORK else "nothing_ns"
    assert by_kind[kind].numbers[name] == 140 * US
    assert set(by_kind) == {kind}


@pytest.mark.parametrize(("wait", "gains"), [(30, [31 * US]), (2, [])])
def test_copies_that_the_host_never_waits_for_have_nothing_to_gain(found, wait, gains):
    """Of the 40 us of a copy the host waits for 1 in the copy's call, and for `wait` in synchronize."""
    upload, launch = ((0, 1), (1, 41), "Pinned"), ((2, 3), (41, 100))
    by_kind = found(loop(4, 200, upload=upload, launch=launch, synchronize=((100 - wait, 100),)))
    assert [by_kind[kind].numbers["gain_ns"] for kind in by_kind if kind == FindingKind.SERIAL_COPIES] == gains


def test_of_a_trace_without_frames_only_pageable_copies_are_told(found):
    report = frames()
    del report.rows["NVTX_EVENTS"]
    [finding] = found(report).values()
    assert finding.numbers == {"copies": 5, "total_bytes": 20_000_000}


def test_pageable_uploads_with_frames_in_flight_may_save_their_whole_call(found):
    by_kind = found(loop(6, 100, upload=((1, 90), (60, 89), "Pageable"), launch=((91, 94), (95, 160))))
    assert by_kind[FindingKind.BACKLOG_COPIES].numbers["backlog_ns"] == 59 * US
    assert by_kind[FindingKind.PAGEABLE_COPIES].numbers["gain_ns"] == 89 * US
