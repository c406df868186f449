import getpass
import json
import operator
import os
import platform
import subprocess
import sys
import textwrap
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from yolotrt_lab import recording as module
from yolotrt_lab.diagnose import read
from yolotrt_lab.errors import RecordingError
from yolotrt_lab.recording import FRAME_COLUMNS, SCHEMA_VERSION, FrameRecorder, Recording, joined, machine_info
from yolotrt_lab.types import HostMemory, Source, SourceKind, Stage

LIVE = Source(SourceKind.LIVE, "NVIDIA H200", "580.159.04", "2026-11-23")
SIMULATED = Source(SourceKind.SIMULATED, preset="round")
ROOT = Path(__file__).parents[1]


def row(frame: int) -> tuple[int, ...]:
    """A frame due every 1,000 ns, late by 10 ns more each time; stage k takes k ns; the first three warm up."""
    due = 1_000 * frame
    return (frame, due, due + 5, due + 100 + 10 * frame, *range(len(Stage)), frame < 3)


def recorder_of(count: int, path: Path | None = None, source: Source = LIVE, **fields) -> FrameRecorder:
    recorder = FrameRecorder(path, source=source, **fields)
    for frame in range(count):
        recorder.add(row(frame))
    return recorder


def frames(count: int = 10, source: Source = LIVE, **fields) -> Recording:
    return recorder_of(count, source=source, **fields).finish()


def copies(**columns) -> Recording:
    table = {
        "direction": np.array(["h2d", "d2h", "h2d"]),
        "host_memory": np.array(["pageable", "pinned", "write_combined"]),
        "bytes": np.array([4096, 4096, 8192]),
        "backlog_ns": np.array([0, 1_000_000, 0]),
        "call_ns": np.array([6_800, 5_000, 5_100]),
        "sync_ns": np.array([4_900, 996_500, 4_000]),
    }
    return Recording("copies", table | columns, LIVE)


def same(one: Recording, other: Recording) -> bool:
    """Equal but for what a load changes: where the numbers come from."""
    columns = ([(n, v.dtype.kind, v.tolist()) for n, v in each.columns.items()] for each in (one, other))
    metadata = (each.metadata | {"source": None} for each in (one, other))
    return operator.eq(*columns) and operator.eq(*metadata)


def write(path: Path, table: pyarrow.Table, metadata: object = None) -> Path:
    """A Parquet file that the lab did not write."""
    text = metadata if isinstance(metadata, bytes) else json.dumps(metadata).encode()
    parquet.write_table(table.replace_schema_metadata(None if metadata is None else {b"yolotrt_lab": text}), path)
    return path


@pytest.fixture
def saved(tmp_path) -> Path:
    path = tmp_path / "run.parquet"
    frames(label="run", settings={"period_us": 898.0}).save(path)
    return path


@pytest.fixture
def small_batches(monkeypatch):
    """A batch of a recorder is 4 frames."""
    monkeypatch.setattr(module, "BATCH_FRAMES", 4)


METADATA = frames().metadata | {"rows": 10}


class TestTable:
    def test_latency_stages_and_what_is_left_without_the_warm_up(self):
        recording = frames(5)
        assert recording.latency_ns.tolist() == [100, 110, 120, 130, 140]
        assert recording.stage_ns(Stage.UPLOAD).tolist() == [2] * 5
        assert recording.columns["warmup"].tolist() == [True, True, True, False, False]
        assert recording.steady.columns["frame"].tolist() == [3, 4]
        assert recording.steady.latency_ns.tolist() == [130, 140]
        assert len(recording) == 5

    def test_nothing_in_it_can_be_changed_and_the_callers_arrays_stay_the_callers(self):
        calls = np.array([1, 2, 3])
        recording = copies(call_ns=calls)
        calls[:] = 0
        assert recording.columns["call_ns"].tolist() == [1, 2, 3]
        with pytest.raises(ValueError, match="read-only"):
            recording.columns["call_ns"][0] = 1
        for mapping in (recording.columns, recording.settings, recording.machine):
            with pytest.raises(TypeError):
                mapping["a"] = 2
        with pytest.raises(AttributeError):
            recording.label = "other"

    def test_settings_are_json_and_created_is_in_utc_from_the_start(self):
        assert datetime.fromisoformat(frames().created).utcoffset() == timedelta(0)
        recording = frames(settings={"memory": HostMemory.PINNED, "shape": (1, 3), "period_us": None})
        assert recording.settings == {"memory": "pinned", "shape": [1, 3], "period_us": None}
        for bad in ({"when": datetime.now(UTC)}, {"x": float("nan")}, {"x": np.int64(1)}):
            with pytest.raises(RecordingError, match="settings"):
                FrameRecorder(source=LIVE, settings=bad)

    def test_further_columns_follow_the_schema(self):
        further = {"sm_clock_mhz": np.array([1_980.0, np.nan, 1_700.0, 1_700.0]), "gpu_ns": np.arange(4)}
        wider = replace(frames(4), columns=frames(4).columns | further)
        assert wider.columns["sm_clock_mhz"][2] == 1_700.0
        assert wider.steady.columns["gpu_ns"].tolist() == [3]

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({"due_ns": np.zeros(10)}, "due_ns must be int64 .* got float64"),
            ({"due_ns": np.zeros(10, np.int32)}, "due_ns must be int64 .* got int32"),
            ({"warmup": np.zeros(10, np.int64)}, "warmup must be bool .* got int64"),
            ({"due_ns": np.zeros(9, np.int64)}, "differ in length: .*due_ns 9"),
            ({"due_ns": np.zeros((10, 1), np.int64)}, r"of \(10, 1\)"),
            ({"gpu_ns": np.zeros(10)}, "gpu_ns must be int64 .* got float64"),
            ({"note": np.array(["x"] * 10)}, "note must be int64 or float64 .* got str"),
        ],
    )
    def test_wrong_columns_are_refused(self, changed, message):
        recording = frames()
        with pytest.raises(RecordingError, match=message):
            replace(recording, columns={**recording.columns, **changed})

    def test_missing_columns_and_unknown_words_are_named(self):
        with pytest.raises(RecordingError, match="missing columns start_ns, done_ns, wait_ns"):
            Recording("frames", {"frame": np.arange(2), "due_ns": np.arange(2)}, LIVE)
        with pytest.raises(RecordingError, match="one of frames, copies, got 'traces'"):
            Recording("traces", {}, LIVE)
        with pytest.raises(RecordingError, match=r"host_memory must hold .* got \['paged'\]"):
            copies(host_memory=np.array(["paged", "pinned", "pinned"]))
        with pytest.raises(RecordingError, match="no column 'done_ns'"):
            _ = copies().latency_ns


class TestFile:
    @pytest.mark.parametrize(
        "recording",
        [
            frames(1_000, SIMULATED, machine=machine_info(), settings={"graph": True}, label="a", command="b"),
            replace(frames(9), notes=("a note", "another")),
            frames(0),
            copies(),
        ],
    )
    def test_a_recording_comes_back_as_it_was_but_never_live(self, recording, tmp_path):
        recording.save(tmp_path / "new" / "run.parquet")
        loaded = Recording.load(tmp_path / "new" / "run.parquet")
        assert same(loaded, recording)
        live = recording.source.kind is SourceKind.LIVE
        assert loaded.source == (replace(LIVE, kind=SourceKind.RECORDED) if live else SIMULATED)

    @given(
        st.lists(st.tuples(*[st.integers(-(2**63), 2**63 - 1)] * (len(FRAME_COLUMNS) - 1), st.booleans()), max_size=8)
    )
    def test_every_int64_survives(self, tmp_path_factory, rows):
        recorder = FrameRecorder(source=LIVE)
        for values in rows:
            recorder.add(values)
        path = tmp_path_factory.mktemp("int64") / "run.parquet"
        recorder.finish().save(path)
        loaded = Recording.load(path)
        assert list(zip(*(values.tolist() for values in loaded.columns.values()), strict=True)) == rows

    def test_arrow_types_that_are_asked_for_are_given(self):
        schema = pyarrow.schema([(name, pyarrow.large_string()) for name in ("direction", "host_memory")])
        schema = pyarrow.schema([*schema, *((name, pyarrow.int64()) for name in list(copies().columns)[2:])])
        reader = pyarrow.RecordBatchReader.from_stream(copies(), schema)
        assert reader.read_all().schema == schema

    def test_an_earlier_file_is_replaced_and_nothing_else_is_left(self, saved):
        frames(3).save(saved)
        assert len(Recording.load(saved)) == 3
        assert list(saved.parent.iterdir()) == [saved]


class TestTwoRuns:
    def test_into_one_path_the_second_is_refused_while_the_first_runs_and_the_first_stays_whole(self, tmp_path):
        path = tmp_path / "run.parquet"
        first = FrameRecorder(path, source=LIVE)
        with pytest.raises(RecordingError, match="another run records to"):
            FrameRecorder(path, source=LIVE)
        first.add(row(0))
        assert same(first.finish(), Recording.load(path))
        assert [each.name for each in tmp_path.iterdir()] == ["run.parquet"]

    def test_without_overwriting_a_recording_that_is_there_is_refused_and_stays(self, saved):
        with pytest.raises(RecordingError, match="exists already"):
            FrameRecorder(saved, source=LIVE, overwrite=False)
        assert len(Recording.load(saved)) == 10
        assert list(saved.parent.iterdir()) == [saved]

    def test_recorders_are_watched_whoever_creates_them(self):
        with module.watched() as made:
            recorder_of(3)
            recorder_of(2).finish()
        recorder_of(1)
        assert [len(each) for each in made] == [3, 2]


def test_missing_frames_are_named_when_a_recording_is_read(tmp_path):
    recording = frames(40)
    kept = ~np.isin(recording.columns["frame"], [5, 6, 7, 20])
    holes = replace(recording, columns={name: values[kept] for name, values in recording.columns.items()})
    holes.save(tmp_path / "holes.parquet")
    assert Recording.load(tmp_path / "holes.parquet").notes == ("frames are missing: 5 to 7, 20 to 20",)
    for path in sorted((ROOT / "data" / "recordings" / "h200").glob("*.parquet")):
        assert not any("missing" in note for note in Recording.load(path).notes), path


def test_a_table_beyond_the_limit_is_refused_whatever_the_size_of_its_file(tmp_path, monkeypatch):
    rows = pyarrow.table({"infer_ms": pyarrow.nulls(3_000_000, pyarrow.float64())})
    path = write(tmp_path / "zeros.parquet", rows)
    assert path.stat().st_size < 10_000
    monkeypatch.setenv("YOLOTRT_LAB_MAX_MB", "20")
    with pytest.raises(RecordingError, match=r"at most 20 MB, got 24 MB\nFix: .*YOLOTRT_LAB_MAX_MB=48"):
        module.read_arrow(path)


class TestWhatIsNoRecording:
    def refused(self, path: Path, message: str) -> RecordingError:
        with pytest.raises(RecordingError, match=message) as caught:
            Recording.load(path)
        assert path.name in caught.value.message
        return caught.value

    def test_nothing_there_and_a_folder(self, tmp_path):
        self.refused(tmp_path / "run.parquet", "does not exist")
        self.refused(tmp_path, "no readable Parquet or Arrow file")

    @pytest.mark.parametrize("content", [b"", b"frame,due_ns\n0,0\n", b"PAR1", b"PAR1" * 100])
    def test_other_files(self, tmp_path, content):
        path = tmp_path / "run.parquet"
        path.write_bytes(content)
        self.refused(path, "no readable Parquet or Arrow file")

    def test_a_file_cut_off_anywhere(self, saved):
        content = saved.read_bytes()
        for length in range(0, len(content), 197):
            saved.write_bytes(content[:length])
            self.refused(saved, "no readable Parquet or Arrow file")

    def test_damage_in_any_page(self, saved):
        content = saved.read_bytes()
        footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
        intact = Recording.load(saved)
        refusals = 0
        for place in range(4, footer, 13):
            saved.write_bytes(content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :])
            try:
                assert same(Recording.load(saved), intact)
            except RecordingError:
                refusals += 1
        assert refusals > len(range(4, footer, 13)) / 2

    def test_parquet_of_something_else(self, tmp_path):
        path = write(tmp_path / "other.parquet", pyarrow.table({"frame": [1], "price": [2.0]}))
        error = self.refused(path, "have metadata 'yolotrt_lab', got only the columns frame, price")
        assert "Recording.save" in error.fix

    def test_a_newer_schema(self, saved):
        write(saved, parquet.read_table(saved), METADATA | {"schema": SCHEMA_VERSION + 1, "new_field": 1})
        error = self.refused(saved, f"schema version {SCHEMA_VERSION + 1}")
        assert error.fix == "update the lab"

    @pytest.mark.parametrize(
        ("metadata", "message"),
        [
            *[(metadata, "must be a JSON object") for metadata in ([], "text", 3, b"\xff", b"[" * 9_000, b"{")],
            *[(METADATA | change, "not one of them") for change in ({"unknown": 3}, {"sourcf": {}})],
            ({}, "'command' is missing"),
            *[
                (METADATA | {name: value}, f"'{name}' in its metadata must be of type")
                for name, value in {
                    "schema": "one",
                    "source": None,
                    "machine": 3,
                    "settings": [],
                    "notes": "text",
                }.items()
            ],
            (METADATA | {"source": {"kind": "guessed"}}, "'source' in its metadata does not say"),
            (METADATA | {"source": {}}, "'source' in its metadata does not say"),
            *[(METADATA | change, "must be text, got 3") for change in ({"notes": ["a", 3]}, {"machine": {"os": 3}})],
        ],
        ids=lambda value: None if isinstance(value, dict) else str(value),  # metadata hold the time of day
    )
    def test_damaged_metadata(self, saved, metadata, message):
        write(saved, parquet.read_table(saved), metadata)
        assert "record again" in self.refused(saved, f"not a usable recording: .*{message}").fix

    def test_text_whose_ends_are_damaged(self, tmp_path):
        ends, text = (pyarrow.py_buffer(data) for data in (np.array([0, -5, 3], np.int32), b"h2d"))
        broken = pyarrow.table({"direction": pyarrow.StringArray.from_buffers(2, ends, text)})
        with pyarrow.ipc.new_stream(tmp_path / "broken.arrow", broken.schema) as stream:
            stream.write_table(broken)
        self.refused(tmp_path / "broken.arrow", "no readable Parquet or Arrow file")

    @pytest.mark.parametrize(
        ("column", "values", "message"),
        [
            ("due_ns", [0.5] * 10, "due_ns must be .* got float64"),
            ("due_ns", [1, None] * 5, "due_ns must be .* got float64"),
            ("warmup", [True, None] * 5, "warmup must be .* got object"),
            ("due_ns", ["1"] * 10, "due_ns must be .* got str"),
            ("due_ns", [[1]] * 10, "due_ns must be .* got object"),
        ],
    )
    def test_wrong_dtypes(self, saved, column, values, message):
        table = parquet.read_table(saved)
        write(saved, table.set_column(table.column_names.index(column), column, pyarrow.array(values)), METADATA)
        self.refused(saved, message)

    def test_columns_or_rows_that_somebody_took_out_or_put_in(self, saved):
        table = parquet.read_table(saved)
        write(saved, table.append_column("wait_ns", table["wait_ns"]), METADATA)
        self.refused(saved, "must have one column of a name, got two called wait_ns")
        write(saved, table.drop_columns(["done_ns"]), METADATA)
        self.refused(saved, "missing columns done_ns")
        write(saved, table.slice(0, 8), METADATA)
        self.refused(saved, "8 of its 10 rows")


class TestRecorder:
    def test_blocks_make_one_table(self, small_batches):
        recorder = FrameRecorder(source=LIVE)
        for frame in range(11):
            recorder.add(row(frame))
            assert recorder.recording().columns["frame"].tolist() == list(range(frame + 1))
        with pytest.raises(ValueError, match="12 fields"):
            recorder.add((1, 2, 3))
        assert recorder.finish().columns["done_ns"].tolist() == [row(frame)[3] for frame in range(11)]

    def test_batches_hold_the_run_until_it_ends(self, small_batches, tmp_path):
        path, partial = tmp_path / "run.parquet", tmp_path / "run.parquet.partial"
        recorder = recorder_of(10, path, label="long")
        for found in (path, partial):
            unfinished = Recording.load(found)
            assert unfinished.columns["frame"].tolist() == list(range(8))
            assert unfinished.columns["warmup"].tolist() == [True] * 3 + [False] * 5
            assert (unfinished.label, unfinished.source.kind) == ("long", SourceKind.RECORDED)
            assert unfinished.notes == ("unfinished: 8 frames of a run that was interrupted",)
        assert len(read(partial).times_ns["latency"]) == 5
        unfinished.save(tmp_path / "rescued.parquet")
        assert Recording.load(tmp_path / "rescued.parquet").notes == unfinished.notes
        assert same(recorder.finish(), Recording.load(path))
        assert not partial.exists()
        assert len(Recording.load(path)) == 10

    def test_a_stream_cut_off_anywhere_gives_its_whole_batches(self, small_batches, tmp_path):
        partial, sizes = tmp_path / "run.parquet.partial", []
        recorder = FrameRecorder(tmp_path / "run.parquet", source=LIVE)
        for frame in range(12):
            recorder.add(row(frame))
            sizes.append(partial.stat().st_size)
        content = partial.read_bytes()
        recorder.finish()
        cut_off = tmp_path / "cut.partial"
        for length in range(sizes[3], len(content), 41):
            cut_off.write_bytes(content[:length])
            whole = sum(size <= length for size in sizes[3::4])
            assert Recording.load(cut_off).columns["frame"].tolist() == list(range(4 * whole))
        cut_off.write_bytes(content[:100])
        with pytest.raises(RecordingError, match="no readable"):
            Recording.load(cut_off)

    def test_what_ended_a_run_early_is_noted_beside_all_of_its_frames(self, small_batches, tmp_path):
        recorder_of(6, tmp_path / "run.parquet").finish("unfinished: Ctrl-C")
        kept = Recording.load(tmp_path / "run.parquet")
        assert kept.columns["frame"].tolist() == list(range(6))
        assert kept.notes == ("unfinished: Ctrl-C",)

    def test_a_run_without_a_frame_leaves_the_earlier_file(self, saved):
        assert len(FrameRecorder(saved, source=LIVE).finish()) == 0
        assert len(Recording.load(saved)) == 10
        assert list(saved.parent.iterdir()) == [saved]

    def test_what_a_run_left_unfinished_is_named_and_overwritten_where_that_is_asked_for(self, saved):
        partial = saved.with_name("run.parquet.partial")
        saved.rename(partial)
        with pytest.raises(
            RecordingError, match=r"partial holds what a run recorded that a full disk.*\nFix: .*--force"
        ):
            FrameRecorder(saved, source=LIVE, overwrite=False)
        assert len(Recording.load(partial)) == 10
        recorder_of(3, saved).finish()
        assert len(Recording.load(saved)) == 3
        assert list(saved.parent.iterdir()) == [saved]

    def test_where_nothing_can_be_recorded(self, tmp_path):
        with pytest.raises(RecordingError, match="it is a folder"):
            FrameRecorder(tmp_path, source=LIVE)
        (tmp_path / "file").write_text("")
        with pytest.raises(RecordingError, match=r"cannot be written: .*file is a file, and no folder"):
            FrameRecorder(tmp_path / "file" / "run.parquet", source=LIVE)
        with pytest.raises(RecordingError, match="cannot be written"):
            frames().save(tmp_path / "file" / "run.parquet")


SCRIPT = """
    import os, signal, sys
    from pathlib import Path
    import numpy as np
    from yolotrt_lab import recording
    from yolotrt_lab.errors import RecordingError
    from yolotrt_lab.types import Source, SourceKind

    def limit(nbytes):
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, resource.RLIM_INFINITY))

    def row(frame):
        return (frame, *rng.integers(0, 10**9, 10).tolist(), False)

    path, rng = Path(sys.argv[1]), np.random.default_rng(0)
    recording.BATCH_FRAMES = 500
    recorder = recording.FrameRecorder(path, source=Source(SourceKind.LIVE))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals and a limit on file sizes are POSIX")
class TestWhatARunSurvives:
    """In a process of its own. Beyond a limit the operating system refuses to write, as it does on a full disk."""

    def run(self, path: Path, script: str, status: int = 0) -> str:
        code = textwrap.dedent(SCRIPT) + textwrap.dedent(script)
        done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, cwd=ROOT, check=False)
        assert done.returncode == status, done.stderr
        return done.stdout

    def test_rows_outlive_a_kill(self, tmp_path):
        script = """
            for frame in range(1_234):
                recorder.add(row(frame))
            os.kill(os.getpid(), signal.SIGKILL)
            """
        self.run(tmp_path / "run.parquet", script, -9)
        assert Recording.load(tmp_path / "run.parquet").columns["frame"].tolist() == list(range(1_000))

    def test_a_failed_save_leaves_the_earlier_file_and_the_recording(self, saved):
        printed = self.run(
            saved,
            """
            for frame in range(400):
                recorder.add(row(frame))
            limit(4_096)
            try:
                recorder.finish()
            except RecordingError as error:
                print(error)
            assert len(recording.Recording.load(path)) == 10, "the earlier file"
            limit(-1)
            recorder.finish()
            """,
        )
        assert f"it needs {saved.stat().st_size:,} bytes" in printed
        assert len(Recording.load(saved)) == 400
        assert list(saved.parent.iterdir()) == [saved]

    def test_a_disk_that_fills_mid_run(self, tmp_path):
        printed = self.run(
            tmp_path / "run.parquet",
            """
            try:
                for frame in range(10_000):
                    recorder.add(row(frame))
                    if frame == 1_600:
                        limit(4_096)
            except RecordingError as error:
                print(error)
            print("frames so far:", len(recorder.recording()))
            try:
                recorder.finish()
            except RecordingError:
                print("not saved")
            """,
        )
        assert "run.parquet.partial cannot be written" in printed
        assert "frames so far: 2000" in printed
        assert "Recording.load reads the frames there, all but the last 500" in printed
        assert "not saved" in printed
        rescued = Recording.load(tmp_path / "run.parquet")
        assert rescued.columns["frame"].tolist() == list(range(1_500))


def test_machine_info_says_what_the_numbers_depend_on_and_names_neither_host_nor_person():
    info = machine_info()
    assert info["numpy"] == np.__version__
    assert info["python"] == ".".join(map(str, sys.version_info[:3]))
    assert int(info["cpu_count"]) == os.cpu_count()
    assert info["cpu"] and info["os"]
    told = json.dumps(info)
    assert str(Path.home()) not in told
    for name in (platform.node(), getpass.getuser()):
        assert len(name) < 5 or name not in told


def test_a_shipped_recording_is_found_by_its_name_whichever_gpu_it_is_of():
    assert Recording.shipped("overload").label == "overload"
    with pytest.raises(RecordingError, match="overload-pinned"):
        Recording.shipped("nonsense")


def test_runs_after_each_other_are_joined_with_their_frames_numbered_on():
    first = frames(5, settings={"frames": 2, "graph": True})
    whole = joined([first, frames(4)], frames=3, turns=2)
    assert whole.columns["warmup"].tolist() == [True] * 3 + [False] * 2 + [True] * 3 + [False]
    assert whole.columns["frame"].tolist() == [0, 1, 2, 0, 1, 0, 1, 2, 2]
    assert whole.columns["done_ns"].tolist() == [*first.columns["done_ns"], *first.columns["done_ns"][:4]]
    assert whole.settings == {"frames": 3, "graph": True, "turns": 2}
    assert (whole.source, whole.created) == (first.source, first.created)
