"""NVTX ranges: what they push and pop, and that without the package, or without a tool, they are harmless."""

from __future__ import annotations

import importlib.util
import sys
import threading

import pytest

from yolotrt_lab.cuda import DOMAIN, NvtxRanges


class LoggedDomain:
    """Stands for the domain of the nvtx package when a tool is attached."""

    def __init__(self):
        self.log = []

    def get_event_attributes(self, message, category):
        return f"attributes of {message} in {category}"

    def push_range(self, attributes, payload=None):
        self.log.append(("push", attributes, payload))

    def pop_range(self):
        self.log.append("pop")


@pytest.fixture
def domains(monkeypatch):
    """The domains that were asked for, by name."""
    nvtx = pytest.importorskip("nvtx")
    made = {}
    monkeypatch.setattr(nvtx, "get_domain", lambda name: made.setdefault(name, LoggedDomain()))
    return made


def test_ranges_nest_in_the_labs_own_domain(domains):
    ranges = NvtxRanges()
    ranges("frame").payload = 7
    with ranges("frame"):
        with ranges("upload"):
            pass
        with ranges("infer"):
            pass
    assert list(domains) == [DOMAIN]
    payloads = {"frame": 7, "upload": None, "infer": None}
    push = {name: ("push", f"attributes of {name} in loop", payload) for name, payload in payloads.items()}
    assert domains[DOMAIN].log == [push["frame"], push["upload"], "pop", push["infer"], "pop", "pop"]


def test_range_ends_when_its_body_raises_and_the_error_goes_on(domains):
    with pytest.raises(ValueError, match="inside"), NvtxRanges()("frame"):
        raise ValueError("inside")
    assert domains[DOMAIN].log[-1] == "pop"


def test_range_is_made_once_for_each_name_and_thread():
    pytest.importorskip("nvtx")
    ranges, elsewhere = NvtxRanges(), []
    here = ranges("frame")

    def other_thread():
        elsewhere.extend([ranges("frame"), ranges("frame")])

    thread = threading.Thread(target=other_thread)
    thread.start()
    thread.join()
    assert ranges("frame") is here
    assert ranges("infer") is not here
    assert elsewhere[0] is elsewhere[1]
    assert elsewhere[0] is not here


def test_ranges_of_the_real_package_nest_and_are_used_again_with_no_tool_attached():
    pytest.importorskip("nvtx")
    ranges, inside = NvtxRanges(), 0
    frame, infer = ranges("frame"), ranges("infer")
    for _ in range(1_000):
        with frame, infer, ranges("upload"):
            inside += 1
    assert inside == 1_000
    with pytest.raises(KeyError), frame:
        raise KeyError


def test_simulated_range_of_one_name_is_each_threads_own(device):
    def work(begin, end):
        device.wait_until_ns(begin)
        with device.range("upload"):
            device.wait_until_ns(end)

    threads = [device.start_thread(work, 0, 100), device.start_thread(work, 50, 200)]
    for thread in threads:
        thread.join()
    assert [(span.start_ns, span.end_ns) for span in device.spans if span.row == "range"] == [(0, 100), (50, 200)]


def test_without_the_package_ranges_do_nothing(monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "nvtx" else find_spec(name, *rest)
    )
    monkeypatch.setitem(sys.modules, "nvtx", None)  # importing it would raise
    ranges, inside = NvtxRanges(), []
    with ranges("frame"), ranges("infer"):
        inside.append("infer")
    assert inside == ["infer"]
    with pytest.raises(KeyError), ranges("frame"):
        raise KeyError
