"""A diagnosis as JSON, as text and as a page."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from series import loop, only, ramp, step

from yolotrt_lab import diagnose, plots
from yolotrt_lab import diagnose as diagnosis
from yolotrt_lab.diagnose.findings import number
from yolotrt_lab.diagnose.growth.shape import Shape
from yolotrt_lab.diagnose.measurements import Measurements
from yolotrt_lab.diagnose.page import as_html
from yolotrt_lab.diagnose.text import IN_WORDS
from yolotrt_lab.diagnose.verdicts import judge
from yolotrt_lab.recording import Recording
from yolotrt_lab.types import Cause

SCHEMA = json.loads((Path(diagnosis.__file__).parent / "schema.json").read_text(encoding="utf-8"))
N = 500
LOOPS = {
    "nothing": loop(N),
    "overload": loop(N, period_ms=1.4),
    "shared": loop(N, synchronize=step(N, 0.06, 23.2), upload=0.52, telemetry={"gpu_processes": step(N, 0, 12)}),
    "open": loop(N, synchronize=ramp(N, 0.1, 0.5)),
    "one column": only(loop(N, synchronize=ramp(N, 0.1, 0.5)), "synchronize"),
    "too short": loop(9),
    "one frame": loop(1),
    "zeros": only(loop(N, synchronize=0.0), "synchronize"),
    "nan": only(loop(N, synchronize=np.full(N, np.nan)), "synchronize"),
}


@pytest.mark.parametrize("name", LOOPS)
def test_json_is_valid_and_as_the_schema_says(name):
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    text = json.dumps(judge(LOOPS[name]).as_dict(), allow_nan=False)
    jsonschema.Draft202012Validator(SCHEMA).validate(json.loads(text))


def test_the_schema_knows_every_cause_and_every_shape():
    assert SCHEMA["$defs"]["cause"]["enum"] == [str(cause) for cause in Cause]
    assert SCHEMA["$defs"]["growth"]["properties"]["shape"]["enum"] == [str(shape) for shape in Shape]


def test_the_schema_refuses_what_is_no_diagnosis():
    good = judge(LOOPS["shared"]).as_dict()
    validator = jsonschema.Draft202012Validator(SCHEMA)
    assert validator.is_valid(good)
    assert not validator.is_valid(good | {"verdict": "gremlins"})
    assert not validator.is_valid({key: value for key, value in good.items() if key != "growth"})


def test_json_names_the_cause_with_its_numbers():
    values = judge(LOOPS["shared"]).as_dict()
    assert values["verdict"] == "shared_gpu"
    [finding] = values["findings"]
    assert finding["cause"] == "shared_gpu"
    assert finding["explains_ms"] == pytest.approx(23.14, rel=0.01)
    whats = [each["what"] for each in finding["evidence"]]
    assert whats[:2] == ["synchronize before", "synchronize after"]
    assert "other processes on the GPU after" in whats
    assert values["growth"]["synchronize"]["shape"] == "step"
    assert values["growth"]["synchronize"]["change_points"][0] == N // 2


def test_what_is_open_is_undetermined_and_says_what_is_missing():
    values = judge(LOOPS["open"]).as_dict()
    assert values["verdict"] == "undetermined"
    assert {"shared_gpu", "clock_drop"} <= {each["cause"] for each in values["findings"]}
    assert sum(each["confidence"] for each in values["findings"]) < 1
    assert any("SM clock" in each for each in values["missing"])


@pytest.mark.parametrize("name", ["too short", "one frame", "nan"])
def test_what_has_no_shape_has_no_verdict(name):
    found = judge(LOOPS[name])
    assert found.verdict is None
    assert found.findings == ()
    assert dict(found.growth) == {}


def test_the_text_says_what_pinning_can_buy():
    text = str(judge(LOOPS["shared"]))
    assert text.startswith("verdict: shared_gpu\n")
    line = next(line for line in text.splitlines() if line.startswith("pinned memory"))
    assert re.fullmatch(r"pinned memory can take at most 0\.5\d\d of your 24\.\d ms off a frame", line)
    assert "run next: " in text
    assert "made up for a test" in text


def test_of_an_overload_pinning_takes_the_wait_with_it_and_the_text_says_so():
    text = str(judge(loop(period_ms=1.4)))
    line = next(line for line in text.splitlines() if line.startswith("pinned memory"))
    assert re.fullmatch(r"pinned memory can take at most 0\.3\d* ms off the work on each frame, and with it .*", line)
    assert max(map(len, text.splitlines())) <= 100


def test_the_text_says_a_cause_in_words_and_gigabytes():
    used = {"gpu_processes": step(N, 0, 12), "gpu_memory_used_bytes": step(N, 1.2e9, 11.5e9)}
    text = str(judge(loop(N, synchronize=step(N, 18, 0.06), telemetry={n: v[::-1] for n, v in used.items()})))
    assert "found: shared_gpu (confidence 0.95): other processes use this GPU\n" in text
    assert "memory used on the GPU before: 11.5 GB" in text
    assert "of the change; its cure" in text


def test_the_text_of_spikes_promises_no_more_than_a_frame_takes():
    spiked = np.where(np.random.default_rng(1).random(N) < 0.02, 12.0, 0.7)
    assert "its cure can take at most 11.3 ms off a frame that it hits" in str(
        judge(loop(N, preprocess=spiked, noise=0))
    )


def test_nothing_wrong_is_a_candidate_in_words():
    first = str(judge(loop(N, period_ms=1.15, upload=0.005))).splitlines()[0]
    assert first == "verdict: undetermined: nothing wrong"


def test_the_text_breaks_no_word_of_a_command():
    text = str(judge(only(LOOPS["open"], "synchronize")))
    [query] = [word for word in text.split() if word.startswith("--query-gpu=")]
    assert query.endswith("clocks_throttle_reasons.sw_thermal_slowdown,memory.used,timestamp")


def test_every_cause_has_words():
    assert set(IN_WORDS) == set(Cause)


def test_the_text_of_an_open_case_lists_the_candidates():
    first = str(judge(LOOPS["open"])).splitlines()[0]
    assert first.startswith("verdict: undetermined: ")
    assert " or " in first


@pytest.mark.parametrize("name", ["shared", "open", "nothing"])
def test_the_page_stands_alone(name):
    measurements = LOOPS[name]
    found = judge(measurements)
    page = as_html(found, plots.as_svg(diagnose.diagnosed(measurements, found)), "Why <mine> gets slower")
    assert page.count("<svg") == page.count("</svg>") == 1
    assert "Why &lt;mine&gt; gets slower" in page
    assert "made up for a test" in page
    assert "default-src 'none'" in page
    assert not re.search(r"(src|href)=\"(?!#|data:)", page)
    assert "<script" not in page
    for finding in found.findings:
        assert str(finding.cause) in page


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (23.14, "23.1"),
        (0.5234, "0.523"),
        (1234.5, "1,234"),
        (0.00412, "0.00412"),
        (-2.5, "-2.50"),
        (12.0, "12"),
    ],
)
def test_numbers_have_three_digits(value, text):
    assert number(value) == text


def test_a_frame_that_waits_longer_than_it_takes_gains_latency():
    late = str(judge(Measurements.of(Recording.shipped("overload"))))
    (line,) = [each for each in late.splitlines() if each.startswith("  explains")]
    assert line.endswith("ms off the latency")


@pytest.mark.parametrize(
    ("measurements", "verdict", "grows", "command"),
    [
        (LOOPS["too short"], "too few frames", [], "the same loop for some hundred frames"),
        (
            only(loop(N, synchronize=ramp(N, 0.1, 9)), "frame"),
            "no stage was measured",
            ["frame grows by 8."],
            "yolotrt-lab trace capture --out mine -- python loop.py",
        ),
        (
            only(loop(N, postprocess=ramp(N, 0.1, 9)), "postprocess"),
            "nothing that the lab knows",
            ["postprocess grows by 8."],
            "yolotrt-lab diagnose mine.sqlite",
        ),
    ],
)
def test_without_a_finding_the_text_and_the_page_say_what_grows_and_what_to_run(measurements, verdict, grows, command):
    found = judge(measurements)
    text, page = " ".join(str(found).split()), as_html(found, "<svg></svg>")
    assert text.startswith(f"verdict: undetermined: {verdict} ")
    for each in [*grows, command]:
        assert each in text
        assert each[1:] in page


def test_an_upload_that_was_not_measured_is_not_called_free():
    text = " ".join(str(judge(only(loop(N), "preprocess", "synchronize"))).split())
    assert "is not known: the upload call was not measured" in text
    assert "at most 0 " not in text
