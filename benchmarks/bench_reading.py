"""Time and memory that a bill takes of what people paste: `python benchmarks/bench_reading.py [ROWS] [FUZZED]`.

The whole of `yolotrt-lab diagnose` on a CSV of six columns, in turns with `polars.read_csv` alone, and on a log. FUZZED
damaged inputs must be read or refused by a typed error.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np

TURNS = 2
COLUMNS = ("preprocess_ms", "upload_ms", "infer_ms", "download_ms", "sync_ms", "latency_ms")
LOG = "[2026-11-25 21:{:02}:{:02}.{:03}] [I] preprocess {:.2f} ms, infer {:.2f} ms, postprocess {:.2f} ms\n"
CASES = Path(__file__).parents[1] / "tests" / "data" / "cases"


def write_csv(path: Path, rows: int) -> None:
    """Random times of six stages."""
    rng = np.random.default_rng(1)
    with path.open("w") as file:
        file.write(",".join(COLUMNS) + "\n")
        for first in range(0, rows, 100_000):
            np.savetxt(file, rng.uniform(0.5, 20, (min(100_000, rows - first), 6)), "%.4f", ",")


def write_log(path: Path, rows: int) -> None:
    """Lines with a time stamp and three times."""
    rng = np.random.default_rng(1)
    with path.open("w") as file:
        for first in range(0, rows, 100_000):
            times = rng.uniform(0.5, 20, (min(100_000, rows - first), 3)).tolist()
            lines = (
                LOG.format(n // 60_000 % 60, n // 1_000 % 60, n % 1_000, *row) for n, row in enumerate(times, first)
            )
            file.write("".join(lines))


def measure(name: str, *words: str, rows: int) -> None:
    """Run Python with these words and print what it took, from its start to its end."""
    begin = perf_counter()
    process = subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode, wall = os.waitstatus_to_exitcode(status), perf_counter() - begin
    assert process.returncode == 0, words
    cpu = used.ru_utime + used.ru_stime
    each = f"{cpu:.2f} s of CPU, {cpu / rows * 1e6:.2f} us a row"
    print(f"{name}: {rows:,} rows in {wall:.2f} s ({each}), {used.ru_maxrss / 2**20:.2f} GB at most")


def damaged(data: bytes, rng: random.Random) -> bytes:
    """The bytes with some lost, changed, doubled or moved."""
    found = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        at, size = rng.randrange(len(found) + 1), rng.randint(1, 40)
        match rng.randrange(5):
            case 0:
                del found[at : at + size]
            case 1:
                found[at:at] = found[at : at + size] * 2
            case 2:
                found[at : at + 1] = bytes([rng.randrange(256)])
            case 3:
                found[at:at] = rng.choice(
                    [b"ms", b",", b";", b"-", b"nan", b"1e999", b"\xc2\xb5s", b"\n\n", b'"', b"\x1b[31m", b"fps"]
                )
            case _:
                found = found[at:] or found
    return bytes(found)


def fuzz(count: int, folder: Path = CASES) -> int:
    """How many damaged inputs of all formats give a bill; any error that is not of the lab's ends the run."""
    from yolotrt_lab.diagnose import bill, read
    from yolotrt_lab.errors import LabError

    rng, read_ones = random.Random(7), 0
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".tsv", ".md"))
    with tempfile.TemporaryDirectory() as scratch:
        for turn in range(count):
            source = files[turn % len(files)]
            path = Path(scratch) / f"fuzzed{source.suffix}"
            path.write_bytes(damaged(source.read_bytes()[:20_000], rng))
            try:
                str(bill(read(path, rng.choice([None, "ms"]))))
                read_ones += 1
            except LabError as error:
                assert error.message and error.fix, (turn, source, error)
    return read_ones


def main(rows: int = 5_000_000, fuzzed: int = 10_000) -> None:
    """Print what each takes."""
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as folder:
        table, log = Path(folder) / "times.csv", Path(folder) / "times.log"
        write_csv(table, rows)
        for _ in range(TURNS):
            measure("polars.read_csv", "-c", f"import polars; polars.read_csv({str(table)!r})", rows=rows)
            measure("diagnose, a CSV", "-m", "yolotrt_lab", "diagnose", str(table), rows=rows)
        table.unlink()
        write_log(log, rows)
        measure("diagnose, a log", "-m", "yolotrt_lab", "diagnose", str(log), rows=rows)
    begin = perf_counter()
    billed, took = fuzz(fuzzed), perf_counter() - begin
    print(f"{billed:,} of {fuzzed:,} damaged inputs give a bill, the others a typed error, in {took:.0f} s")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
