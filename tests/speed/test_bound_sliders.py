"""The sliders over what bounds a rung: recorded needs, and no more is claimed."""

import numpy as np

from yolotrt_lab.speed import BOUND_COLOURS, Ladder, explore_bounds
from yolotrt_lab.speed.ladder_figures import FASTER


def test_the_first_view_is_rung_1_as_recorded_and_the_script_has_every_rung():
    climbed = Ladder.shipped()
    figure = explore_bounds(climbed)
    *sliders, told, drawn = figure._drawn.children
    bars = drawn.renderers[0].data_source.data
    assert bars["name"] == [*BOUND_COLOURS]
    assert bars["right"] == [climbed.steps[0].bounds_us.get(name, 0.0) for name in BOUND_COLOURS]
    assert bars["alpha"][bars["name"].index(climbed.steps[0].bound)] == max(bars["alpha"])
    assert climbed.steps[0].bound in told.text
    assert [slider.value for slider in sliders] == [f"1 {climbed.steps[0].rung.name}", "1", "1", "1"]
    assert 1 in FASTER
    script = sliders[0].js_property_callbacks["change:value"][0].args
    assert np.shape(script["NEEDS"]) == (len(climbed.steps), 4)
    assert script["FRAMES"] == [round(step.together.frame_us) for step in climbed.steps]
    assert f"{climbed.source.stamp}; what a frame asks for, times the sliders" in figure._repr_html_()
