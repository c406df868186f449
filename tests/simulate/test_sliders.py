"""The figure with sliders: what it shows is what the simulated device does, and it says what it is."""

import numpy as np
import pytest

from yolotrt_lab.loop import FrameLoop, LoopSettings
from yolotrt_lab.simulate import explore, sliders
from yolotrt_lab.simulate.preset import Preset
from yolotrt_lab.simulate.simulated import SimulatedDevice
from yolotrt_lab.simulate.timed_engine import open_timed_engine
from yolotrt_lab.types import HostMemory, Stage

PAGEABLE, PINNED = sliders.INPUTS


def stages_ms(boxes=100, processes=0, memory=PAGEABLE, gap_ms=0):
    """Host times of (preprocess, upload, infer, download, synchronize) for each of `SLOWER`."""
    bars = np.array(list(sliders._bars(Preset.load("h200"), boxes, processes, memory, gap_ms)))
    assert bars.shape == (len(sliders.SLOWER), 8, 2)
    assert (bars[..., 1] >= bars[..., 0]).all()
    return (bars[:, :5, 1] - bars[:, :5, 0]).T / 1e3


def test_alone_the_bars_are_those_of_the_loop():
    device = SimulatedDevice(Preset.load("h200"))
    engine = open_timed_engine(device, "yolov8n-fp16", None, 1, 100)
    steady = FrameLoop(device, engine, LoopSettings(frames=5, warmup=1)).run().steady
    stages = (Stage.PREPROCESS, Stage.UPLOAD, Stage.INFER, Stage.DOWNLOAD, Stage.SYNCHRONIZE)
    expected = [np.median(steady.stage_ns(stage)) / 1e6 for stage in stages]
    np.testing.assert_allclose(stages_ms()[:, 0], expected, atol=0.002)


def test_a_slower_gpu_lengthens_synchronize_alone_and_pinned_input_takes_the_upload_call():
    preprocess, upload, infer, _, synchronize = stages_ms()
    assert np.ptp(preprocess) == np.ptp(upload) == np.ptp(infer) == 0
    assert synchronize[0] < 0.01
    assert synchronize[-1] > 20
    assert (np.diff(synchronize) >= 0).all()  # flat while the enqueue outlasts the GPU
    pinned = stages_ms(memory=PINNED)
    assert pinned[1].max() < upload.min() / 10
    assert pinned[4][-1] > 0.95 * synchronize[-1]


def test_others_and_gaps_lengthen_synchronize_and_others_keep_the_clock_up():
    alone, shared, gap = (stages_ms(**each)[4] for each in ({}, {"processes": 20}, {"gap_ms": 100}))
    assert shared[0] > 20
    assert gap[3] > 3 * alone[3]
    assert stages_ms(processes=20, gap_ms=100)[4][0] < 1.5 * shared[0]


@pytest.fixture(scope="module")
def figure():
    """With fewer settings; that the whole one is small is an example of `explore`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sliders, "PROCESSES", (0, 4))
        patch.setattr(sliders, "GAPS_MS", (0,))
        return explore()


def test_the_html_holds_its_scripts_values_and_source(figure):
    html = figure._repr_html_()
    assert SimulatedDevice(Preset.load("h200")).source.stamp in html
    assert "<figcaption>The report&#x27;s loop, simulated" in html
    assert html.count("<script") == 3
    assert all(label in html for label in ("pinned input", "gap between frames", "other processes"))


def test_the_first_view_is_the_first_setting(figure):
    column = figure._drawn
    curves = column.children[-2].renderers[0].data_source.data
    preprocess, upload, *_, synchronize = stages_ms()
    np.testing.assert_allclose(curves["call0"], preprocess + upload)
    np.testing.assert_allclose(curves["call2"], synchronize)
    assert str(HostMemory.PAGEABLE) in column.children[3].children[0].labels[0]
