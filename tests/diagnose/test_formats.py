"""What a file is recognised as, and which columns are read: the labelled cases, and another example of each kind."""

from __future__ import annotations

import gzip
import io
import json
import re
import sqlite3
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from yolotrt_lab.diagnose import table_files
from yolotrt_lab.diagnose.formats import FORMATS, read, read_text
from yolotrt_lab.diagnose.measured import Measured, join
from yolotrt_lab.diagnose.words import numbers_of
from yolotrt_lab.errors import LabError, MeasurementsError, SettingsError
from yolotrt_lab.packages import shipped_file
from yolotrt_lab.recording import FRAME_COLUMNS, Recording
from yolotrt_lab.types import Source, SourceKind, Stage

CASES = Path(__file__).parents[1] / "data" / "cases"
KINDS = dict(line.split("\t")[:2] for line in (CASES / "logs" / "cases.tsv").read_text().splitlines()[1:])
COLUMNS = {
    "01x_deepstream_perf_40.log": ["frame"],
    "02x_print_cost_jitter_57.log": ["frame"],
    "04x_trtexec_old_40_lines.log": ["gpu_compute", "latency", "enqueue"],
    "05x_trtexec_copies_half_44.log": ["gpu_compute", "latency", "enqueue"],
    "07_cpp_cout_two_timers.log": ["infer"],
    "08_tensorrtx_warmup.log": ["frame"],
    "18_number_then_stage.log": ["preprocess", "infer"],
    "19x_pipe_stages_40.log": ["tot", "load", "preprocess", "net", "dec", "postprocess", "merge"],
    "20x_jetson_inference_reports.log": [
        *("preprocess", "Pre-Process CUDA", "infer", "Network CUDA", "postprocess", "Post-Process CUDA"),
        *("Visualize CPU", "Visualize CUDA", "frame", "Total CUDA"),
    ],
    "21x_elasped_40_frames.log": ["preprocess", "infer", "postprocess"],
    "34_glued_number.log": ["infer", "doInference"],
    "41b_ultralytics_sized_300.log": ["frame"],
    "45_cpp_infer_frame_cost.log": ["frame"],
    "53_periodic_three_syncs.csv": ["upload", "infer", "download", "synchronize"],
    "56_tgi_ramp_11_percent.log": ["frame", "validation_time", "queue_time", "infer", "time_per_token"],
    "64_moved_wait_contradiction.csv": ["upload", "infer", "download", "synchronize"],
    "66_trtexec_whole_log.log": ["gpu_compute", "latency", "enqueue"],
}
ENDS_MS = {  # the first and the last value of a column, read off the file by eye
    ("01x_deepstream_perf_40.log", "frame"): (20, 83.333),
    ("04x_trtexec_old_40_lines.log", "enqueue"): (0.539228, 0.483888),
    ("08_tensorrtx_warmup.log", "frame"): (6.83, 4.95),
    ("19x_pipe_stages_40.log", "net"): (24, 63),
    ("20x_jetson_inference_reports.log", "Network CUDA"): (4.3, 7.6),
    ("34_glued_number.log", "infer"): (38, 34),
    ("41b_ultralytics_sized_300.log", "frame"): (8, 11),
    ("53_periodic_three_syncs.csv", "synchronize"): (0.008, 1.3),
    ("56_tgi_ramp_11_percent.log", "queue_time"): (0.049382, 0.049382),
}


def text(said: str, unit: str | None = None, pattern: str | None = None) -> Measured:
    return read_text(said.encode(), "a.log", unit, pattern)


def ms(found: Measured) -> dict[str, list[float]]:
    return {name: (values / 1e6).round(6).tolist() for name, values in found.times_ns.items()}


@pytest.mark.parametrize("name", KINDS)
def test_a_labelled_case_is_of_its_kind_and_its_columns_are_read(name):
    found = read(CASES / "logs" / name)
    assert found.kind == KINDS[name]
    assert list(found.times_ns) == COLUMNS.get(name, [])
    assert {len(values) for values in found.times_ns.values()} <= {len(found)}
    assert all(np.isfinite(values).all() for values in found.times_ns.values())
    assert (len(found) or found.facts) and found.format and found.origin.startswith(name)
    assert (found.export == "") == (found.kind in ("frames", "telemetry"))
    for (case, column), ends in ENDS_MS.items():
        if case == name:
            assert ms(found)[column][:: len(found) - 1] == pytest.approx(ends, abs=1e-3)


def test_each_case_that_holds_a_series_says_its_columns():
    assert {name for name, kind in KINDS.items() if kind in ("frames", "rates")} == set(COLUMNS)


def test_what_a_case_does_not_read_is_named():
    found = read(CASES / "logs" / "07_cpp_cout_two_timers.log")
    assert [name.split(" time")[0] for name in found.unread] == ["preprocess", "infer", "postprocess"]
    assert all("--unit" in name for name in found.unread)
    with_unit = read(CASES / "logs" / "07_cpp_cout_two_timers.log", unit="ms")
    assert with_unit.unread == () and {"preprocess", "infer", "postprocess"} <= with_unit.times_ns.keys()
    assert ms(with_unit)["infer"][0] == 0.585472  # that beside its stages, not the 2.47 ms of all of them


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("03_trtexec_summary.log", {"enqueue": 7.86694, "gpu_compute": 7.14139, "h2d": 0.00814819}),
        ("05x_trtexec_copies_half_44.log", {"h2d": 1.93, "d2h": 1.61, "latency": 6.95}),
        ("11_nsys_cuda_api_sum.csv", {"cuModuleLoadData": 262.416874}),
        ("13_nvprof_summary.txt", {"[CUDA memcpy DtoH]": 129.91}),
        ("61_nsys_cuda_api_trace.csv", {"cuMemHostAlloc": 25.46068}),
        ("27_ort_profile.json", {"_kernel_time": 12.944}),
    ],
)
def test_summaries_hold_their_numbers_in_ms(name, facts):
    found = read(CASES / "logs" / name, unit="ms").facts
    assert {each: found[each] for each in facts} == pytest.approx(facts)


HOSTILE = {
    "fps.log": (["frame"], (8.0, 14.1)),
    "fpskey.log": (["frame"], (8.0, 8.0)),
    "bare_comma.log": (["preprocess", "infer", "synchronize"], (1.10, 1.05)),
    "colour.csv": (["upload", "infer", "synchronize", "latency"], (0.3369, 0.2836)),
    "esc.log": (["infer"], (7.1, 7.0)),
    "shuffled.csv": (["upload", "infer", "latency", "frame"], (1.09, 1.058)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_text_is_read(name):
    found = read(CASES / "hostile" / name, unit="ms" if name == "bare_comma.log" else None)
    columns, ends = HOSTILE[name]
    assert found.kind == "frames" and list(found.times_ns) == columns
    assert ms(found)[columns[0]][:: len(found) - 1] == pytest.approx(ends)
    assert not any(ord(letter) < 32 for letter in found.origin + "".join((*found.notes, *found.unread)))


def test_a_shuffled_table_is_sorted_and_says_so():
    found = read(CASES / "hostile" / "shuffled.csv")
    assert (np.diff(found.instants_ns["due"]) > 0).all() and "sorted by due time" in found.notes
    assert found.times_ns["latency"] == pytest.approx(found.instants_ns["done"] - found.instants_ns["due"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rev.parquet", r"^rev\.parquet: row 1 of the recording has a result before it is due$"),
        ("neg_warm_up.parquet", r"^neg_warm_up\.parquet: row 1 of the recording has a result before its frame starts$"),
        ("rows0.parquet", r"^rows0\.parquet: the recording must have frames, got no rows$"),
    ],
)
def test_a_recording_with_impossible_values_is_refused_with_its_row(name, message):
    with pytest.raises(MeasurementsError) as caught:
        read(CASES / "hostile" / name)
    assert re.search(message, caught.value.message) and caught.value.fix


def recording(**columns: np.ndarray) -> Recording:
    rows = {name: np.zeros(4, np.int64) for name in FRAME_COLUMNS} | {"warmup": np.array([True, False, False, False])}
    rows |= {"due_ns": np.arange(4) * 100, "start_ns": np.arange(4) * 100, "done_ns": np.arange(4) * 100 + 50} | columns
    source = Source(SourceKind.LIVE, "a GPU", "1", "2026-01-01")
    return Recording("frames", rows, source, settings={"input_memory": "pinned"})


def test_a_recording_gives_its_steady_frames_by_name():
    found = Measured.of(recording(upload_ns=np.arange(4), power_w=np.array([70.0, np.nan, 90.0, 80.0])))
    assert (len(found), found.kind, found.format) == (3, "frames", "recording of the lab")
    assert found.times_ns["latency"].tolist() == [50, 50, 50] and found.times_ns["upload"].tolist() == [1, 2, 3]
    assert {"frame", *map(str, Stage)} <= found.times_ns.keys() and found.instants_ns["due"].tolist() == [100, 200, 300]
    assert found.memory == {"input": "pinned"} and found.telemetry["power_w"][1:].tolist() == [90, 80]
    assert found.origin == "live on a GPU, driver 1, 2026-01-01"


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"upload_ns": np.array([1, 1, -1, 1])}, "row 3 of the recording has a time below 0"),
        ({"due_ns": np.array([0, 200, 100, 300]), "done_ns": np.full(4, 999)}, "row 3 .* before that of the row above"),
        ({"start_ns": np.array([0, 100, 200, 900])}, "row 4 .* a result before its frame starts"),
        ({"warmup": np.ones(4, np.bool_)}, "must have frames, got only warm-up frames"),
    ],
)
def test_values_of_a_recording_are_checked(columns, message):
    with pytest.raises(MeasurementsError, match=message):
        Measured.of(recording(**columns))


OTHERS = {
    "trtexec log": (
        "&&&& RUNNING TensorRT.trtexec\n"
        "[07/01/2025-10:00:00] [I] Average on 50 runs - GPU latency: 2.5 ms (enqueue 0.4 ms)\n"
        "[07/01/2025-10:00:01] [I] Average on 50 runs - GPU latency: 2.6 ms (enqueue 0.5 ms)\n",
        "frames", {"gpu_compute": [2.5, 2.6], "enqueue": [0.4, 0.5]},
    ),
    "trtexec --exportTimes": (
        '[\n  { "startEnqMs" : 0.5, "endEnqMs" : 0.75, "startH2dMs" : 0.6, "endH2dMs" : 1.0, "startComputeMs" : 1.0, '
        '"endComputeMs" : 2.5, "startD2hMs" : 2.5, "endD2hMs" : 2.75, '
        '"h2dMs" : 0.4, "computeMs" : 1.5, "d2hMs" : 0.25, "latencyMs" : 2.15 }\n]',
        "frames", {"latency": [2.15], "gpu_compute": [1.5], "h2d": [0.4], "d2h": [0.25], "enqueue": [0.25]},
    ),
    "trtexec --exportProfile": (
        '[{ "count" : 10 }, { "name" : "conv1", "timeMs" : 5.0, "averageMs" : 0.5 }]', "layers", {"conv1": 0.5}
    ),
    "profile of ONNX Runtime": (
        '[{"cat":"Node","pid":1,"dur":40,"ts":5,"ph":"X","name":"c_kernel_time","args":{"op_name":"Conv"}},\n'
        '{"cat":"Node","pid":1,"dur":60,"ts":9,"ph":"X","name":"c_kernel_time","args":{"op_name":"Conv"}},\n',
        "events", {"c_kernel_time": 0.1},
    ),
    "Chrome trace": (
        '{"schemaVersion": 1, "traceEvents": [{"ph": "X", "name": "aten::conv2d", "ts": 1, "dur": 2500, "tid": 1}]}',
        "events", {"aten::conv2d": 2.5},
    ),
    "nsys stats, a trace": (
        "\n ** CUDA GPU Trace (cuda_gpu_trace):\n\n Start (ns)  Duration (ns)  CorrId  Strm  Name\n"
        " ----------  -------------"
        "  ------  ----  ----\n    1000000        1500000      12     7  [CUDA memcpy Host-to-Device]\n",
        "events", {"[CUDA memcpy Host-to-Device]": 1.5},
    ),
    "nsys stats, a summary": (
        " ** CUDA API Summary (cudaapisum):\n\n"
        " Time (%)  Total Time (ns)  Num Calls   Avg (ns)   Med (ns)  Min (ns)  Max (ns)"
        "  StdDev (ns)          Name\n"
        " --------  ---------------  ---------  ---------  --------  --------  --------  -----------"
        "  --------------------\n"
        "     60.0        2,000,000         10  200,000.0  1,000.0     1,000   900,000     12,000.0"
        "  cudaStreamSynchronize\n",
        "summary", {"cudaStreamSynchronize": 2.0},
    ),
    "nvprof, a summary": (
        "==99== Profiling result:\nTime(%)      Time     Calls       Avg       Min       Max  Name\n"
        " 99.00%  1.5000s       100  15.0ms  1.0ms  20.0ms  [CUDA memcpy HtoD]\n",
        "summary", {"[CUDA memcpy HtoD]": 1500},
    ),
    "torch.profiler, a summary": (
        "---------------  ------------  ------------\n           Name    Self CPU %      Self CPU   CPU total %\n"
        "---------------  ------------  ------------\n   aten::conv2d         5.10%      12.300ms        40.0%\n"
        "   aten::relu           1.10%     300.000us         4.0%\n---------------\nSelf CPU time total: 30.000ms\n",
        "summary", {"aten::conv2d": 12.3, "aten::relu": 0.3},
    ),
    "DeepStream PERF": (
        "**PERF:  {'stream0': 25.0, 'stream1': 50.0}\n**PERF:  {'stream0': 20.0, 'stream1': 40.0}\n",
        "rates", {"frame": [40, 50], "source 1": [20, 25]},
    ),
    "GStreamer fpsdisplaysink": (
        "fpsdisplaysink0: last-message = rendered: 15, dropped: 0, current: 25.00, average: 29.9\n"
        "fpsdisplaysink0: last-message = rendered: 30, dropped: 0, current: 20.00, average: 28.0\n",
        "rates", {"frame": [40, 50]},
    ),
    "ultralytics lines": (
        "image 1/2 a.jpg: 640x480 4 persons, 1 bus, 61.5ms\nimage 2/2 b.jpg: 640x640 (no detections), 52.5ms\n"
        "Speed: 2.5ms preprocess, 57.0ms inference, 0.9ms postprocess per image at shape (1, 3, 640, 640)\n",
        "frames", {"frame": [61.5, 52.5]},
    ),
    "wrk": (
        "Running 30s test @ a\n  Thread Stats   Avg      Stdev     Max   +/- Stdev\n    Latency    84.20ms   12.1ms\n",
        "summary", {"Latency": 84.2},
    ),
    "hey": ("Summary:\n  Total:\t30.0 secs\n  Average:\t0.0842 secs\n", "summary", {"Total": 30_000, "Average": 84.2}),
    "perf stat": (
        " Performance counter stats for 'a':\n\n  1,345.5 msec task-clock  # 1.2 CPUs\n   1.5 seconds time elapsed\n",
        "summary", {"task-clock": 1345.5, "time elapsed": 1500},
    ),
    "OpenVINO's benchmark_app": (
        "Count:      18 iterations\nDuration:   60001.5 ms\nLatency:    1.25 ms\n",
        "summary", {"Duration": 60001.5, "Latency": 1.25},
    ),
    "cProfile": (
        "   ncalls  tottime  percall  cumtime  percall filename:lineno(function)\n"
        "      200    0.120    0.001    0.150    0.001 det.py:10(preprocess)\n",
        "summary", {"det.py:10(preprocess)": 150},
    ),
    "line_profiler": (
        "Total time: 2.5 s\nFile: det.py\nFunction: infer at line 10\n\nLine #      Hits         Time  Per Hit\n",
        "summary", {"infer at line 10": 2500},
    ),
    "Google Benchmark": (
        "Benchmark      Time     CPU   Iterations\n----\nBM_Infer/1   8.10 ms   8.00 ms   87\n",
        "summary", {"BM_Infer/1": 8.1},
    ),
    "pytest-benchmark": (
        "Name (time in us)      Min        Max       Mean\ntest_a     1.0 (1.0)  2.0 (1.0)  1,500.0 (1.0)\n",
        "summary", {"test_a": 1.5},
    ),
    "MLPerf": (
        "MLPerf Results Summary\n90th percentile latency (ns) : 822345\nMean latency (ns)      : 810000\n",
        "summary", {"90th percentile latency": 0.822345, "Mean latency": 0.81},
    ),
    "perf_analyzer": (
        "*** Measurement Settings ***\nConcurrency: 2, throughput: 219.6 infer/sec, latency 4553 usec\n",
        "summary", {"Concurrency: 2": 4.553},
    ),
    "trtexec --dumpProfile": (
        "[I] === Profile (641 iterations ) ===\n[I]    Time(ms)     Avg.(ms)   Median(ms)   Time(%)   Layer\n"
        "[I]    13.00    0.0204   0.0203   1.1   /0/Conv + PWN(/0/Sigmoid)\n[I]  1100.1   1.7   1.7  100.0  Total\n",
        "layers", {"/0/Conv + PWN(/0/Sigmoid)": 0.0204},
    ),
    "layers of a network": (
        "[07/01/2025-10:00:00] [I] Reformatting CopyNode for Input Tensor 0: 0.25 ms\n"
        "[07/01/2025-10:00:00] [I] conv1 + relu1: 1.5 ms\n",
        "layers", {"Reformatting CopyNode for Input Tensor 0": 0.25, "conv1 + relu1": 1.5},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_another_example_of_each_format(name):
    said, kind, holds = OTHERS[name]
    found = text(said)
    assert (found.format, found.kind) == (name, kind)
    facts = {name: round(value, 6) for name, value in found.facts.items()}
    assert (ms(found) or facts) == holds
    assert found.times_ns or found.export


CSV_OF_CALLS = {
    "GPU trace": (
        "Start (ns),Duration (ns),CorrId,GrdX,Bytes (MB),Device,Name\n"
        "9,300000,0,,4.9,NVIDIA H200 (0),[CUDA memcpy Host-to-Device]\n"
        '10,100000,1,20,,NVIDIA H200 (0),"void conv<float, int>(T1 *, T2)"\n',
        {"[CUDA memcpy Host-to-Device]": 0.3, "void conv<float, int>(T1 *, T2)": 0.1},
    ),
    "NVTX": (
        "Time (%),Total Time (ns),Instances,Avg (ns),Style,Range\n60.1,900000000,100,9000000.0,PushPop,:infer\n",
        {":infer": 900},
    ),
    "nvprof": (
        '==9== Profiling result:\n"Type","Time(%)","Time","Calls","Avg","Name"\n,%,s,,ms,\n'
        '"API calls",50.1,2.04551,133,15.38,"cudaMemcpy"\n',
        {"cudaMemcpy": 2045.51},
    ),
    "nvprof, in text": (
        "   Start  Duration  Size  Throughput  Device  Stream  Name\n"
        "300.12ms  170.5us  4.6MB  26.8GB/s  Tesla T4 (0)         7  [CUDA memcpy HtoD]\n",
        {"[CUDA memcpy HtoD]": 0.1705},
    ),
    "dumpProfile of TensorRT 8": (
        "=== Profile (641 iterations ) ===\n  Layer   Time (ms)   Avg. Time (ms)   Median Time (ms)   Time %\n"
        " /0/Conv      13.00           0.0204             0.0204      1.1\n"
        " /1/Conv      14.00           0.0205             0.0205      1.1\n",
        {"/0/Conv": 0.0204, "/1/Conv": 0.0205},
    ),
    "layers of ONNX Runtime": ("a.cc:534 ExecuteKernel] Node: Conv_0 kernel time 100 us\n" * 2, {"Conv_0": 0.2}),
    "layers that TensorRT's samples print": (
        "/model.0/conv/Conv: 0.0300 ms\nmodel.1.conv     0.31ms\n",
        {"/model.0/conv/Conv": 0.03, "model.1.conv": 0.31},
    ),
    "kernels from call to end": (
        "API Start (ns),API Dur (ns),Kernel Dur (ns),Kernel Name\n0,4000,800000,conv\n",
        {"conv": 0.8},
    ),
    "layers of MNN": ("Node Name: a, Op Type: Conv, Avg(ms): 0.25, %: 1.2\n" * 2, {"a": 0.5}),
}


@pytest.mark.parametrize("name", CSV_OF_CALLS)
def test_calls_and_layers_are_added_up_by_name(name):
    said, holds = CSV_OF_CALLS[name]
    found = text(said)
    assert found.kind in ("events", "summary", "layers") and found.facts == pytest.approx(holds)


TEGRASTATS = (
    "03-07-2025 10:00:0{0} RAM 2000/7620MB (lfb 2x4MB) SWAP 0/1MB CPU [5%@1190] EMC_FREQ 4%@2133 GR3D_FREQ {1}%@[{2}] "
    "cpu@50C gpu@{1}.5C tj@51C VDD_IN 5000mW/5000mW VDD_CPU_GPU_CV {2}mW/1000mW\n"
)
APPS = "timestamp, pid, used_gpu_memory [MiB]\n" + "".join(
    f"2026/11/25 21:00:0{at}.000, {pid}, 300 MiB\n" for at, pids in enumerate(((7,), (7, 8))) for pid in pids
)
SMI = (
    "timestamp, index, clocks.current.sm [MHz], power.draw [W], memory.used [MiB], clocks_event_reasons.sw_power_cap\n"
    "2026/11/25 21:00:00.100, 0, 1980 MHz, 70.12 W, 1024 MiB, Not Active\n"
    "2026/11/25 21:00:00.200, 0, 1410 MHz, [N/A], 2 GiB, Active\n"
)
TELEMETRY = {
    "tegrastats": (
        TEGRASTATS.format(1, 40, 918) + TEGRASTATS.format(2, 45, 612), 1,
        {"gpu_utilisation_percent": [40, 45], "sm_clock_mhz": [918, 612], "memory_clock_mhz": [2133, 2133],
         "temperature_c": [40.5, 45.5], "power_w": [0.918, 0.612], "gpu_memory_used_bytes": [2000 * 2**20] * 2},
    ),
    "processes on a GPU": (APPS, 1, {"compute_processes": [1, 2]}),
    "nvidia-smi dmon": (
        "#Date, Time, gpu, pwr, sm\n#YYYYMMDD, HH:MM:SS, Idx, W, %\n"
        "20250703, 10:00:00, 0, 70, -\n20250703, 10:00:01, 0, 75, 50\n", 1,
        {"power_w": [70, 75], "gpu_utilisation_percent": [np.nan, 50]},
    ),
    "nvidia-smi dmon, GPU 0 of 2": (
        "#Date       Time        gpu   pwr gtemp    sm\n#YYYYMMDD   HH:MM:SS    Idx     W     C     %\n"
        " 20250703   10:00:00      0    70    40     -\n 20250703   10:00:00      1    99    99    99\n"
        " 20250703   10:00:01      0    75    41    50\n", 1,
        {"power_w": [70, 75], "temperature_c": [40, 41], "gpu_utilisation_percent": [np.nan, 50]},
    ),
    "CSV by column names": (
        SMI, 0.1,
        {"sm_clock_mhz": [1980, 1410], "power_w": [70.12, np.nan], "gpu_memory_used_bytes": [2**30, 2**31],
         "throttle_sw_power_cap": [0, 1]},
    ),
    "CSV by column names, GPU 0 of 2": (
        "index, power.draw [W]\n" + "0, 70.5 W\n1, 99 W\n" * 3, None, {"power_w": [70.5] * 3}
    ),
    "jetson-stats": (
        "time,uptime,jetson_clocks,nvp model,CPU1,RAM,EMC,GPU,Fan pwmfan0,Temp cpu,Temp gpu,Power VDD_SOC,Power TOT\n"
        "2025-07-03 10:00:01.123456,1 day,OFF,15W,7,0.45,3,40,22.1,44.6,43.7,1121,3852\n"
        "2025-07-03 10:00:02.123456,1 day,OFF,15W,9,0.45,3,55,22.1,44.6,44.7,1121,4852\n", 1,
        {"gpu_utilisation_percent": [40, 55], "temperature_c": [43.7, 44.7], "power_w": [3.852, 4.852]},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TELEMETRY)
def test_telemetry_and_its_time_stamps(name):
    said, seconds, holds = TELEMETRY[name]
    found = text(said)
    assert (
        found.kind == "telemetry"
        and ", ".join([found.format, *(n for n in found.notes if n.startswith("GPU"))]) == name
    )
    assert {column: values.tolist() for column, values in found.telemetry.items()} == {
        column: pytest.approx(values, nan_ok=True) for column, values in holds.items()
    }
    assert (None if found.clock_ns is None else np.diff(found.clock_ns).tolist()) == (seconds and [seconds * 1e9])


def test_what_lists_processes_without_the_time_says_which():
    with pytest.raises(MeasurementsError, match=r"it lists processes on a GPU \(pid 7, 8\), and not at which time"):
        text("pid, used_gpu_memory [MiB]\n7, 300 MiB\n8, 300 MiB\n7, 300 MiB\n")


def test_one_row_of_telemetry():
    thor = "RAM 20/99MB (lfb 1x2MB) CPU [2%@972] GR3D_FREQ @[{},1500] NVENC0 off\n"
    assert text(thor.format(1500) + thor.format(1400)).telemetry["sm_clock_mhz"].tolist() == [1500, 1400]
    found = text("timestamp, clocks.current.sm [MHz]\n2026/11/20 12:00:00.000, 1980 MHz\n")
    assert (found.telemetry["sm_clock_mhz"].tolist(), found.clock_ns.tolist()) == ([1980], [1795176000e9])


def test_frames_are_joined_with_telemetry_by_their_time_stamps():
    log = "[2026-11-25 21:00:00,{}] infer: 7.9 ms\n"
    frames = text("".join(log.format(at) for at in ("050", "150", "199", "250", "900")))
    found = join(frames, text(SMI))
    assert np.array_equal(found.telemetry["sm_clock_mhz"], [np.nan, 1980, 1980, 1410, np.nan], equal_nan=True)
    assert found.times_ns["infer"].tolist() == [7.9e6] * 5 and "which 2 frames lack" in found.notes[-1]
    of_day = text("".join(f"21:00:00.{at} infer: 7.9 ms\n" for at in ("150", "250", "260")))
    assert join(of_day, text(SMI)).telemetry["sm_clock_mhz"].tolist() == [1980, 1410, 1410]


CASES_APART = {
    "models": ("model,infer_ms\nyolov8n,1.2\nyolov8s,2.1\nyolov8m,4.9\n", {"yolov8s: infer": 2.1}),
    "GPUs": ("gpu,infer_ms\nT4,24\nT4,9\nA100,3\nH100,1\n", {"T4 (row 2): infer": 9, "A100: infer": 3}),
    "rates": ("Concurrency,Inferences/Second\n1,200\n2,250\n4,400\n", {"Concurrency 2: frame": 4}),
    "threads": ("threads,infer_ms\n" + "".join(f"{n},{30 / n:.2f}\n" for n in range(1, 40)), {"threads 2: infer": 15}),
    "batches": ("batch_size,infer_ms\n1,2\n4,6\n16,21\n32,44\n", {"batch_size 16: infer": 21}),
    "images": ("imgsz,preprocess_ms,infer_ms\n320,0.5,1.9\n640,1.2,5.1\n1280,4.4,19.8\n", {"imgsz 640: infer": 5.1}),
    "Markdown": ("| Model | Latency (ms) |\n|---|---|\n| n | 0.99 |\n| s | 1.2 |\n| m | 3.5 |\n", {"m: latency": 3.5}),
}
FEW_FRAMES = {
    "early and late": "when,infer_ms\nearly,2\nmiddle,5\nlate,9\n",
    "numbered": "frame,scene,infer_ms\n1,road,2\n2,town,5\n3,sea,9\n",
    "of image files": "image,infer_ms\nbus.jpg,2\ncar.jpg,5\nsea.jpg,9\n",
    "one size": "imgsz,infer_ms\n640,2\n640,5\n640,9\n",
    "with time stamps": "time,scene,infer_ms\n10:00:00,road,2\n10:00:01,town,5\n10:00:02,sea,9\n",
}


@pytest.mark.parametrize("name", CASES_APART)
def test_few_rows_of_several_models_or_sizes_are_no_series(name):
    said, holds = CASES_APART[name]
    found = text(said)
    assert found.kind == "summary" and holds.items() <= found.facts.items()


@pytest.mark.parametrize("name", FEW_FRAMES)
def test_few_rows_in_an_order_are_a_series(name):
    found = text(FEW_FRAMES[name])
    assert found.kind == "frames" and found.times_ns["infer"].tolist() == [2e6, 5e6, 9e6]


OF_TWO = {
    "numbered": ("index, ", "0, ", "1, ", "000"),
    "dmon": ("gpu, ", "0, ", "1, ", "000"),
    "at once": ("", "", "", "000"),
    "one behind the other": ("", "", "", "002"),
}


@pytest.mark.parametrize("name", OF_TWO)
def test_telemetry_of_two_gpus_is_not_joined_to_frames_of_one(name):
    head, first, second, later = OF_TWO[name]
    rows = "".join(
        f"2026/11/25 21:00:0{at}.000, {first}1980 MHz, 40\n2026/11/25 21:00:0{at}.{later}, {second}1200 MHz, 88\n"
        for at in range(9)
    )
    frames = text("".join(f"[2026-11-25 21:00:0{at},500] infer: 7.9 ms\n" for at in range(9)))
    found = join(frames, text(f"timestamp, {head}clocks.sm [MHz], temperature.gpu\n{rows}"))
    assert not found.telemetry and "must be of one GPU" in found.notes[-1]


def test_telemetry_with_a_gap_is_of_one_gpu():
    rows = "".join(f"2026/11/25 21:0{at // 9}:0{at % 9}.000, 1980 MHz\n" for at in range(27))
    frames = text("".join(f"[2026-11-25 21:00:0{at},500] infer: 7.9 ms\n" for at in range(9)))
    assert join(frames, text(f"timestamp, clocks.sm [MHz]\n{rows}")).telemetry["sm_clock_mhz"].tolist() == [1980] * 9


def test_what_cannot_be_joined_says_why():
    with pytest.raises(MeasurementsError, match="must have time stamps"):
        join(text("infer: 7 ms\ninfer: 8 ms\n"), text(SMI))
    with pytest.raises(MeasurementsError, match=r"2026-11-24T21:00:00 to .*, got 2026-11-25T21"):
        join(text("2026-11-24 21:00:00 infer: 7 ms\n2026-11-24 21:00:01 infer: 8 ms\n"), text(SMI))


def test_times_of_trtexec_tell_when_each_query_was_enqueued_taken_up_and_done():
    query = '{{"latencyMs": 6, "startEnqMs": {0}, "endEnqMs": {0}.25, "startInMs": {0}.5, "endOutMs": 9, '
    query += '"inMs": 1, "computeMs": 2, "outMs": 3}}'
    found = text(f"[{query.format(1)}, {query.format(2)}, {query.format(3)[:-9]}")
    assert found.notes == ("it breaks off, and is read up to its last whole object",)
    assert {name: values.tolist() for name, values in found.instants_ns.items()} == {
        "due": [1e6, 2e6],
        "start": [1.5e6, 2.5e6],
        "done": [9e6, 9e6],
    }
    assert found.facts == {"latency": 6, "gpu_compute": 2, "h2d": 1, "d2h": 3, "enqueue": 0.25}


def test_the_summary_of_an_older_trtexec_is_read():
    said = "[I] {}\n[I] min: 1.6 ms (end to end 1.7 ms)\n[I] max: {} ms\n[I] mean: 1.7 ms\n[I] median: {} ms\n"
    found = text("[I] Throughput: 0 qps\n" + said.format("Host Latency", 6, 2) + said.format("GPU Compute", 7, 1))
    assert (found.kind, found.facts) == ("summary", {"latency": 2, "gpu_compute": 1, "latency_max": 6})
    assert text("[I] Throughput: 289.1 qps\n").notes == ("289.1 queries a second",)


def test_columns_that_the_user_names():
    said = "2026/11/25 21:00:00.100, 1980 MHz, 70.12 W\n2026/11/25 21:00:00.200, 1410 MHz, 71 W\n"
    with pytest.raises(MeasurementsError, match="line 1 has 3 columns without names") as caught:
        text(said)
    assert "--columns" in caught.value.fix
    found = read_text(said.encode(), columns="timestamp, clocks.sm,power.draw")
    assert found.telemetry["sm_clock_mhz"].tolist() == [1980, 1410]
    assert found.telemetry["power_w"].tolist() == [70.12, 71]
    assert ms(read_text(b"1 2\n3 4\n", columns="infer_ms,sync_us")) == {"infer": [1, 3], "synchronize": [0.002, 0.004]}
    with pytest.raises(MeasurementsError, match="--columns must name each of its 3 columns, got 1 names"):
        read_text(said.encode(), columns="timestamp")


@pytest.mark.parametrize(
    "said",
    [
        "frame,stage,ms\n0,infer,7\n0,sync,1\n1,sync,2\n1,infer,8\n",
        "frame_id;op;thread;dur [ms]\n0;infer;main;4\n0;infer;main;3\n0;sync;main;1\n1;infer;main;8\n1;sync;main;2\n",
        "stage,ms\ninfer,7\nsync,1\ninfer,8\nsync,2\n",
        "frame,name,us\n0,infer,7000\n0,sync,1000\n1,infer,8000\n1,sync,2000\n",
        "frame,stage,start_ms,end_ms\n0,infer,1,8\n0,sync,8,9\n1,infer,11,19\n1,sync,19,21\n",
        "finish_s\tstage\tstage begin [s]\n.008\tinfer\t.001\n.009\tsync\t.008\n.019\tinfer\t.011\n.021\tsync\t.019\n",
        "ts_us,dur_us,name\n1000,7000,infer\n8000,1000,sync\n11000,8000,infer\n19000,2000,sync\n",
        "frame,stage,start,end\n0,infer,10:00:00.001,10:00:00.008\n0,sync,10:00:00.008,10:00:00.009\n"
        "1,infer,10:00:00.011,10:00:00.019\n1,sync,10:00:00.019,10:00:00.021\n",
        "stage,start,end\ninfer,1.7e9,1700000000.007\nsync,1700000000.007,1700000000.008\n"
        "infer,1700000000.010,1700000000.018\nsync,1700000000.018,1700000000.020\n",
        "frame,stage,offset_ms,dur_ms\n0,infer,0,7\n0,sync,7,1\n1,infer,0,8\n1,sync,8,2\n",
        "frame,stage,cpu_ms,wall_ms\n0,infer,2,7\n0,sync,0,1\n1,infer,2,8\n1,sync,0,2\n",
        "time,stage,ms\n1700000000.1,infer,7\n1700000000.2,sync,1\n1700000000.3,infer,8\n1700000000.4,sync,2\n",
        "frame,event,t_ms\n0,infer start,1\n0,infer end,8\n0,sync start,8\n0,sync end,9\n1,infer start,11\n"
        "1,infer end,19\n1,sync start,19\n1,sync end,21\n",
        '{"帧号": 0, "阶段": "推理", "开始_s": 0.001, "结束_s": 0.008}\n'
        '{"帧号": 0, "阶段": "同步", "开始_s": 0.008, "结束_s": 0.009}\n'
        '{"帧号": 1, "阶段": "推理", "开始_s": 0.011, "结束_s": 0.019}\n'
        '{"帧号": 1, "阶段": "同步", "开始_s": 0.019, "结束_s": 0.021}',
    ],
)
def test_a_table_with_one_row_a_stage_is_put_side_by_side(said):
    found = text(said)
    times = ms(found)
    whole = times.pop("frame", [8, 10])  # from the first start to the last end, where they are known
    assert [whole, *times.values()] == [pytest.approx(each, abs=1e-3) for each in ([8, 10], [7, 8], [1, 2])]
    assert list(times) == ["infer", "synchronize"] and not found.unread
    assert "each row is a stage: those of a frame are put side by side" in found.notes


def test_a_long_table_of_two_clocks_and_one_of_starts_alone():
    said = "frame,stage,cpu_ms,gpu_ms\n0,infer,7,6\n0,sync,1,0\n1,infer,8,7\n1,sync,2,0\n"
    assert ms(text(said)) == {"infer": [7, 8], "synchronize": [1, 2], "infer gpu": [6, 7], "sync gpu": [0, 0]}
    with pytest.raises(MeasurementsError, match=r"'start_ms' tells when each stage .*\nFix: write both its start and"):
        text("frame,stage,start_ms\n0,infer,1\n0,sync,8\n1,infer,11\n1,sync,19\n")
    wide = text("frame,slowest,infer_ms,sync_ms\n0,infer,7,1\n1,sync,1,8\n")
    assert ms(wide) == {"infer": [7, 1], "synchronize": [1, 8]}


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("conv2d    0.06%   94.430us   0.00%   94.430us   94.430us   0.02%   283.290us   28\n" * 9, "summary"),
        ("Concurrency: 1, throughput: 25.2 infer/sec, latency 39608 usec\n" * 9, "summary"),
        ("/model.0/m.0/Add_output_0  [BinaryOp] run 10 average cost 0.0097 ms, 0.006 %\n" * 9, "layers"),
    ],
)
def test_rows_that_were_pasted_without_their_header(said, kind):
    assert text(said).kind == kind


@pytest.mark.parametrize("said", ["12.5it/s, infer_time=119.81(117.00)", "12.5it/s, infer_time=119.81"])
def test_a_time_without_a_unit_beside_a_rate_is_named_as_unread(said):
    found = text(f"{said}\n" * 9)
    assert found.times_ns["frame"].tolist() == [80e6] * 9 and found.unread == ("infer_time (no unit: --unit)",)


def test_the_first_pattern_that_fits_decides_and_each_format_has_a_case():
    seen = {read(path).format for path in (CASES / "logs").iterdir() if path.name in KINDS}
    seen |= {*OTHERS, *TELEMETRY}
    assert {form.name for form in FORMATS} - seen == {"nvprof, a trace"}
    assert text('"Start","Duration","Name"\nms,us,\n310.1,2.5,[CUDA memset]\n').kind == "events"


def test_parquet_arrow_gzip_and_pipes(tmp_path, monkeypatch):
    columns = {"latency_ms": [1.0, 2.0, 3.0], "sync_us": pa.array([1, 2, 3], pa.int32())}
    columns["label"] = pa.array(["a", "b", "c"]).dictionary_encode()
    columns |= {"power_w": [50.0, None, 70.0], "warmup": [True, False, False]}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    pyarrow.feather.write_feather(pa.table(columns), tmp_path / "a.arrow")
    pq.write_table(pa.table(columns)[:0], tmp_path / "none.parquet")
    with pytest.raises(MeasurementsError, match=r"^none\.parquet: it must have rows, got none"):
        read(tmp_path / "none.parquet")
    for name in ("a.parquet", "a.arrow"):
        found = read(tmp_path / name)
        assert ms(found) == {"latency": [2, 3], "synchronize": [0.002, 0.003]}, name
        assert np.array_equal(found.telemetry["power_w"], [np.nan, 70], equal_nan=True) and "'label'" in found.notes[0]
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"infer_ms,sync_ms\n1,2\n3,4\n"))
    assert ms(read(tmp_path / "a.csv.gz")) == {"infer": [1, 3], "synchronize": [2, 4]}
    for data, count in ((b"infer: 1 ms\ninfer: 2 ms\n", 2), ((tmp_path / "a.parquet").read_bytes(), 2)):
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))
        found = read("-")
        assert len(found) == count and found.origin.startswith("standard input")


def test_progress_is_told(tmp_path, monkeypatch):
    shares = []
    (tmp_path / "a.log").write_text("infer: 7.9 ms\n" * 150_000)
    assert len(read(tmp_path / "a.log", progress=shares.append)) == 150_000
    assert [round(share, 2) for share in shares[:2]] == [0, 0.87]
    (tmp_path / "a.csv").write_text("infer_ms,sync_ms\n" + "7.5,8.5\n9.5,9.5\n" * 300_000)
    shares.clear()
    monkeypatch.setattr(table_files, "_PIECE", 1 << 21)
    assert read(tmp_path / "a.csv", progress=shares.append).times_ns["infer"][-1] == 9.5e6
    assert [round(share, 2) for share in shares] == [0, 0.44, 0.87, 0, 0.5]


def outcome(table):
    try:
        found = text(table)
        return {name: each.tolist() for name, each in found.times_ns.items()}, found.notes
    except MeasurementsError as error:
        return str(error)


@pytest.mark.parametrize("cell", ["11", "", "1e400", "12 ms", "true", "a", "# 7", "7,8", "\n"])
def test_a_table_in_pieces_is_that_in_one(monkeypatch, cell):
    table = "infer_ms,sync_ms,text\n" + "7.5,8,a\n" * 30 + f"{cell},8,\n" + "7.5,8,b\n" * 9
    whole = outcome(table)
    monkeypatch.setattr(table_files, "_PIECE", 40)
    assert outcome(table) == whole


def test_a_recording_of_the_lab_and_a_report_of_nsight(tmp_path):
    own = read(shipped_file("recordings", "overload.parquet"))
    assert own.format == "recording of the lab" and own.memory == {"input": "pageable", "output": "pinned"}
    assert np.array_equal(
        own.times_ns["latency"], Recording.load(shipped_file("recordings", "overload.parquet")).steady.latency_ns
    )
    with pytest.raises(MeasurementsError, match="must be of frames, got one of copies"):
        read(shipped_file("recordings", "copies.parquet"))
    trace = read(shipped_file("traces", "graph-pinned.sqlite"))
    assert trace.trace is not None and "NVIDIA H200" in trace.origin
    assert read(CASES / "hostile" / "null_gpuid.sqlite").trace is not None
    with sqlite3.connect(tmp_path / "a.sqlite") as base:
        base.execute("CREATE TABLE infer_ms (x)")
    with pytest.raises(LabError):
        read(tmp_path / "a.sqlite")


def test_timers_that_count_on_are_read_by_their_steps():
    found = text("".join(f"infer: {8 * turn + turn % 3} ms, sync: {turn} ms\n" for turn in range(1, 20)))
    assert ms(found)["infer"][:3] == [9, 9, 6] and ms(found)["synchronize"][:3] == [1, 2, 3]
    assert any("'infer' counts on" in note for note in found.notes)
    clock = text("".join(f"elapsed: {8 * turn + turn % 3} ms\n" for turn in range(1, 20)))
    assert ms(clock)["frame"][:3] == [9, 6, 9] and len(clock) == 18


def test_a_log_of_averages_alone_is_a_summary():
    found = text("Average inference time: 3.2 ms\nP50 latency: 0.003 s\n")
    assert found.kind == "summary" and found.facts == {"Average inference time": 3.2, "P50 latency": 3.0}


def test_a_pattern_of_the_user_s_names_the_columns():
    said = "f=1 a<7.5> b<2>\nnoise\nf=2 a<8.5> b<3>\n"
    found = text(said, pattern=r"a<(?P<infer_ms>[\d.]+)> b<(?P<whatever_us>\d+)>")
    assert ms(found) == {"infer": [7.5, 8.5], "whatever_us": [0.002, 0.003]} and "pattern" in found.format
    assert ms(text(said, "ms", r"a<(?P<a>[\d.]+)>")) == {"a": [7.5, 8.5]}
    assert ms(text("x 5ms\ny 1ms\nx 6ms\ny 2ms\n", pattern=r"x (?P<x>\d+)|y (?P<y>\d+)")) == {"x": [5, 6], "y": [1, 2]}
    for wrong, message in ((r"(", "must be a regular expression"), (r"\d", "must have named groups")):
        with pytest.raises(SettingsError, match=message):
            text(said, pattern=wrong)
    with pytest.raises(MeasurementsError, match="no line matches"):
        text(said, pattern=r"(?P<infer>zzz)")


def test_a_compressed_file_that_is_cut_off_says_so(tmp_path):
    path = tmp_path / "cut.csv.gz"
    path.write_bytes(gzip.compress(b"frame,sync_ms\n" + b"1,2.0\n" * 500)[:-12])
    with pytest.raises(MeasurementsError, match="copy it again: it is damaged or cut off"):
        read(path)


def test_memory_with_its_unit_at_the_end_of_the_name_is_read():
    found = text("frame_ms,rss_mb,gpu_mem_used_mib\n5,500,1000\n6,501,1000\n")
    assert found.unread == () and {name: values.tolist() for name, values in found.telemetry.items()} == {
        "host_memory_bytes": [500e6, 501e6], "gpu_memory_used_bytes": [1000 * 2**20] * 2
    }  # fmt: skip


def test_arrow_s_kinds_of_numbers_are_read_by_their_buffers():
    times = pa.array([None, 1_500, 2_500, 3_500], pa.duration("us"))
    for values in (times[1:], pa.chunked_array([times[1:2], times[2:]])):
        assert numbers_of(values).tolist() == [1.5e6, 2.5e6, 3.5e6]
    for kind, given, holds in (
        (pa.uint8(), [200, None], [200, np.nan]),
        (pa.float16(), [0.5, None], [0.5, np.nan]),
        (pa.bool_(), [True, None, False], [1, np.nan, 0]),
        (pa.timestamp("s"), [5, None], [5e9, np.nan]),
        (pa.null(), [None], [np.nan]),
    ):
        assert numbers_of(pa.array([None, *given], kind)[1:]).tolist() == pytest.approx(holds, nan_ok=True)


def test_json_in_one_long_line_is_read_and_brackets_alone_are_an_error():
    rows = [{"frame": number, "infer_ms": 5 + number % 7 / 100} for number in range(5_000)]
    assert len(text(json.dumps(rows))) == 5_000
    with pytest.raises(MeasurementsError):
        text("[" * 200_000)


def test_rows_of_two_cameras_with_the_same_numbers_are_not_added_up():
    rows = [f"{camera},{frame},{stage},8" for frame in range(30) for camera in "ab" for stage in ("infer", "sync")]
    with pytest.raises(MeasurementsError, match=r"every stage comes several times\nFix: keep the rows of one camera"):
        text("\n".join(["camera,frame,stage,ms", *rows]))


def test_without_numbers_a_frame_starts_with_its_first_stage():
    """Postprocessing is in every second frame, and takes 7 ms less than the network of its own frame."""
    took = [9 + frame % 3 for frame in range(30)]
    rows = [row for frame, ms in enumerate(took) for row in (f"infer,{ms}", f"postprocess,{ms - 7}")[: 1 + frame % 2]]
    found = text("\n".join(["stage,ms", *rows]))
    assert ms(found) == {"infer": took[1::2], "postprocess": [each - 7 for each in took[1::2]]}
    assert "15 incomplete frames left out" in found.notes
