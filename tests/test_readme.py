"""The figures in README and docs are those of the data that ships."""

import inspect
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import yolotrt_lab as lab
from scripts.write_ladder import page
from yolotrt_lab.packages import lab_path
from yolotrt_lab.recording import Recording
from yolotrt_lab.speed.ladder import Claim, Ladder

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PINNED = (ROOT / "docs" / "pinned.md").read_text(encoding="utf-8")
LADDER = (ROOT / "docs" / "ladder.md").read_text(encoding="utf-8")


def test_ladder_is_the_shipped_one():
    shipped = Ladder.shipped()
    assert page(shipped) == LADDER
    first, last = shipped.steps[0].together.frame_us, shipped.steps[-1].together.frame_us
    share, peer = last / shipped.limits.many_nv12_us, shipped.peers["ultralytics predict, frame to boxes"]
    said = " ".join(README.split())
    assert f"from {first:,.0f} to {last:,.0f} us a frame" in said
    assert f"takes {share:.2f} of what the hardware allows; ultralytics `predict` took {peer:,.0f} us" in said


def test_what_batches_of_sixteen_change_is_said_once_it_was_measured():
    shipped = Ladder.shipped()
    fp32 = Claim("batches of 16 in fp32: frames", 0, 0)
    fp16 = Claim("batches of 16 in fp16: frames", 1.1, 1.25, detail="81 and 74 of 500, 76 between the two: scores ...")
    said = " ".join(page(replace(shipped, claims=(*shipped.claims, fp32, fp16))).split())
    assert "other boxes than batches of four in 76 of the frames, and other boxes than FP32 in 81, batches of" in said
    assert "batches of four in 74. In FP32 without TF32 sixteen and four differ in none." in said


def test_one_claim_of_the_shipped_ladder_fails_and_readme_says_which():
    claims = Ladder.shipped().claims
    assert len(claims) > 20
    assert [claim.name for claim in claims if not claim.holds] == [
        "batches of 16 in fp32: frames of 500 whose boxes are not those of batches of 4"
    ]
    assert f"the one claim of {len(claims)} that fails" in " ".join(LADDER.split())


def table(header: str, text: str = PINNED) -> list[list[str]]:
    """The cells of the table that starts with that header."""
    rows = text[text.index(header) :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def test_the_reports_curve_is_the_shipped_recordings():
    columns = Recording.shipped("report").steady.columns
    for processes, memory, *cells in table("| other processes |", README):
        chosen = (columns["processes"] == int(processes)) & (columns["pinned"] == memory.startswith("pinned"))
        names = ("upload_ns", "infer_ns", "synchronize_ns")
        took = [(columns["preprocess_ns"] + columns["upload_ns"])[chosen], *(columns[name][chosen] for name in names)]
        for cell, values in zip(cells, took, strict=True):
            digits = len(cell.partition(".")[2])
            assert float(cell) == round(float(np.median(values)) / 1e6, digits)


def test_cameras_are_the_shipped_recordings():
    columns = Recording.shipped("cameras").steady.columns
    for threads, *cells in table("| threads |"):
        for pinned in (0, 1):
            chosen = (columns["threads"] == int(threads)) & (columns["pinned"] == pinned)
            took_s = (columns["done_ns"][chosen].max() - columns["start_ns"][chosen].min()) / 1e9
            assert cells[pinned] == f"{np.median(columns['upload_ns'][chosen]) / 1e6:.3f} ms"
            assert cells[2 + pinned] == f"{chosen.sum() / took_s:,.0f}"


def test_frames_as_fast_as_served_are_the_shipped_recordings():
    names = ("served-report", "served-pageable", "served-copied", "served-pinned", "trap-allocate")
    columns = [Recording.shipped(name).steady.columns for name in names]
    frames_us = [np.median(each["done_ns"] - each["start_ns"]) / 1e3 for each in columns]
    found = [cells[1:] for cells in table("| input | us a frame |")]
    assert found == [[f"{frame_us:,.0f}", f"{frames_us[0] / frame_us:.2f}"] for frame_us in frames_us]


def test_what_readme_says_of_pinned_memory_is_what_its_tables_say():
    (*_, pageable, pinned), said = table("| threads |")[-1], " ".join(README.split())
    assert f"**Eight cameras in one process**: {pinned} frames a second instead of {pageable}." in said
    slow, fast = table("| input | period |")
    assert f"latency stays at {fast[3]} instead of climbing to {slow[3].removesuffix(' ms')}." in said
    fresh, _, copied, in_place, in_loop = (cells[1] for cells in table("| input | us a frame |"))
    assert f"{in_place} us a frame instead of {fresh}." in said
    assert f"takes {copied}, allocating it in the loop {in_loop}." in said


@pytest.mark.parametrize(
    "path", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda path: path.name
)
def test_what_pages_link_to_is_there(path):
    text = path.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if not link.startswith(("http", "#"))]
    assert [link for link in links if not (path.parent / link.partition("#")[0]).exists()] == []
    assert links or path.name == "package.md"


def test_what_the_profiler_adds_is_what_was_measured():
    measured = json.loads(lab_path("data", "traces", "h200", "profiler.json").read_text(encoding="utf-8"))
    rows = iter(table("| loop | | upload call |"))
    for name in ("graph-pageable", "graph-pinned"):
        for took in measured[name].values():
            cells = next(rows)[2:]
            for cell, stage in zip(cells, ("upload", "infer", "synchronize", "frame"), strict=True):
                assert float(cell.replace(",", "")) == pytest.approx(
                    took[stage], abs=0.51 * 10 ** -len(cell.partition(".")[2])
                )


def test_the_bill_that_readme_shows_is_the_one_that_diagnose_prints():
    shown = README[README.index("```\n  frame goes") + 4 :].split("```")[0].split("\n\n")
    printed = str(lab.diagnose.bill(lab.diagnose.read(lab_path("data", "recordings", "h200", "report.parquet"))))
    assert all(part.strip("\n") in printed for part in shown)


def test_the_fixed_loop_is_the_solution_of_its_exercise():
    code = README[README.index("def fill_in_place") :].split("```")[0]
    bare = [line.split("  # ")[0] for line in code.strip().splitlines()]
    assert bare == lab.gym.exercises()["fill_in_place"].solution.strip().splitlines()


def test_the_frame_that_readme_shows_is_that_of_the_loop():
    shown = README[README.index("```python\nwith wait:") + 10 :].split("```")[0].splitlines()
    written = [line.strip() for line in inspect.getsource(lab.FrameLoop._frame).splitlines()]
    places = [written.index(line.strip()) for line in shown if line.strip() != "..."]
    assert places == sorted(places) and len(places) > 12


def test_the_public_programs_upload_in_cpp_is_the_shipped_recording():
    levels = lab.causes.report_levels(Recording.shipped("public-program"))
    alone, beside, pinned = levels[0, False], levels[20, False], levels[20, True]
    copy, sync = "copy_from_Mat", "cudaStreamSynchronize"
    said = (
        f"from {alone[copy]:.2f} to {beside[copy]:.2f} ms and synchronize from {alone[sync]:.2f} to {beside[sync]:.1f}"
    )
    assert f"{said}; pinned, the upload call takes {pinned['cudaMemcpyAsync']:.2f} ms" in " ".join(README.split())
    assert pinned["frame"] == pytest.approx(beside["frame"], rel=0.01)
