"""How much CPU time it takes to read lines of what people paste: `python benchmarks/bench_reading.py [LINES]`."""

from __future__ import annotations

import sys
from time import process_time

import numpy as np

from yolotrt_lab.diagnose.reading.files import read_text


def texts(lines: int) -> dict[str, str]:
    """One text of each kind; the numbers are random, with a fixed seed."""
    rng = np.random.default_rng(1)
    times = rng.uniform(0.5, 20, (lines, 3)).round(2).tolist()
    comma = [[str(value).replace(".", ",") for value in row] for row in times]
    return {
        "one number a line": "\n".join(str(row[0]) for row in times),
        "CSV": "pre_ms,infer_ms,sync_ms\n" + "\n".join("{},{},{}".format(*row) for row in times),
        "CSV, decimal commas": "pre_ms;infer_ms;sync_ms\n" + "\n".join(";".join(row) for row in comma),
        "units in the cells": "pre,infer,sync\n" + "\n".join("{}ms,{} ms,{} us".format(*row) for row in times),
        "log with timestamps": "\n".join(
            f"[2026-11-25 21:{line // 6_000 % 60:02}:{line // 100 % 60:02}.{line % 100 * 10:03}] [I] "
            + "preprocess {} ms, infer {} ms, postprocess {} ms".format(*row)
            for line, row in enumerate(times)
        ),
        "ultralytics": "\n".join(
            "Speed: {}ms preprocess, {}ms inference, {}ms postprocess per image at shape (1, 3, 640, 640)".format(*row)
            for row in times
        ),
    }


def main(lines: int = 100_000) -> None:
    """Print the best of three for each kind of text."""
    for name, text in texts(lines).items():
        best = np.inf
        for _ in range(3):
            begin = process_time()
            read_text(text, unit="ms")
            best = min(best, process_time() - begin)
        print(f"{lines:,} lines, {name}: {best:.2f} s")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
