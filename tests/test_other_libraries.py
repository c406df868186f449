"""pandas, Polars and Arrow take the lab's tables as they are. Both are imported here alone: they take a second."""

from __future__ import annotations

import numpy as np
import pyarrow

from yolotrt_lab import nsight
from yolotrt_lab.recording import Recording


def test_a_recording_and_its_file(tmp_path):
    import pandas
    import polars

    recording, path = Recording.shipped("copies"), tmp_path / "copies.parquet"
    recording.save(path)
    tables = [pandas.read_parquet(path), polars.read_parquet(path)]
    tables += [polars.DataFrame(recording), polars.DataFrame(pyarrow.table(recording))]
    if hasattr(pandas.DataFrame, "from_arrow"):  # pandas 3
        tables.append(pandas.DataFrame.from_arrow(recording))
    for table in tables:
        assert list(table.columns) == list(recording.columns)
        for name in ("direction", "bytes", "sync_ns"):
            assert table[name].to_list() == recording.columns[name].tolist()
    report = Recording.shipped("report")
    assert polars.DataFrame(report)["warmup"].to_list() == report.columns["warmup"].tolist()


def test_the_tables_of_a_trace():
    import pandas
    import polars

    trace = nsight.shipped_trace("graph-pinned")
    for table in (trace.copies, nsight.attribute(trace).frames):
        frames = (pandas.DataFrame(table), polars.DataFrame(table), polars.from_arrow(table).struct.unnest())
        for frame in (*frames, pyarrow.table(table)):
            taken = {name: np.asarray(frame[name]).tolist() for name in table}
            assert taken == {name: values.tolist() for name, values in table.items()}
