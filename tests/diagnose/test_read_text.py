"""Tables and logs as people paste them: names, units, commas, what is left out, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from yolotrt_lab.diagnose import formats
from yolotrt_lab.diagnose.formats import read
from yolotrt_lab.diagnose.measured import Measured
from yolotrt_lab.errors import LabError, MeasurementsError, SettingsError

CASES = Path(__file__).parents[1] / "data" / "cases"


def read_text(text: str, file: str = "text", unit: str | None = None) -> Measured:
    return formats.read_text(text.encode("utf-8", "replace"), file, unit)


def times(text: str, unit: str | None = None) -> dict[str, list[float]]:
    """What is read from a text, by name, in microseconds."""
    found = read_text(text, unit=unit).times_ns
    return {name: (values / 1e3).round(6).tolist() for name, values in found.items()}


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("3.2\n3.3\n", "ms"),
        ("3200\n3300\n", "us"),
        ("3.2ms\n3.3 ms\n", None),
        ("3200 µs\n3300us\n", None),
        ("3,2 ms\n3,3 ms\n", None),
        ("3.2 ms\n3300 us\n", None),
        ("0.0032 s\n0.0033 s\n", None),
        ("3,200,000 ns\n3,300,000 ns\n", None),
        ("0 3.2\n1 3.3\n", "ms"),
        ("7;3,2\n8;3,3\n", "ms"),
        ("0,3.2\n1,3.3\n", "ms"),
        ("3,2\n3,3\n", "ms"),
        ("3,200.0 us\n3,300.0 us\n", None),
        ("3.200,0 us\n3.300,0 us\n", None),
        ("312.5 fps\n303.030303030303 FPS\n", None),
        ("2026-11-25 21:00:01,123 3.2ms\n2026-11-25 21:00:01,133 3.3ms\n", None),
        ("total_ms\n3.2\n3.3\n", None),
        ("耗时(毫秒)\n3.2\n3.3\n", None),
        ("frame,total [ms]\n0,3.2\n1,3.3\n", None),
    ],
)
def test_one_number_a_frame(text, unit):
    found = times(text, unit)
    assert list(found) == ["frame"]
    assert found["frame"] == pytest.approx([3_200, 3_300])


TABLE = "preprocess_ms,infer_ms,sync_us\n1.2,7.9,4\n1.3,8.1,5\n"


@pytest.mark.parametrize(
    "text",
    [
        TABLE,
        "pre-process [ms], inference [ms], cudaStreamSynchronize [us]\n1.2, 7.9, 4\n1.3, 8.1, 5\n",
        "preprocess(ms);infer(ms);sync(us)\n1,2;7,9;4\n1,3;8,1;5\n",
        "pre/ms\tenqueueV3/ms\tsync/us\n1,2\t7,9\t4\n1,3\t8,1\t5\n",
        "preprocess [ms]  enqueue [ms]  sync [us]\n1.2  7.9  4\n1.3  8.1  5\n",
        "pre inference cudaDeviceSynchronize\n1.2ms 7.9ms 4us\n1.3ms 8.1ms 5us\n",
        "预处理(ms),推理(ms),同步(微秒)\n1.2,7.9,4\n1.3,8.1,5\n",
        "预处理（ms）,推理耗时【ms】,同步 us\n1.2,7.9,4\n1.3,8.1,5\n",  # noqa: RUF001
        "# made by hand\n\npre_ms,infer_ms,sync_us\r\n1.2,7.9,4\r\n\r\npre_ms,infer_ms,sync_us\r\n1.3,8.1,5\r\n",
        '"preprocess time (ms)","infer time (ms)","sync time (us)"\n"1.2","7.9","4"\n"1.3","8.1","5"\n',
        "[I] preprocess 1.2 ms, infer 7.9 ms, sync 4 us\n[I] preprocess 1.3 ms, infer 8.1 ms, sync 5 us\n",
        "| pre (ms) | infer (ms) | sync (us) |\n|---|:-:|---|\n| 1.2 | 7.9 | 4 |\n| 1.3 | 8.1 | 5 |\n",
        "time,pre_ms,infer_ms,sync_us\n2026-11-25 21:00:01,1.2,7.9,4\n2026-11-25 21:00:02,1.3,8.1,5\n",
        "time [s];pre_ms;infer_ms;sync_us\n0,5;1.2;7.9;4\n0,9;1.3;8.1;5\n",
        "pre_ms=1.2 infer_ms=7.9 sync_us=4\npre_ms=1.3 infer_ms=8.1 sync_us=5\n",
        "frame 7 pre(ms): 1.2, infer(ms): 7.9, sync(us): 4\nframe 8 pre(ms): 1.3, infer(ms): 8.1, sync(us): 5\n",
        '{"frame": 1, "pre_ms": 1.2, "infer_ms": 7.9, "sync_us": 4}\n{"frame": 2, "pre_ms": 1.3, "infer_ms": 8.1, '
        '"sync_us": 5}\n',
        "pre: 1.2ms\ninfer took 7.9ms\nsync=4us\npre: 1.3ms\ninfer took 8.1ms\nsync=5us\n",
        "预处理耗时：1.2ms，推理耗时：7.9毫秒，同步：4微秒\n预处理耗时：1.3ms，推理耗时：8.1毫秒，同步：5微秒\n",  # noqa: RUF001
        "\x1b[32m1.2ms\x1b[0m preprocess, 7.9ms inference, 4us sync\n1.3ms preprocess, 8.1ms inference, 5us sync\n",
        ",preprocess_ms,infer_ms,sync_us\n0,1.2,7.9,4\n1,1.3,8.1,5\n",
        "   preprocess_ms  infer_ms  sync_us\n0   1.2   7.9   4\n1   1.3   8.1   5\n\n[2 rows x 3 columns]\n",
        "frameId,preprocessTimeMs,inferenceTimeMs,syncUs\n0,1.2,7.9,4\n1,1.3,8.1,5\n",
        "t_pre[s],t_infer[s],time_sync [s]\n0.0012,0.0079,0.000004\n0.0013,0.0081,0.000005\n",
        "frame  pre(ms)  infer(ms)  sync(us)\n-------------------\n    0  1.2  7.9  4\n    1  1.3  8.1  5\n",
        "┌────┬───────┬──────┐\n│ pre ┆ infer ┆ sync │\n╞════╪═══════╪══════╡\n│ 1.2 ms ┆ 7.9 msecs ┆ 4 us │\n"
        "│ 1.3 ms ┆ 8.1 msecs ┆ 5 us │\n└────┴───────┴──────┘\n",
        "preprocess_latency_ms,infer_latency_ms,sync_times_us\n1.2,7.9,4\n1.3,8.1,5\n",
        '[{"pre_ms": 1.2, "infer_ms": 7.9, "sync_us": 4}, {"pre_ms": 1.3, "infer_ms": 8.1, "sync_us": 5}]',
        '{"gpu": "RTX 3060", "frames": [{"timings_ms": {"pre": 1.2, "infer": 7.9, "sync_us": 4}},\n'
        '  {"timings_ms": {"pre": 1.3, "infer": 8.1, "sync_us": 5}}]}\n',
        '{"pre_ms": [1.2, 1.3], "infer_ms": [7.9, 8.1], "sync_us": [4, 5], "shape": [1, 3, 640]}',
        '{"ts": 1, "stages": {"pre": "1.2 ms", "infer": "7.9 ms", "sync": "4 us"}}\n'
        '{"ts": 2, "stages": {"pre": "1.3 ms", "infer": "8.1 ms", "sync": "5 us"}}\n{"ts": 3, "sta',
        "pre,infer,sync\n"
        + "".join(
            f"0 days 00:00:00.0{a},0 days 00:00:00.0{b},0:00:00.00000{c}\n"
            for a, b, c in (("012", "079", 4), ("013", "081", 5))
        ),
        "pre;infer;sync\n00:00:00.0012;00:00:00.0079;00:00:00.000004\n00:00:00.0013;00:00:00.0081;00:00:00.000005\n",
        "pre (ms) | infer (ms) | sync (us)\n-- | -- | --\n1.2 | 7.9 | 4\n1.3 | 8.1 | 5\n",
        "Timing results, RTX 3060\n" + TABLE,
        "My loop.\nIt gets slow, why?\n```\n" + TABLE,
        "My timings:\n\n|pre|infer|sync|\n|---|---|---|\n|1.2 ms|7.9 ms|4 us|\n|1.3 ms|8.1 ms|5 us|\n",
    ],
)
def test_three_stages_in_every_dress(text):
    assert times(text) == {"preprocess": [1_200, 1_300], "infer": [7_900, 8_100], "synchronize": [4, 5]}


def test_what_ultralytics_prints():
    line = "Speed: 1.{0}ms preprocess, 7.{0}ms inference, 0.8ms postprocess per image at shape (1, 3, 640, 640)\n"
    sized = "0: 640x640 {0} persons, 2 buses, 7.{0}ms\n"
    stages = {"preprocess": [1_100, 1_200], "infer": [7_100, 7_200], "postprocess": [800, 800]}
    assert times(line.format(1) + line.format(2)) == stages
    assert times("".join(sized.format(n) + line.format(n) for n in (1, 2))) == stages
    video = "".join(f"video 1/1 (frame {n}/3) /a/b.mp4: 384x640 {n} persons, 7.{n}ms\n" for n in (1, 2, 3))
    found = read_text(video + line.format(9), "a.log")
    assert found.times_ns["frame"].tolist() == [7.1e6, 7.2e6, 7.3e6]
    assert list(found.times_ns) == ["frame"] and "the frame is the inference" in found.notes[0]


COPIES = {"upload": 300, "infer": 2_000, "download": 100}


@pytest.mark.parametrize(
    ("line", "first"),
    [
        ("copy_from_Mat: 1.5 ms\ncudaMemcpyAsync: 0.3 ms", {"upload": 300, "preprocess": 1_200}),
        ("copy_from_Mat: 1.5 ms", {"preprocess": 1_500}),
        ("cudaMemcpyAsync: 0.3 ms\nenqueueV3 2ms\ncudaMemcpyAsync: 0.1 ms", COPIES),
        ("pre: 1 ms\nenqueueV3 2ms\ncudaMemcpyAsync: 0.1 ms, sync: 5 ms",
         {"preprocess": 1_000, "infer": 2_000, "download": 100, "synchronize": 5_000}),
        ("cudaMemcpyAsync H2D: 0.3 ms, enqueueV3: 2ms, cudaMemcpyAsync D2H: 0.1 ms", COPIES),
        ("cudaMemcpyAsync(HtoD) 0.3 ms, infer 2ms, cudaMemcpyAsync(DtoH) 0.1 ms", COPIES),
        ("infer time:2ms\ngpu to cpu:0.1ms", {"infer": 2_000, "download": 100}),
        ("infer: 7.9, sync: 0.5", {"infer": 7_900, "synchronize": 500}),
        ("infer 7.9 (ms) sync 0.5 [ms]", {"infer": 7_900, "synchronize": 500}),
        ("{'infer': np.float64(7.9), 'sync': tensor(0.5, device='cuda:0')}", {"infer": 7_900, "synchronize": 500}),
        ('{"level": "info", "msg": "infer: 7.9 ms"}', {"infer": 7_900}),
        ("infer 0,310 ms, sync 18,046 ms", {"infer": 310, "synchronize": 18_046}),
        ("infer 1'310 us, sync 2.5 us", {"infer": 1_310, "synchronize": 2.5}),
        ("infer 0.31 ms, sync 18,046 us", {"infer": 310, "synchronize": 18_046}),
        ("frame=1 FPS=250.0", {"frame": 4_000}),
        ("FPS: 124.6 (8.0 ms)", {"frame": 8_000}),
        ("FPS: 20.0", {"frame": 50_000}),
        ("frame 3 at 20 fps", {"frame": 50_000}),
        ("runner: Average fps: 20.0", {"frame": 50_000}),  # nothing else: the program prints a series of averages
        ("infer 7 ms post 1 ms (avg 9 ms)", {"infer": 7_000, "postprocess": 1_000}),
        ("resize: 3 ms\ninfer: 7 ms", {"resize": 3_000, "infer": 7_000}),
        ("H2D: 3 ms; my kernel: 1 ms; sync: 7 ms", {"upload": 3_000, "my kernel": 1_000, "synchronize": 7_000}),
        ("Timer warp: 1.2 ms\nTimer net: 7.9 ms", {"Timer warp": 1_200, "Timer net": 7_900}),
        ("copyInputToDevice: 0.3 ms, doInference: 7.9 ms\nTimer preprocess_image: 1.2 ms\nTimer decode_boxes: 0.4 ms",
         {"upload": 300, "infer": 7_900, "preprocess": 1_200, "postprocess": 400}),
        ("decode: 1 ms infer: 7 ms postprocess: 2 ms", {"infer": 7_000, "decode": 1_000, "postprocess": 2_000}),
        ("12 cats, Done. (3 ms)", {"frame": 3_000}),
        ("1 cat, Done. (10.5ms) Inference, (1.0ms) NMS", {"infer": 10_500, "postprocess": 1_000}),
        ("image 3/9 a.jpg: 640x480 4 cats, Done. (0.010s)", {"frame": 10_000}),
        ("a/dog.jpg: Predicted in 20.5 milli-seconds.", {"infer": 20_500}),
        ("| Completed 1 iteration(s) in 3.5 ms | Average inference time: 3.6 ms.", {"frame": 3_500}),
        ("pre/infer/post: 1.5 / 7.9 / 2.5 ms", {"preprocess": 1_500, "infer": 7_900, "postprocess": 2_500}),
        ("pre 1.5, infer 7.9, post 2.5 ms", {"preprocess": 1_500, "infer": 7_900, "postprocess": 2_500}),
        ("infer: 7.9 ± 0.2 ms, pre 1.5±0.1 ms", {"infer": 7_900, "preprocess": 1_500}),
        ("infer: 7.9 ms ± 0.2 ms, pre 1.5 ms +/- 0.1 ms", {"infer": 7_900, "preprocess": 1_500}),
        ("第1帧 预处理 1.5毫秒 推理 7.9毫秒", {"preprocess": 1_500, "infer": 7_900}),
        ("12:00:03 INFO infer: time.busy=7.9ms time.idle=10.2µs", {"time busy": 7_900, "time idle": 10.2}),
        ("Latency: 7.9 ms | Throughput: 126 qps", {"latency": 7_900}),
        ("model yolov8s: 7.9ms", {"model yolov8s": 7_900}),
        ("tracker time: 2 ms, infer time: 8 ms", {"tracker time": 2_000, "infer": 8_000}),
        ("Tracking cost: 2 ms, infer cost: 8 ms, total cost: 11 ms",
         {"Tracking cost": 2_000, "infer": 8_000, "frame": 11_000}),
        ("generate cost: 8 ms", {"frame": 8_000}),
        ("decode 3 ms, infer: 7 ms, nms: 1 ms", {"decode": 3_000, "infer": 7_000, "postprocess": 1_000}),
        ("infer: 7 msec; post: 1 msec;", {"infer": 7_000, "postprocess": 1_000}),
        ("[I] cost: 8 ms, infer: 7 ms", {"frame": 8_000, "infer": 7_000}),
        ("第3帧推理: 8 ms", {"infer": 8_000}),
        ("Inference 12 took 7.9 ms", {"infer": 7_900}),
        ("Inference 12: 7.9 ms", {"infer": 7_900}),
        ("detect 5 boxes in 7.9 ms, nms 5 boxes 0.4 ms", {"boxes in": 7_900, "postprocess": 400}),
        ("camera: 30 ms, infer thread: 8 ms", {"camera": 30_000, "infer thread": 8_000}),
        ("grab 30 ms, preprocess cpu 2 ms, infer gpu 8 ms", {"grab": 30_000, "preprocess": 2_000, "infer gpu": 8_000}),
        ("worker1 12 ms infer queue 5 ms", {"worker1": 12_000, "infer queue": 5_000}),
        ("Grabbed in 30 ms; inference done in 8 ms; rendered in 5 ms",
         {"Grabbed in": 30_000, "infer": 8_000, "rendered in": 5_000}),
        ("enqueueV3 [us]: 8109, sync [us]: 4", {"infer": 8_109, "synchronize": 4}),
        ("enqueueV3 (ms): 8.1, resnet50 (ms): 5.25", {"infer": 8_100, "resnet50": 5_250}),
        ("tracker time: 2.2 ms, infer time: 8 ms", {"tracker time": 2_200, "infer": 8_000}),
        ("Tracking cost: 2 ms, infer cost: 8 ms, total cost: 10 ms",
         {"Tracking cost": 2_000, "infer": 8_000, "frame": 10_000}),
        ("tracker [ms]: 2.25\ninfer [ms]: 8", {"tracker": 2_250, "infer": 8_000}),
        ("infer 8.25ms/30ms budget", {"infer": 8_250}),
        ("preprocess start=0.00ms end=2.00ms infer start=2.00ms end=10.00ms", {"preprocess": 2_000, "infer": 8_000}),
        ("ETA: 300s - infer: 8.25 ms", {"infer": 8_250}),
        ("infer 8.25 ms / 33 ms", {"infer": 8_250}),
        ("infer: 8.25 ms (+0.5 ms)", {"infer": 8_250}),
        ("preprocess done, 2 ms\ninference done, 8.25 ms", {"preprocess": 2_000, "infer": 8_250}),
        ("12/300 - infer: 8.25ms/step", {"infer": 8_250}),
        ("1.5 ms for preprocess, 8.25 ms for inference, 0.5 ms for nms",
         {"preprocess": 1_500, "infer": 8_250, "postprocess": 500}),
        ("took 1.5 ms to preprocess\ntook 8.25 ms to infer", {"preprocess": 1_500, "infer": 8_250}),
        ("Function 'preprocess' executed in 0.0015s\nFunction 'infer' executed in 0.00825s",
         {"preprocess": 1_500, "infer": 8_250}),
        ("frame 3: 8.25/33.33 ms (25%)", {"frame": 8_250}),
        ("infer 8.25 ms: 12 boxes", {"infer": 8_250}),
        ("infer 8.25 ms/image, nms 1.5 ms/image, 121 img/s", {"infer": 8_250, "postprocess": 1_500}),
        ("infer_time_ms 8.25", {"infer": 8_250}),
        ("infer took 0m0.00825s", {"infer": 8_250}),
        ("Network Time: 17.5ms, Inference Time: 8.25ms", {"Network Time": 17_500, "infer": 8_250}),
        ("图像预处理 1.5ms | 模型推理时间为：8.25ms | 流同步 0.5ms",  # noqa: RUF001
         {"preprocess": 1_500, "infer": 8_250, "synchronize": 500}),
        ("数据拷贝到GPU: 1.5ms 推理执行: 8.25ms 拷贝回CPU: 0.5ms", {"upload": 1_500, "infer": 8_250, "download": 500}),
        ("当前帧率：50.0", {"frame": 20_000}),  # noqa: RUF001
        ("Running at 50.0 frames per second", {"frame": 20_000}),
        ("infer took 0:00:00.008250", {"infer": 8_250}),
        ("infer 0 days 00:00:00.008250", {"infer": 8_250}),
        ("10:00:00 | pre: 1 ms | infer: 8.25 ms", {"preprocess": 1_000, "infer": 8_250}),
        ('{"log": "infer: 8.25 ms", "time": "2026-11-25T10:00:00.5Z"}', {"infer": 8_250}),
        ("|ETA: 0:01:00 |tot 0.030s (0.025s) |pre 0.013s (0.013s) |net 0.012s (0.011s)",
         {"tot": 30_000, "preprocess": 13_000, "net": 12_000}),
        ("FPS: 50.0 (excluding drawing time of 0.25ms)", {"time of": 250, "frame": 20_000}),
        ("fps: 50.0 nms: 2.25 ms", {"postprocess": 2_250, "frame": 20_000}),
        ("Inference take: 8.25 ms.", {"infer": 8_250}),
        ("STATS 30.0s window: infer mean 8.25 ms p99 14.0 ms", {"infer": 8_250}),
        ("infer 8.25 ms, 583 frames in 5.0 s", {"infer": 8_250}),
        ("last 5.0 s: 583 frames, infer 8.25 ms", {"infer": 8_250}),
        ("latency: avg 8.25 ms / last 8.5 ms", {"latency": 8_250, "last": 8_500}),
        ("Speed: 8.25 ms/img, post 1.5 ms per frame", {"Speed": 8_250, "postprocess": 1_500}),
    ],
)  # fmt: skip
def test_lines_of_a_log(line, first):
    found = times(f"{line}\n" * 8, "ms")
    assert {name: values[0] for name, values in found.items()} == pytest.approx(first)
    assert {len(values) for values in found.values()} == {8}


@pytest.mark.parametrize(
    "line",
    [
        "{}[0]: {} ms", "{} of frame 0 took {} ms", "{}(0) = {} ms", "<{} 0> {} ms", "{} 1/0: {} ms", "{} @ 0: {} ms",
        "Stage {} frame_id=0 time={}ms", "{} frame #0 {} ms", "{} (frame 0): {} ms",
        "{}, frame, 0, {} ms", "{} frame 0: {} ms", "{} image 0 : {} ms", "{} batch 0 : {} ms", "{} iter 0 : {} ms",
        "TIMER {} frame:0 -> {} ms", "{} for frame 0000 finished in {} ms", "{} 第0帧 耗时 {} ms", "第0帧{} {} ms",
        "{}_0: {} ms",
    ],
)  # fmt: skip
def test_the_number_of_a_frame_between_a_name_and_its_time(line):
    texts = []
    for frame in range(20):
        for name, took in (("preprocess", 2), ("infer", 8 + frame % 3), ("post", 1)):
            texts.append(line.replace("0", str(frame), 1).format(name, took))
    found = times("\n".join(texts))
    assert [*found] == ["preprocess", "infer", "postprocess"]
    assert found["infer"] == [8_000 + 1_000 * (frame % 3) for frame in range(20)]


@pytest.mark.parametrize(
    ("lines", "telemetry", "unread"),
    [
        ("infer=9.1ms rss={0}.5MB", {"host_memory_bytes": [5e5 + 1e6 * n for n in range(1, 10)]}, ()),
        ("frame {0} infer: 9.1 ms  RSS: 51{0} KB", {"host_memory_bytes": [510e3 + 1e3 * n for n in range(1, 10)]}, ()),
        ("vram {0} GB, memory 500{0} MB, infer 9.1 ms", {"gpu_memory_used_bytes": [n * 1e9 for n in range(1, 10)]},
         ("memory",)),
        ("infer: 9.1ms  FPS:119  Temp:5{0}C  CPU temp: 4{0} C  Power:29.{0}W",
         {"temperature_c": [50 + n for n in range(1, 10)], "power_w": [29 + n / 10 for n in range(1, 10)]},
         ("CPU temp",)),
        ("infer: 9.1ms 显存: 200{0}MB 温度: 6{0}℃",
         {"gpu_memory_used_bytes": [2e9 + n * 1e6 for n in range(1, 10)],
          "temperature_c": [60 + n for n in range(1, 10)]}, ()),
        ("infer: 9.1ms GPU: {0}MiB/8192MiB, GPU 6{0}C rss{0}MB",
         {"gpu_memory_used_bytes": [n * 2**20 for n in range(1, 10)], "temperature_c": [60 + n for n in range(1, 10)],
          "host_memory_bytes": [n * 1e6 for n in range(1, 10)]}, ()),
        ("infer 9.1 gpu_clock=198{0}MHz", {"sm_clock_mhz": [1980 + n for n in range(1, 10)]}, ()),
        ("infer 9.1 ms, written at 5{0} MB/s, {0} W", {}, ()),
    ],
)  # fmt: skip
def test_telemetry_in_the_lines_of_a_log(lines, telemetry, unread):
    found = read_text("".join(lines.format(n) + "\n" for n in range(1, 10)), unit="ms")
    assert found.times_ns["infer"].tolist() == pytest.approx([9.1e6] * 9)
    assert {name: values.tolist() for name, values in found.telemetry.items()} == {
        name: pytest.approx(values) for name, values in telemetry.items()
    }
    assert found.unread == unread


def test_what_runs_a_stage_is_part_of_no_name_of_a_column():
    found = times("PreProcess[ms],GPU Inference[ms],trt_nms_ms,GPU load_ms\n" + "1,8,2,3\n" * 9)
    assert [*found] == ["preprocess", "infer", "postprocess", "GPU load_ms"]


def test_the_number_of_a_frame_above_its_times_is_no_time():
    text = "".join(f"frame {frame} (ms)\n  preprocess 2.5\n  inference {8 + frame % 3}.0\n" for frame in range(20))
    assert [*times(text, "ms")] == ["preprocess", "infer"]


@pytest.mark.parametrize(
    ("line", "pattern"),
    [
        ("Fps of stream {} is 30.{}", r"--pattern 'is (?P<infer_ms>[0-9.]+)'"),
        ("net({}) -> 8.{}", r"--pattern 'net\((?P<infer_ms>[0-9.]+)'"),
        ('{{"id": {}, "took": "8.{}"}}', ""),
    ],
)
def test_what_cannot_be_read_is_refused_with_a_pattern_to_try(line, pattern):
    with pytest.raises(MeasurementsError) as refused:
        read_text("".join(line.format(n, n) + "\n" for n in range(9)))
    assert refused.value.fix.partition("such as --")[2] == pattern.removeprefix("--")


def test_what_elapsed_since_the_start_is_a_clock():
    assert times("".join(f"frame {n} Elapsed: {0.033 * (n + 1):.3f}s\n" for n in range(9))) == {"frame": [33_000] * 8}
    assert times("".join(f"{n} of 900, elapsed: {287 + 50 * n}s\n" for n in range(9))) == {"frame": [50e6] * 8}
    assert times("Elapsed: 8.25 ms\nElapsed: 9.25 ms\n" * 5)["frame"][:2] == [8_250, 9_250]


def test_durations_that_are_called_arrival_are_no_instants():
    values = 30 + 5 * np.random.default_rng(3).random(40)
    found = read_text("infer_ms,arrival_ms\n" + "".join(f"{8 + n % 3},{each:.2f}\n" for n, each in enumerate(values)))
    assert [*found.times_ns] == ["infer", "arrival_ms"] and not found.instants_ns
    assert found.times_ns["infer"].tolist() == [(8 + n % 3) * 1e6 for n in range(40)]  # in the order of the file


def test_percentiles_a_second_are_no_clock():
    assert times("".join(f"[{n}s] n=120 p50=8.{n}ms p90=9.73ms\n" for n in range(9)))["p50"][:2] == [8_000, 8_100]


def test_tokens_a_second_are_no_rate_of_frames():
    with pytest.raises(MeasurementsError, match="hold no time"):
        read_text("Avg generation throughput: 40.5 tokens/s, Running: 1 reqs\n" * 9)


def test_the_level_of_a_line_is_in_no_name():
    found = times("".join(f"{level} infer: 8 ms\n{level} cost: 9 ms\n" for level in ("INFO", "WARN") * 9))
    assert found == {"infer": [8_000] * 18, "frame": [9_000] * 18}


def test_memory_in_units_that_change_in_a_log():
    found = read_text("".join(f"infer: 8 ms, rss: {held}\n" for held in ["998 MB", "999 MB", "1.0 GB", "1.1 GB"] * 9))
    assert found.telemetry["host_memory_bytes"][:4].tolist() == [998e6, 999e6, 1e9, 1.1e9]


@pytest.mark.parametrize(
    "before",
    ["I0304 10:00:{n:02}.5 123 det.cc:45] ", "2025-03-04 10:00:{n:02},000 detect.py:88 INFO ", "a | detect:run:4{k} - ",
     "[tid:4711] ", "[GPU:0] ", "step={n} ", "10:00:{n:02}.5 | INFO | __main__:inference:177 - ",
     "2025-03-04 10:00:{n:02},000 detect.py:infer:88 ", "[det.cpp:infer():88] ", "app.yolo.infer:88 - "],
)  # fmt: skip
def test_what_each_line_starts_with_is_no_frame(before):
    stages = [("preprocess", 2), ("infer", 8), ("nms", 1)]
    lines = [
        f"{before.format(n=n, k=k)}{name}: {took}.5 ms" for n in range(20) for k, (name, took) in enumerate(stages)
    ]
    found = read_text("\n".join(lines))
    assert {name: (len(values), values[0]) for name, values in found.times_ns.items()} == {
        "preprocess": (20, 2.5e6),
        "infer": (20, 8.5e6),
        "postprocess": (20, 1.5e6),
    }
    assert not found.notes and not found.unread


def test_times_are_in_the_order_in_which_a_frame_has_them():
    found = read_text("enqueue: 1 ms\nsync: 7 ms\ndownload: 1 ms, post: 1 ms\ntotal: 10 ms\n" * 8)
    assert list(found.times_ns) == ["infer", "synchronize", "download", "postprocess", "frame"]


def test_words_that_vary_are_in_no_name():
    names = ("cat", "dog", "bus", "car", "cow", "bird", "boat", "horse", "sheep", "zebra", "truck")
    assert times("".join(f"Processed {name} net 8 ms\n" for name in names)) == {"net": [8_000] * 11}


@pytest.mark.parametrize(
    ("columns", "ways", "noted"),
    [
        ("memcpy_ms,enqueue_ms", ["upload", "infer"], 0),
        ("enqueue_ms,memcpy_ms", ["infer", "download"], 0),
        ("memcpy_ms,sync_ms", ["upload", "synchronize"], 1),
        ("memcpy_ms,copy_ms,enqueue_ms", ["upload", "download", "infer"], 2),
    ],
)
def test_a_copy_goes_up_before_the_enqueue_and_down_behind_it(columns, ways, noted):
    found = read_text(f"{columns}\n" + ",".join("123"[: len(ways)]) + "\n")
    assert list(found.times_ns) == ways
    assert len([note for note in found.notes if "names no direction" in note]) == noted


def test_lists_of_numbers_and_words_in_front_of_a_log():
    assert times("[3.2, 3.3,\n 3.4]", "ms") == {"frame": [3_200, 3_300, 3_400]}
    assert times("Start loop\ninfer 7.9\nsync 4\ninfer 8.1\nsync 5\n", "ms") == {
        "infer": [7_900, 8_100],
        "synchronize": [4_000, 5_000],
    }
    assert times("infer_ms,sync\n7,8\n", "us") == {"infer": [7_000], "synchronize": [8]}


@pytest.mark.parametrize(
    ("text", "holds", "instants"),
    [
        ("frame,arrival_ms,start_ms,end_ms,latency_ms\n0,0,1,9,9\n1,10,11,18,8\n",
         {"latency": [9_000, 8_000], "frame": [8_000, 7_000]}, {"due": [0, 10], "start": [1, 11], "done": [9, 18]}),
        ("inferStartMs,inferEndMs,t_nms_start [ms],t_nms_end [ms]\n1,8,8,9\n11,19,19,21\n",
         {"infer": [7_000, 8_000], "postprocess": [1_000, 2_000]}, {}),
        ("pre: 1 ms, inference finished: 8 ms\npre: 1 ms, inference finished: 7 ms\n",
         {"preprocess": [1_000, 1_000], "infer": [8_000, 7_000]}, {}),
        ("frame,due_ns,start_ns,done_ns,upload_ns,warmup\n0,0,5,20,9,true\n1,10000,11000,15000,500,false\n",
         {"upload": [0.5], "latency": [5], "frame": [4]}, {"due": [0.01], "start": [0.011], "done": [0.015]}),
        ("start_ms,end_ms\n" + "0.1,9\n0,8.9\n" * 4, {"frame": [8_900] * 8}, {}),
        ("start,end\n10:00:00.1,10:00:00.109\n10:00:00.2,10:00:00.208\n",
         {"frame": [9_000, 8_000]}, {"start": [36000100, 36000200], "done": [36000109, 36000208]}),
    ],
)  # fmt: skip
def test_times_of_day_are_instants_and_never_stages(text, holds, instants):
    assert times(text) == holds
    assert {name: (each / 1e6).tolist() for name, each in read_text(text).instants_ns.items()} == instants


@pytest.mark.parametrize("name", ["elapsed", "running time"])
def test_the_clock_of_a_log_that_is_cut_at_its_start_is_no_time_of_a_frame(name):
    rows = [(102_345 + 9 * each, 7 + each % 2) for each in range(9)]
    found = read_text("".join(f"{name}: {clock} ms, infer: {took} ms\n" for clock, took in rows))
    assert list(found.times_ns) == ["infer"] and found.clock_ns[0] == 102_345e6
    slower = read_text("".join(f"elapsed: {12 + each} ms, infer: {took} ms\n" for each, (_, took) in enumerate(rows)))
    assert list(slower.times_ns) == ["frame", "infer"]


def test_a_line_that_starts_with_the_uptime_tells_when_it_was_written():
    found = read_text("".join(f"[   {0.1 + n * n / 100:.3f}s] frame {n} done\n" for n in range(10)))
    assert found.times_ns["frame"].tolist() == pytest.approx([1e7 * (2 * n + 1) for n in range(9)])


@pytest.mark.parametrize("start", ["uptime {} ms, ", "position {} ms, ", "[{} ms] ", "frame 1 pts {}.5 ms "])
def test_a_time_that_only_goes_up_is_a_clock(start):
    found = read_text("".join(f"{start.format(33 * n)}infer {8 + n % 2}.5 ms\n" for n in range(20)))
    assert list(found.times_ns) == ["infer"] and np.diff(found.clock_ns).tolist() == [33e6] * 19


@pytest.mark.parametrize(
    "line",
    [
        "Average infer time over last 100 frames: {} ms", "[{n}00/4000] average infer: {} ms  average fps: 111.1",
        "frame {n}: avg infer {} ms", "last 100 frames - infer mean: {} ms std: 0.31 ms max: 12.25 ms",
        "第{n}帧 平均推理耗时 {} ms",
    ],
)  # fmt: skip
def test_averages_that_recur_are_a_series(line):
    found = read_text("\n".join(line.format(f"{9 + n / 4:.2f}", n=n) for n in range(20)))
    assert (found.kind, list(found.times_ns)) == ("frames", ["infer"])
    assert found.times_ns["infer"].tolist() == [(9 + n / 4) * 1e6 for n in range(20)]
    assert "each row is an average, as the program prints it" in found.notes


PARTS = "infer: 7.9 ms\npost: 1 ms\ninfer: 8.1 ms\ninfer: 8.0 ms\npost: 2 ms\naverage infer: 8 ms\nmin = 7 ms\n"
HASHED = "".join(f"#{each} pre: 1 ms\n  infer: {each + 7} ms\n# infer: 50 ms\n" for each in range(3))


@pytest.mark.parametrize(
    ("text", "holds", "notes", "unread"),
    [
        (f"Timing results\n{TABLE}", {"preprocess": [1_200, 1_300], "infer": [7_900, 8_100], "synchronize": [4, 5]},
         ("without what stands above the table",), ()),
        ("frame,sync_ms\n2,30\n0,10\n1,20\n", {"synchronize": [10_000, 20_000, 30_000]},
         ("sorted by frame number",), ()),
        ("timestamp,sync_ms\n2026-11-25 10:00:02,30\n2026-11-25 10:00:01,20\n2026-11-25 10:00:00,10\n",
         {"synchronize": [10_000, 20_000, 30_000]}, ("sorted by time stamp",), ()),
        ("t_capture_ms,infer_ms\n" + "".join(f"{15 * n},{8 + n % 2}\n" for n in range(9)),
         {"infer": [8_000 + 1_000 * (n % 2) for n in range(9)]},
         ("'t_capture_ms' only goes up: it is read as a clock",), ()),
        ("sync_ms,infer_end_ms\n1,8\n2,18\n", {"synchronize": [1_000, 2_000]}, (), ("infer_end_ms",)),
        (PARTS, {"infer": [7_900, 8_000], "postprocess": [1_000, 2_000]},
         ("2 lines of averages left out", "1 incomplete frame left out"), ()),
        (HASHED, {"preprocess": [1_000] * 3, "infer": [7_000, 8_000, 9_000]}, (), ()),
        ("infer_ms,sync_ms\n1,\n2,5\n3,\n", {"infer": [1_000, 2_000, 3_000]},
         ("without 'synchronize', which most frames lack",), ("synchronize",)),
        ('{"infer_ms": 1}\n{"infer_ms": null}\n{"infer_ms": 3}\n{"inf', {"infer": [1_000, 3_000]},
         ("it breaks off, and is read up to its last whole object", "1 incomplete frame left out"), ()),
        ("infer_ms,sync_ms\n1,2\n3,4\n5", {"infer": [1_000, 3_000], "synchronize": [2_000, 4_000]},
         ("without line 4, which breaks off",), ()),
        ("{'infer_time': 0.0078, 'fps': 125.0}\n{'infer_time': 0.0079, 'fps': 200.0}\n", {"frame": [8_000, 5_000]}, (),
         ("infer_time (no unit: --unit)",)),
        ("Inferences/Second,cameras\n200,1\n100,3\n", {"frame": [5_000, 10_000]}, (), ("cameras",)),
        ("frames per second: 200\nframes per second: 100\n", {"frame": [5_000, 10_000]}, (), ()),
        ("fps,fps_avg\n20,0\n10,0\n20,5\n", {"frame": [50_000, 100_000, 50_000]},
         ("without 'fps_avg', which is 0 in most rows",), ()),
        ("fps: 20\nfps: 10\nfps: 0\n", {"frame": [50_000, 100_000]},
         ("no frame came in 1 row with a rate of 0, from line 3 to the end: the loop stood still, or had ended",), ()),
    ],
)  # fmt: skip
def test_what_is_left_out_is_noted(text, holds, notes, unread):
    found = read_text(text)
    assert (times(text), found.notes, found.unread) == (holds, notes, unread)
    assert found.kind == ("rates" if "Second" in text or "second" in text or "fps" in text else "frames")


@pytest.mark.parametrize("name", ["non-max suppression", "Non max suppression", "Non-Maximum Suppression"])
@pytest.mark.parametrize("end", ["\n", ", "])
def test_non_max_suppression_is_no_maximum(name, end):
    text = "".join(f"pre: 1 ms{end}infer: 8 ms{end}{name}: {each} ms\n" for each in (2, 3, 4))
    found = read_text(text + "Overall max: 9 ms\nmax: 8 ms\n(max) 9 ms\n")
    assert found.times_ns["postprocess"].tolist() == [2e6, 3e6, 4e6]
    assert found.notes == ("3 lines of averages left out",)
    assert times(f"infer_ms,{name} [ms]\n8,1\n8,2\n")["postprocess"] == [1000, 2000]


def test_a_comment_in_the_first_line_is_where_the_numbers_are_from():
    found = read_text("# recorded on a T4\nframe,infer_ms\n0,7\n1,8\n# and more\n", "a.csv")
    assert found.origin == "a.csv; recorded on a T4"
    assert read_text("// T4\ninfer: 7.9 ms\n", "a.log").origin == "a.log; T4"
    assert read_text("#\ninfer: 7.9 ms\n", "a.log").origin == "a.log"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gbk", "gb18030"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_encoding_and_line_end(tmp_path, encoding, end):
    file = tmp_path / "a.log"
    file.write_bytes(f"推理耗时: 7.9ms{end}推理耗时: 8.1ms{end}".encode(encoding))
    found = read(file)
    assert found.times_ns["infer"].tolist() == pytest.approx([7.9e6, 8.1e6])
    assert found.origin == "a.log"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("infer_ms,sync_ms\n1,2\n3,x\n", r"^a\.csv: line 3, column 'sync_ms': 'x' is no number$"),
        ("infer_ms,sync_ms\n1,2\n3\n", r"^a\.csv: line 3 must have 2 columns as the lines before it, got 1$"),
        ("sync_ms\n1\n-2\n", r"^a\.csv: line 3, column 'sync_ms': -2 is below 0"),
        ("sync_ms\n1\ninf\n", r"^a\.csv: line 3, column 'sync_ms': inf is more than thirty years"),
        ("sync_ms\n1,234\n2,345\n", r"^a\.csv: line 2, column 'sync_ms': comma in '1,234' may be (a )?decimal"),
        ("infer 1,310 ms\ninfer 1,320 ms\n", r"^a\.csv: the comma in '1,310' may be a decimal comma"),
        ("infer\n3ms\n4\n", r"^a\.csv: column 'infer': units must go together, got 'ms', ''$"),
        ("infer\n3 apples\n4\n", r"^a\.csv: column 'infer': units must go together, got 'apples', ''$"),
        ("infer\n3 apples\n4 apples\n", r"^a\.csv: line 1 and those after it hold no time that can be read"),
        ("infer [apples],a\n3,4\n", r"^a\.csv: no column of times is known among 'infer \[apples\]', 'a'$"),
        ("infer_ms;sync_ms\n1,2,3;4\n", r"^a\.csv: line 2, column 'infer_ms': '1,2,3' is no number$"),
        ("infer: 3 ms\ninfer: -4 ms\n", r"^a\.csv: line 2, column 'infer': -4 is below 0"),
        ("infer_s\n1e300\n", r"^a\.csv: line 2, column 'infer_s': 1e\+300 is more than thirty years$"),
        ("fps\n0\n", r"^a\.csv: no row in it has all of its times$"),
        ("fps\n-1\n", r"^a\.csv: line 2, column 'fps': -1 is no rate$"),
        ("1,2,3\n4,5,6\n", r"^a\.csv: line 1 has 3 columns without names"),
        ("a,b\n1,2\n", r"^a\.csv: no column of times is known among 'a', 'b'"),
        ("ts,cpu\n1700000000,3\n1700000001,4\n1700000002,3\n", "no column of times is known among 'ts', 'cpu'"),
        ("hello\nworld\n", r"^a\.csv: line 1 and those after it hold no time that can be read"),
        ("\n# nothing\n", r"^a\.csv: it must have lines that are no comments, got none$"),
        (",infer_ms\ncount,200\nmean,11.0\nstd,1.7\n", r"^a\.csv: its rows are statistics of a run"),
        ("4-5 ms: 12\n5-6 ms: 31\n" * 9, r"^a\.csv: line 1 and those after it hold no time that can be read"),
        ("Stage  mean  p50\ninfer  9.1ms  8.9ms\n", r"^a\.csv: line 1 names averages of a run"),
        ("1.1/8.1/0.5 ms\n" * 9, r"^a\.csv: line 1 and those after it hold no time that can be read"),
        ("due_ns,done_ns\n1,5\n7,6\n", r"^a\.csv: line 3: the latency ends before it starts$"),
        ("start_ns,done_ns\n1,5\n7,6\n", r"^a\.csv: line 3: the frame ends before it starts$"),
        ("infer_ms,sync_ms\n1,nan\nnan,2\n", r"^a\.csv: no row in it has all of its times$"),
        ("infer_ms,sync_ms\n", r"^a\.csv: line 1 names columns, and no row follows$"),
        ("hello\n", r"^a\.csv: line 1 and those after it hold no time that can be read"),
        ("infer_ms,sync_ms\n0,0\n0,0\n", r"^a\.csv: every time in it is 0"),
        ("infer_ms,sync_ms\n1,\n,2\n,\n", r"^a\.csv: most rows lack each of the times in it"),
        ("start_ns,done_ns\nnan,1\n2,nan\n", r"^a\.csv: most rows lack each of the times in it"),
        ('[{"infer_ms": 1}, {"sync_ms": 2}, {"pre_ms": 3}]', r"^a\.csv: most rows lack each of the times in it"),
        ("infer_ms,warmup\n1,1\n", r"^a\.csv: no row in it has all of its times$"),
        ('[{"infer_ms": 1}, {"infer_ms": -1}]', r"^a\.csv: object 2, column 'infer_ms': -1 is below 0"),
        ("frame,infer_ms\n#0,7\n#1,8\n", r"^a\.csv: each row below line 1 starts with '#', which marks a comment"),
        ("frame,sync_ms\n" + "".join(f"{n},1\n" for n in [*range(20), 5, 21]),
         r"line 22, column 'frame': 5 is less than the number in the row above, and others repeat$"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line_with_its_place(text, message):
    with pytest.raises(MeasurementsError) as caught:
        read_text(text, "a.csv")
    assert re.search(message, caught.value.message) and "\n" not in caught.value.message and caught.value.fix


@pytest.mark.parametrize(
    ("text", "guess"),
    [("7.9\n8.1\n", "ms"), ("infer\n7900\n8100\n", "us"), ("infer: 7900000\n", "ns"), ("sync\n0.004\n", None)],
)
def test_a_missing_unit_is_asked_for_and_not_guessed(text, guess):
    with pytest.raises(MeasurementsError, match="nothing says in which unit") as caught:
        read_text(text)
    assert "--unit" in caught.value.fix
    assert (f"they could be {guess})" in caught.value.message) is (guess is not None)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(MeasurementsError, match="cannot be read: No such file") as caught:
        read(tmp_path / "none.csv")
    assert str(Path.cwd()) in caught.value.fix
    file = tmp_path / "a.csv"
    file.write_bytes(b"infer_ms\n1\n\xff\xff\n")
    with pytest.raises(MeasurementsError, match=r"a\.csv: line 3: it must be text in UTF-8, UTF-16 or GBK"):
        read(file)
    file.write_bytes(b"infer_ms\n1\n\0\x01\n")
    with pytest.raises(MeasurementsError, match=r"a\.csv: line 3: it must be text in UTF-8, UTF-16 or GBK"):
        read(file)
    file.write_bytes(b"PAR1 and no more")
    with pytest.raises(MeasurementsError, match="no readable Parquet or Arrow file"):
        read(file)
    with pytest.raises(SettingsError, match="the unit must be one of time, got 'min'"):
        read(file, unit="min")


@pytest.mark.parametrize("gap", ["nan", "NaN", "", "N/A", "-"])
def test_frames_of_a_table_that_lack_a_time_are_left_out_and_counted(gap):
    found = read_text(f"infer_ms,sync_ms,done_ns,power\n1,2,3,50\n4,{gap},6,{gap}\n7,8,9,{gap}\n", "a.csv")
    assert found.times_ns["infer"].tolist() == [1e6, 7e6]
    assert found.times_ns["synchronize"].tolist() == [2e6, 8e6]
    assert found.instants_ns["done"].tolist() == [3, 9]
    assert np.array_equal(found.telemetry["power_w"], [50, np.nan], equal_nan=True)
    assert found.notes == ("1 incomplete frame left out",)


def reads_or_says_why(read) -> None:
    try:
        found = read()
    except LabError as error:
        assert error.message and "\n" not in error.message
    else:
        lengths = {len(values) for values in [*found.times_ns.values(), *found.telemetry.values()]}
        assert len(lengths) == (found.kind in ("frames", "rates", "telemetry"))
        assert all(np.isfinite(values).all() and (values >= 0).all() for values in found.times_ns.values())


WORDS = ("infer", "sync_ms", "推理", "cudaMemcpyAsync", "fps", "power.draw [W]", "warmup", "due_ns", "640x640", "N/A")
NUMBERS = ("1.5", "2,5", "1,234.5", "-3", "7.9ms", "1e309", "120 FPS", "٣", "1.2.3", "0", "9", "nan")
MARKS = (*",;\t =\"'#[)", "\n", "\r\n", "\n\n", ": ", "avg ", "\x1b[31m", "\ufeff")
PIECES = st.sampled_from([*WORDS, *NUMBERS, *MARKS])


@settings(max_examples=2 * settings().max_examples)
@given(st.lists(PIECES, max_size=40).map("".join) | st.text(max_size=200), st.sampled_from([None, "ms", "ns"]))
@example("sync_ms\n1\n" + "9" * 500, None)
@example(("9" * 5_000 + " 1\n") * 2, "ms")
@example("infer (" + " " * 50_000 + "\n1\n", "ms")
@example("infer: " + "9" * 400 + " ms\n", None)
def test_any_text_is_read_or_refused(text, unit):
    reads_or_says_why(lambda: read_text(text, unit=unit))


FILES = sorted(path for path in CASES.rglob("*") if path.is_file() and path.suffix not in (".tsv", ".md"))
PUT = st.sampled_from([b"", b"ms", b",", b"-", b".", b"1e999", b"\n", b'"', b"\xff", b"\0"])


@settings(max_examples=3 * settings().max_examples)
@given(st.sampled_from(FILES), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 40), PUT), min_size=1, max_size=5))
@example(CASES / "logs" / "21x_elasped_40_frames.log", [(0.0, 8, b""), (0.0, 40, b""), (0.650641221180447, 31, b"")])
@example(CASES / "hostile" / "bare_comma.log", [(1.0, 0, b"1e999")])
def test_a_damaged_file_of_any_format_is_read_or_refused(tmp_path_factory, path, damage):
    content = bytearray(path.read_bytes()[:8_000])
    for place, size, put in damage:
        at = int(place * len(content))
        content[at : at + size] = put
    file = tmp_path_factory.getbasetemp() / f"damaged{path.suffix}"
    file.write_bytes(content)
    reads_or_says_why(lambda: read(file, unit="ms"))


@pytest.mark.parametrize("submits", ["enqueueV2 cost", "enqueueV3:", "exec time"])
@pytest.mark.parametrize("whole", ["cost", "total cost", "total:"])
@pytest.mark.parametrize("copies", ["cudaMemcpyAsync cost", "cudaMemcpyAsync:", "memcpy total"])
def test_lines_of_calls_and_a_line_of_the_frame_are_what_they_name(submits, whole, copies):
    lines = (f"copy_from_Mat cost 1.5 ms\n{copies} 0.3 ms\n{submits} 1.{n:02} ms\ncudaStreamSynchronize cost 24 ms\n"
             f"{whole} 26.{n:02} ms" for n in range(50))  # fmt: skip
    found = {name: values[0] for name, values in times("model warmup 10 times\n" + "\n".join(lines)).items()}
    assert found == {"preprocess": 1_200, "upload": 300, "infer": 1_000, "synchronize": 24_000, "frame": 26_000}
