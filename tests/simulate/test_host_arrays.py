"""Which array has an address: in a variable, deep in one, or none any more."""

from __future__ import annotations

import ctypes
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest

from yolotrt_lab.simulate.host_arrays import array_at

HOLDERS = {
    "a variable": lambda array: array,
    "a tuple in a list": lambda array: [(1, array)],
    "a dictionary in a deque": lambda array: deque([{"h": array}]),
    "an object": lambda array: SimpleNamespace(slots=[(array, None)]),
    "a generator": lambda array: (array.sum() for _ in range(3)),
}


@pytest.mark.parametrize("holder", HOLDERS)
def test_an_array_that_is_held_is_found(holder):
    with ThreadPoolExecutor(1) as thread:  # all that pytest holds need not be looked through
        thread.submit(holds, holder).result()


def holds(holder):
    array = np.arange(1000, dtype=np.uint8)
    address, held = array.ctypes.data, HOLDERS[holder](array)
    if holder == "a generator":
        next(held)
    del array
    assert array_at(address + 10, 990) is not None
    assert array_at(address + 10, 991) is None
    del held
    assert array_at(address, 1000) is None


def test_a_part_is_that_of_its_array_and_an_array_of_ctypes_is_one():
    whole, raw = np.zeros((4, 100), np.uint8), (ctypes.c_ubyte * 64)()
    assert array_at(whole[2].ctypes.data, 100) is whole
    assert array_at(ctypes.addressof(raw), 64) is raw
    assert array_at(1234, 1) is None
