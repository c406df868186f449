"""What a trace is found to show, with exact numbers, and what it is not."""

import pytest
from tiny_report import TinyReport, pageable_frame

from yolotrt_lab.nsight.findings import FindingKind, findings
from yolotrt_lab.nsight.reports import read_trace

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


def busy_frame(report, frame, *, memory="Pinned", download=(4, 100), sync=(100, 104), kernel=(10, 90)):
    """A frame of 110 us, in us: a launch from 1 to 3, a kernel, a download call and a synchronize call."""
    begin, first = frame * 110, 1 + 3 * frame
    report.range("frame", begin * US, (begin + 110) * US)
    report.call("cudaLaunchKernel", (begin + 1) * US, (begin + 3) * US, first)
    report.kernel("k", (begin + kernel[0]) * US, (begin + kernel[1]) * US, first)
    report.call("cudaMemcpyAsync", (begin + download[0]) * US, (begin + download[1]) * US, first + 1)
    report.copy("d2h", memory, (begin + 90) * US, (begin + 99) * US, first + 1)
    report.call("cudaStreamSynchronize", (begin + sync[0]) * US, (begin + sync[1]) * US, first + 2)


def test_a_wait_that_moved_into_a_download(found):
    report = TinyReport()
    for frame in range(4):
        busy_frame(report, frame, memory="Pageable")
    by_kind = found(report)
    moved = by_kind[FindingKind.MOVED_WAIT]
    assert moved.numbers == {"copies": 4, "call_ns": 96 * US, "moved_ns": 80 * US, "synchronize_ns": 4 * US}
    assert by_kind[FindingKind.BACKLOG_COPIES].numbers["backlog_ns"] == 80 * US
    # Pinned, the download still waits for the kernel: only what is left of its call can be saved.
    assert by_kind[FindingKind.PAGEABLE_COPIES].numbers["gain_ns"] == 16 * US


def test_a_pinned_download_moves_no_wait(found):
    report = TinyReport()
    for frame in range(4):
        busy_frame(report, frame, download=(4, 8), sync=(8, 104))
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


def test_synchronize_calls_that_wait_for_others_or_for_nothing(found):
    for other, kind in ((True, FindingKind.OTHER_WORK), (False, FindingKind.UNEXPLAINED_WAIT)):
        report = TinyReport()
        for frame in range(3):
            begin, first = frame * 200, 1 + 2 * frame
            report.range("frame", begin * US, (begin + 200) * US)
            report.call("cudaLaunchKernel", (begin + 1) * US, (begin + 3) * US, first)
            report.kernel("k", (begin + 150) * US, (begin + 190) * US, first)
            report.call("cudaStreamSynchronize", (begin + 10) * US, (begin + 195) * US, first + 1)
            if other:
                report.kernel("neighbour", (begin + 10) * US, (begin + 150) * US, 1, pid=20)
        by_kind = found(report)
        name = "other_streams_ns" if other else "nothing_ns"
        assert by_kind[kind].numbers[name] == 140 * US
        assert set(by_kind) == {kind}


def test_copies_that_the_host_never_waits_for_have_nothing_to_gain(found):
    for wait, told in ((30, True), (2, False)):
        report = TinyReport()
        for frame in range(4):
            begin, first = frame * 200, 1 + 3 * frame
            report.range("frame", begin * US, (begin + 200) * US)
            report.call("cudaMemcpyAsync", begin * US, (begin + 1) * US, first)
            report.copy("h2d", "Pinned", (begin + 1) * US, (begin + 41) * US, first)
            report.call("cudaLaunchKernel", (begin + 2) * US, (begin + 3) * US, first + 1)
            report.kernel("k", (begin + 41) * US, (begin + 100) * US, first + 1)
            report.call("cudaStreamSynchronize", (begin + 100 - wait) * US, (begin + 100) * US, first + 2)
        finding = found(report).get(FindingKind.SERIAL_COPIES)
        assert (finding is not None) == told
        if told:  # of the 40 us of a copy it waits for 1 in the copy's call and 30 in synchronize
            assert finding.numbers["gain_ns"] == 31 * US


def test_frames_without_ranges_are_cut_at_synchronize_calls(found):
    report = frames()
    del report.rows["NVTX_EVENTS"]
    assert found(report)[FindingKind.PAGEABLE_COPIES].numbers["call_ns"] == 300 * US


def test_pageable_uploads_with_frames_in_flight_may_save_their_whole_call(found):
    report = TinyReport()
    for frame in range(6):
        begin, first = frame * 100, 1 + 3 * frame
        report.range("frame", begin * US, (begin + 100) * US)
        report.call("cudaMemcpyAsync", (begin + 1) * US, (begin + 90) * US, first)
        report.copy("h2d", "Pageable", (begin + 60) * US, (begin + 89) * US, first)
        report.call("cudaLaunchKernel", (begin + 91) * US, (begin + 94) * US, first + 1)
        report.kernel("k", (begin + 95) * US, (begin + 160) * US, first + 1)
    by_kind = found(report)
    assert by_kind[FindingKind.BACKLOG_COPIES].numbers["backlog_ns"] == 59 * US
    assert by_kind[FindingKind.PAGEABLE_COPIES].numbers["gain_ns"] == 89 * US
