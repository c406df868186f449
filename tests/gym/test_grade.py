"""The check itself: whatever a reader writes, he gets an answer that names his line."""

from __future__ import annotations

import gc
import re
import runpy
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from samples import sampled

import yolotrt_lab as lab
from yolotrt_lab.errors import SettingsError
from yolotrt_lab.gym import check, exercises, grade, mystery, rig, trial, try_live, try_loop
from yolotrt_lab.simulate import Preset, SimulatedDevice, SimulatedEngine, open_timed_engine
from yolotrt_lab.types import TensorSpec

UPLOAD = "memcpy_async(d_image.data.ptr, image.ctypes.data, image.nbytes, TO_DEVICE, stream.ptr)"
DOWNLOAD = "memcpy_async(h_output.ctypes.data, d_output.data.ptr, h_output.nbytes, TO_HOST, stream.ptr)"
LOOP = f"""
def mine(frames, done):
    image = cupyx.empty_pinned(d_image.shape, d_image.dtype)
    for frame in frames:
        letterbox(frame, out=image)
        {UPLOAD}
        context.execute_async_v3(stream.ptr)
        {DOWNLOAD}
        stream.synchronize()
        done(h_output)
"""


def function(source):
    names = {"np": np, "threading": threading}
    exec(compile(source, "mine.py", "exec"), names)
    return names["mine"]


def changed(old, new):
    assert LOOP.count(old) == 1
    return function(LOOP.replace(old, new))


def test_a_loop_of_ones_own_is_checked_without_an_exercise(gpu):
    checked = check(function(LOOP), gpu)
    assert checked.passed
    assert [row[2] for row in checked.calls.rows] == ["enqueue", "letterbox", "wait"]
    assert checked.trial.limit_us == pytest.approx(404.96)
    assert "of the solution" not in str(checked)


@pytest.mark.exhaustive
def test_checks_give_their_devices_back(gpu):
    for _ in range(6):
        check(function(LOOP), gpu)
        gc.collect()
    devices = [each for each in gc.get_objects() if type(each) is SimulatedDevice]
    assert len(devices) < 5  # `gpu`, and what the last threads still hold


def test_the_loop_is_as_fast_as_the_labs_own(gpu):
    settings = lab.LoopSettings(input_memory="pinned", fill="in_place", frames=20, warmup=2)
    frames = lab.run_loop(gpu, lab.open_engine(gpu), settings, [np.zeros((1080, 1920, 3), np.uint8)]).steady
    theirs_us = np.median(np.diff(frames.columns["start_ns"])) / 1e3
    assert check(function(LOOP), gpu).trial.frame_us == pytest.approx(theirs_us, rel=0.02)


@pytest.mark.parametrize(
    ("old", "new", "what", "line"),
    [
        (
            "stream.synchronize()",
            "stream.sync()",
            "the simulated Stream has no 'sync'; it has begin_capture, .*synchronize",
            9,
        ),
        ("letterbox(frame, out=image)", "letterbox(frame, into=image)", "TypeError: .*into", 5),
        ("letterbox(frame, out=image)", "1 / 0", "ZeroDivisionError: division by zero", 5),
        ("done(h_output)", "done(h_output[:, :4])", "done must get the network's output of one frame", 10),
        ("d_image.data.ptr", "h_output.ctypes.data", "device memory at .* must have 4,915,200 bytes", 6),
        (UPLOAD, UPLOAD.replace("stream.ptr", "0"), "a live stream, got 0", 6),
        ("        letterbox(frame, out=image)", "        while True:\n            pass", "the loop must end", None),
        ("done(h_output)", "raise SystemExit", "SystemExit", 10),
        (
            "done(h_output)",
            "done(h_output)\n        image[0, 0, 0, 0] = 1\n        " + UPLOAD + "\n        image[:] = 0",
            "the host writes memory that a copy",
            13,
        ),
        ("done(h_output)", "pass", "done must be called once for each of 16 frames, got 0 calls", None),
        ("done(h_output)", "done(np.zeros_like(h_output))", "the result of frame 0 must be the network's output", None),
    ],
)
def test_what_is_wrong_is_said_with_the_line(old, new, what, line, gpu, monkeypatch):
    monkeypatch.setattr(trial, "_MOST_LINES", 2_000)
    checked = check(changed(old, new), gpu)
    assert not checked.passed
    assert re.search(what, checked.findings[0].what)
    if line is not None:
        assert checked.findings[0].lines[0] == ("mine.py", line)


ENDLESS = """
def mine(frames, done):
    while True:
        try:
            while True:
                pass
        except:
            continue
"""
IN_A_THREAD = """
def mine(frames, done):
    thread = threading.Thread(target=endless, args=(frames, done))
    thread.start()
    thread.join()
"""


@pytest.mark.parametrize("source", [ENDLESS, IN_A_THREAD + ENDLESS.replace("mine", "endless")])
def test_a_loop_that_holds_every_exception_is_stopped_all_the_same(source, gpu, monkeypatch):
    monkeypatch.setattr(trial, "_MOST_LINES", 5_000)
    (found,) = check(function(source), gpu).findings
    assert found.what == "the loop must end, got no end after 5,001 lines"


def test_the_device_is_the_checks_again_only_once_the_thread_of_the_loop_has_ended(gpu, monkeypatch):
    run = trial.Watch._run

    def ends_late(*arguments):
        run(*arguments)
        time.sleep(0.05)

    monkeypatch.setattr(trial.Watch, "_run", ends_late)
    assert check(function(LOOP), gpu).passed


METHODS = """
class Frames:
    def run(self, frame):
        d_image.set(letterbox(frame), stream)
        context.execute_async_v3(stream.ptr)
        cupy.cuda.Device().synchronize()
        cupy.cuda.runtime.deviceSynchronize()
        return d_output.get(stream)

def mine(frames, done):
    mine = Frames()
    for frame in frames:
        done(mine.run(frame))
"""
THREADS = """
def run(frame, results):
    both.wait()
    d_image.set(letterbox(frame), stream)
    both.wait()
    context.execute_async_v3(stream.ptr)
    results.append(d_output.get(stream))

def mine(frames, done):
    for frame in frames:
        results = []
        threads = [threading.Thread(target=run, args=(frame, results)) for _ in range(COUNT)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        done(results[0])
"""


@pytest.mark.parametrize("source", [METHODS, THREADS.replace("COUNT", "1")])
def test_classes_and_threads_in_turn_see_the_names_of_the_device(source, gpu):
    loop = function(source)
    loop.__globals__.update(both=threading.Barrier(1), stream="mine")
    assert check(loop, gpu).passed
    assert loop.__globals__["stream"] == "mine"
    assert "d_image" not in loop.__globals__


def test_threads_at_once_are_an_error_with_its_line_and_no_raw_traceback(gpu, capfd):
    loop = function(THREADS.replace("COUNT", "2"))
    loop.__globals__["both"] = threading.Barrier(2)
    (found,) = check(loop, gpu).findings
    assert found.what.startswith("a simulated device must be called by one Python thread at a time")
    assert found.lines[0][1] in (4, 6, 7)
    assert capfd.readouterr().err == ""


def test_the_copy_into_pinned_memory_takes_time(gpu):
    filled = try_loop(function(LOOP))
    loop = changed("letterbox(frame, out=image)", "letterbox(frame, out=blob)\n        image[:] = blob")
    loop.__globals__["blob"] = np.empty((1, 3, 640, 640), np.float32)
    copied = try_loop(loop)
    took = sum(us for us, kind, _ in copied.calls if kind == "copy")
    assert took == pytest.approx(376.275, rel=0.05)
    assert copied.frame_us - filled.frame_us == pytest.approx(took, rel=0.1)


@pytest.mark.parametrize("name", sampled(["wait_for_the_event", "other_boxes"], every=2))
def test_a_forgotten_last_result_is_counted_before_its_memory_is_missed(name, gpu):
    exercise = exercises()[name]
    source = "\n".join(exercise.solution.splitlines()[:-2])
    loop = exercise.function(f"{source}\n\n\ndef grade(gpu):\n    return lab.check({name}, gpu)\n")
    for checked in (check(loop, gpu), loop.__globals__["grade"](gpu)):
        (found,) = checked.findings[:1]
        assert found.what == (
            "the loop ends while frames are in flight: done must be called once for each of 16 frames, got 15 calls"
        )
        assert "call done(result) for every frame" in found.fix
        assert found.lines == ()


def test_memory_that_goes_with_the_loop_is_missed_on_the_line_of_its_copy(gpu):
    loop = function(LOOP + f"    {UPLOAD}\n\n\ndef grade(gpu):\n    return check(mine, gpu)\n")
    loop.__globals__["check"] = check
    (found,) = loop.__globals__["grade"](gpu).findings
    assert "bytes of pinned memory are freed" in found.what
    assert found.lines == (("mine.py", 11),)


def test_a_place_in_a_batch_may_be_an_index(gpu):
    exercise = exercises()["batch_the_cameras"]
    place = "d_images.data.ptr + i % 4 * frame.nbytes"
    assert exercise.solution.count(place) == 1
    checked = check(exercise.function(exercise.solution.replace(place, "d_images[i % 4].data.ptr")), gpu)
    assert checked.passed, str(checked)


GRAPH = """
def batch_the_cameras(frames, done):
    context.execute_async_v3(stream.ptr)
    stream.synchronize()
    with stream:
        stream.begin_capture()
        context.execute_async_v3(stream.ptr)
        graph = stream.end_capture()
    for frame in frames:
        memcpy_async(d_image.data.ptr, frame.ctypes.data, frame.nbytes, TO_DEVICE, stream.ptr)
        graph.launch(stream)
        memcpy_async(h_output.ctypes.data, d_output.data.ptr, h_output.nbytes, TO_HOST, stream.ptr)
        stream.synchronize()
        done(h_output)
"""


@pytest.mark.parametrize("by", ["kernel by kernel", "a graph"])
def test_where_a_batch_is_asked_for_no_graph_is_advised(by, gpu):
    """Beside that pinned memory that no copy uses is a finding of its own: it is not what holds the host."""
    exercise = exercises()["batch_the_cameras"]
    left = GRAPH.replace("    for frame", "    left = cupyx.empty_pinned(d_image.shape, d_image.dtype)\n    for frame")
    source, line, runs = (exercise.start, 4, 16) if by == "kernel by kernel" else (left, 12, 17)
    found, *others = check(exercise.function(source), gpu).findings
    assert found.what.startswith(f"the network runs {runs} times for 16 frames, in the solution 4 times")
    assert found.fix.startswith("run 4 frames in a batch")
    assert [number for _, number in found.lines] == [line]
    assert [each.what for each in others] == ["pinned memory is there, and no copy uses it"] * (by == "a graph")


@pytest.mark.parametrize(
    ("name", "value", "fix"),
    [
        ("whose_wait", 0.446, "return a number from 0 to 1: a share of synchronize, not of the frame"),
        ("whose_wait", "0.92", "return a number from 0 to 1: a share of synchronize, not of the frame"),
        ("fault_in_trace", "a graph", "return one of the four texts that the question names"),
        ("whose_wait", np.float64(0.446), "return a number from 0 to 1: a share of synchronize, not of the frame"),
        ("read_a_bill", None, "return the number of milliseconds that the bill says, as a number"),
    ],
)
def test_a_value_is_told_what_it_must_be(name, value, fix, gpu):
    (found,) = check(lambda: value, gpu, exercise=name).findings
    assert (found.what, found.fix) == (f"the answer is not {getattr(value, 'item', lambda: value)()!r}", fix)


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (np.full(40, 0.9), "ndarray of 40"),
        ([0.9], "list of 1"),
        ({"nothing": 0.9}, "dict of 1"),
    ],
)
def test_one_value_is_asked_for_and_no_array(value, what, gpu):
    (found,) = check(lambda: value, gpu, exercise="whose_wait").findings
    assert found.what == f"the answer must be one value, got {what}"
    assert found.fix.startswith("return a number from 0 to 1")


def test_a_number_of_numpy_is_an_answer(gpu):
    assert check(lambda: np.float32(0.9057), gpu, exercise="whose_wait").passed
    assert check(lambda: np.array(0.9057), gpu, exercise="whose_wait").passed


def test_helpers_beside_the_loop_see_the_same_device(gpu):
    source = LOOP.replace(UPLOAD, "send(image)") + f"\n\ndef send(image):\n    {UPLOAD}\n"
    assert check(function(source), gpu).passed


def test_hints_come_one_at_a_time_and_start_over_once_it_is_done(gpu):
    def hint(answer):
        return check(lambda: answer, gpu, exercise="whose_wait").hint

    assert hint(0.9057) == ""
    said = [hint(0.446) for _ in range(3)]
    assert [each[-8:] for each in said] == ["(1 of 2)", "(2 of 2)", "(2 of 2)"]
    assert hint(0.9057) == ""
    assert hint(0.446) == said[0]


def test_a_hint_is_for_what_was_found_and_not_for_the_number_of_tries(gpu):
    pin_it = exercises()["pin_it"]
    no_wait = pin_it.solution.replace("        stream.synchronize()\n", "")
    assert check(pin_it.function(no_wait), gpu).hint.startswith("The start is right but for one line")


@pytest.mark.exhaustive
def test_an_exam_has_hints_for_each_of_its_faults(gpu):
    exam = exercises()["four_cameras"]
    for part in ("start", "solution"):  # from its first hint on
        check(exam.function(getattr(exam, part)), gpu)
    one_by_one = exam.start.replace("        kept.append(result)\n", "").replace("frame.copy()", "frame")
    hints = [check(exam.function(one_by_one), gpu).hint for _ in range(2)]
    assert ["three faults" in hints[0], "new_context(batch=4)" in hints[1]] == [True, True]


def test_memory_that_is_taken_and_given_back_is_no_leak():
    seen = mystery("fault_in_trace")
    steps = [(0, 0, 0)] * trial.STEADY, [(9, 9, 9), (5, 5, 5), (7, 7, 7)], [(9, 9, 9)] * 3
    for held in steps[1:]:
        seen.held = [*steps[0], *held]
        assert list(grade._memory(seen)) == []
    seen.held = [*steps[0], (1, 0, 0), (3, 0, 0), (7, 0, 0)]
    assert [each.what for each in grade._memory(seen)] == ["memory leaks: 3 more bytes of host memory with each frame"]


MAKE, EACH = "    h_image = cupyx.empty_pinned(d_image.shape, d_image.dtype)\n", "    for frame in frames:\n"


def test_what_the_pool_hides_is_said_with_what_it_costs_elsewhere(gpu):
    exercise, pooled = exercises()["pin_it"], exercises()["allocate_once"]
    assert MAKE + EACH in exercise.solution
    checked = check(exercise.function(exercise.solution.replace(MAKE + EACH, EACH + "    " + MAKE)), gpu)
    assert checked.passed
    (note,) = checked.notes
    assert "line 3: h_image = cupyx.empty_pinned" in note
    assert "cudaHostAlloc and cudaFreeHost, 1,402 us of each frame" in note
    assert check(pooled.function(pooled.solution), gpu).notes == []


def test_a_capture_of_the_first_run_is_said(gpu):
    exercise = exercises()["capture_the_graph"]
    warm = re.search(
        r"    context.execute_async_v3\(stream.ptr\)  #.*\n    stream.synchronize\(\)\n", exercise.solution
    )
    checked = check(exercise.function(exercise.solution.replace(warm[0], "")), gpu)
    assert checked.passed
    (note,) = checked.notes
    assert note.startswith("A context's first run is in a capture: ")
    assert "line 6: context.execute_async_v3(stream.ptr)" in note
    assert check(exercise.function(exercise.solution), gpu).notes == []


@pytest.mark.parametrize("cost", sampled([0.0, 0.95], [0.95]))
def test_a_capture_in_each_frame_is_found_whatever_it_costs(cost):
    gpu = SimulatedDevice(replace(Preset.load("h200"), capture_times=cost))
    begin, end = "        with stream: stream.begin_capture()\n", "        graph = stream.end_capture()\n"
    run = "        context.execute_async_v3(stream.ptr)\n"
    source = LOOP.replace(run, begin + run + end + "        graph.launch(stream)\n")
    (found,) = check(function(source), gpu).findings
    assert found.what.startswith(f"a graph is captured in each frame, {cost * 711.361:,.0f} us")
    assert found.lines == (("mine.py", 9),)


def test_a_call_that_the_solution_does_without_is_named_whatever_it_is(gpu):
    exercise = exercises()["pin_it"]
    assert exercise.solution.count("        done(") == 1
    slow = exercise.solution.replace("        done(", "        for _ in range(150): mark.record(stream)\n        done(")
    found = check(
        exercise.function(slow.replace("    for frame", "    mark = cupy.cuda.Event()\n    for frame", 1)), gpu
    )
    assert found.findings[0].what.startswith("cudaEventRecord takes ")
    assert "150): mark.record(stream)" in str(found)


def test_an_exam_shows_the_calls_only_once_it_is_passed(gpu):
    exam = exercises()["other_boxes"]
    assert check(exam.function(exam.start), gpu).calls is None
    assert check(exam.function(exam.solution), gpu).calls is not None


def test_a_value_that_nobody_expects_is_no_typical_mistake(gpu):
    checked = check(lambda: 1 / 0, gpu, exercise="fault_in_trace")
    assert checked.findings[0].what == "ZeroDivisionError: division by zero"
    assert check(lambda: 42, gpu, exercise="fault_in_trace").findings[0].what == "the answer is not 42"


def test_a_mystery_has_a_trace_that_can_be_drawn():
    seen = mystery("fault_in_trace")
    assert seen.error is None
    assert seen.source.stamp.startswith("simulated")
    waits = [span for span in seen.spans if span.name == "cudaStreamSynchronize" and span.start_ns > seen.begin_ns]
    assert len(waits) == 2 * (rig.FRAMES - trial.STEADY)


@pytest.mark.parametrize(("loop", "exercise"), [(print, None), (lambda frames, done: None, "no_such")])
def test_what_cannot_be_checked_is_refused(loop, exercise, gpu):
    with pytest.raises(SettingsError):
        check(loop, gpu, exercise=exercise)


def test_it_shows_itself_as_html_too(gpu):
    exercise = exercises()["slot_refilled"]
    html = check(exercise.function(exercise.start), gpu)._repr_html_()
    assert "letterbox(frame, out=h_image)" in html
    assert html.count("<code>") == 2
    assert "<table>" in check(exercise.function(exercise.solution), gpu)._repr_html_()


def test_lines_are_named_by_their_notebook_cell(monkeypatch):
    class Shell:
        class compile:
            @staticmethod
            def format_code_name(file):
                return ("Cell", "In[3]") if file == "/tmp/1/2.py" else None

    class IPython:
        get_ipython = staticmethod(Shell)

    monkeypatch.setitem(grade.sys.modules, "IPython", IPython)
    assert grade.shown(("/tmp/1/2.py", 4)) == "Cell In[3], line 4"
    assert grade.shown(("/tmp/1/3.py", 4)) == "3.py, line 4"


# Live: the same on a device of another kind, here the simulated one with a small network


def small_engine(device, *, batch=1):
    cost = open_timed_engine(device, rig.MODEL, None, 1)
    shapes = {"images": (batch, 3, 640, 640), "output0": (batch, 3, 20, 20)}
    specs = [TensorSpec(name, shape, np.dtype(np.float32)) for name, shape in shapes.items()]
    return SimulatedEngine(
        "small", cost.cost, specs[:1], specs[1:], lambda inputs: {"output0": corners(inputs["images"])}
    )


def corners(images):
    return np.ascontiguousarray(images[:, :, ::32, ::32]) + 1


@pytest.fixture
def live(monkeypatch):
    monkeypatch.setattr(rig, "open_engine", small_engine)
    monkeypatch.setattr(trial, "_LIVE_FRAMES", 8)
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (90, 160, 3), np.uint8) for _ in range(8)]
    monkeypatch.setattr(trial, "read_images", lambda name, count: images)
    device = lab.open_device("simulated", moves_bytes=True)
    monkeypatch.setattr(type(device), "kind", "cuda")
    monkeypatch.setattr(rig, "raw_modules", lambda device: device.namespace.modules)
    return device


@pytest.mark.parametrize(
    "name", sampled(["pin_it", "wait_for_the_event", "overlap_the_copies", "batch_the_cameras"], ["overlap_the_copies"])
)
def test_solutions_run_live(name, live):
    exercise = exercises()[name]
    took = try_live({"solution": exercise.function(exercise.solution)}, exercise, live, rounds=2)
    us, wrong = took["solution"]
    assert (wrong, us > 100) == (0, True)


def test_results_of_other_frames_are_found_live(live):
    source = LOOP.replace("    for frame", "    last = None\n    for frame").replace(
        "done(h_output)", "done(h_output if last is None else last)\n        last = h_output.copy()"
    )
    assert try_live({"mine": function(source)}, None, live, rounds=1)["mine"][1] == 15


def test_too_few_results_are_refused_live(live):
    with pytest.raises(SettingsError, match="must hand over 16 results, got 0"):
        try_live({"mine": changed("done(h_output)", "pass")}, None, live, rounds=1)


@pytest.mark.exhaustive
def test_the_script_for_a_gpu_measures_starts_and_solutions(live):
    measure = runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "try_gym.py"))["measure"]
    found = measure(exercises()["pin_it"], live)
    assert (set(found["gain"]), found["wrong"]) == ({"live", "simulated"}, 0)
    assert found["gain"]["simulated"] == pytest.approx(1.17, abs=0.01)
    hazard = measure(exercises()["slot_refilled"], live)
    assert (list(hazard["live_us"]), hazard["gain"]) == (["solution"], {})


def test_frames_may_be_taken_ahead(gpu):
    exercise = exercises()["fill_in_place"]
    usual = check(exercise.function(exercise.solution), gpu)
    ahead = check(exercise.function(exercise.solution.replace("in frames:", "in list(frames):")), gpu)
    assert ahead.passed, str(ahead)
    assert ahead.trial.frame_us == pytest.approx(usual.trial.frame_us, rel=0.02)
    assert ahead.trial.limit_us == pytest.approx(usual.trial.limit_us, rel=0.01)


def raises_escapes(frames, done):
    raise ValueError("boom \x1b[31m")


def test_what_an_error_of_the_loop_holds_does_nothing_to_a_terminal(gpu):
    assert "\x1b" not in str(check(raises_escapes, gpu))


def test_a_thread_that_exits_is_no_error_and_a_deleted_name_comes_back(gpu):
    exercise = exercises()["fill_in_place"]
    start = "def fill_in_place(frames, done):\n"
    leaves = "    import sys, threading\n    worker = threading.Thread(target=sys.exit)\n"
    leaves += "    worker.start()\n    worker.join()\n"
    exits = check(exercise.function(exercise.solution.replace(start, start + leaves)), gpu)
    assert exits.passed, str(exits)
    deletes = "    global letterbox\n    mine = letterbox\n    del letterbox\n"
    source = exercise.solution.replace("letterbox(frame", "mine(frame").replace(start, start + deletes)
    loop = exercise.function(source)
    loop.__globals__["stream"] = "the reader's own"
    assert check(loop, gpu).passed
    assert loop.__globals__["stream"] == "the reader's own"
