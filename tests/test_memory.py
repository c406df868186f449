"""Pools and leases on the simulated device."""

from __future__ import annotations

import numpy as np
import pytest

from yolotrt_lab.errors import HazardError, SettingsError, SlotInFlightError
from yolotrt_lab.memory import SlotPool, SlotState
from yolotrt_lab.simulate import spin
from yolotrt_lab.types import HostMemory, TensorSpec

IMAGES = TensorSpec("images", (1, 3, 64, 64), np.dtype(np.float32))
OUTPUT = TensorSpec("output0", (1, 84, 84), np.dtype(np.float32))


@pytest.fixture
def pool(device):
    return SlotPool(device, [IMAGES], [OUTPUT], slots=2)


def upload(device, slot, stream):
    device.upload(slot.inputs["images"], device.empty_device(IMAGES.nbytes), stream)
    slot.submitted(stream)


def both_in_flight(device, pool):
    """Lease and submit both slots behind a kernel of 1 ms each; returns their stream."""
    stream = device.stream()
    for _ in range(2):
        slot = pool.lease()
        spin(device, 1_000_000, stream)
        upload(device, slot, stream)
    return stream


def test_slots_are_numpy_arrays_of_the_specs_over_the_memory_asked_for(device):
    pool = SlotPool(device, [IMAGES], [OUTPUT], slots=3, output_memory=HostMemory.PAGEABLE)
    slot = pool.lease()
    assert slot.inputs["images"].array.shape == (1, 3, 64, 64)
    assert slot.inputs["images"].array.dtype == np.float32
    assert slot.inputs["images"].memory is HostMemory.PINNED
    assert slot.outputs["output0"].memory is HostMemory.PAGEABLE


def test_leases_go_round(device, pool):
    stream = device.stream()
    first, second = pool.lease(), pool.lease()
    upload(device, first, stream)
    upload(device, second, stream)
    assert (first.index, second.index) == (0, 1)
    assert pool.lease().index == first.index


def test_lease_waits_for_a_slot_in_flight(device, pool):
    both_in_flight(device, pool)
    before = device.now_ns()
    pool.lease()
    assert before < 100_000
    assert device.now_ns() > 1_000_000


def test_lease_refuses_a_slot_in_flight_if_asked(device, pool):
    stream = both_in_flight(device, pool)
    with pytest.raises(SlotInFlightError, match="slot 0") as caught:
        pool.lease(wait=False)
    assert "more slots" in caught.value.fix
    stream.synchronize()
    assert pool.lease(wait=False).index == 0


def test_lease_refuses_a_slot_that_was_never_submitted(pool):
    pool.lease()
    pool.lease()
    with pytest.raises(SlotInFlightError, match="was not submitted"):
        pool.lease()


def test_released_slot_can_be_leased_again(pool):
    for _ in range(5):
        pool.lease().release()
    assert all(slot.state is SlotState.FREE for slot in pool.slots)


def test_lease_that_believes_a_wrong_release_meets_the_hazard(device, pool):
    """The guard is the event: releasing without waiting is what the simulated device catches."""
    both_in_flight(device, pool)
    for slot in pool.slots:
        slot.release()
    slot = pool.lease()
    with pytest.raises(HazardError):
        device.check_idle(slot.input, "written")


def test_a_slot_that_was_never_submitted_cannot_be_waited_for(pool):
    slot = pool.lease()
    with pytest.raises(SlotInFlightError, match="slot 0 must be submitted before it is waited for"):
        slot.wait()
    assert slot.state is SlotState.LEASED


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"slots": 0}, "slots must be 1 or more, got 0"),
        ({"slots": 1.5}, r"slots must be a whole number, got 1\.5"),
        ({"slots": True}, "slots must be a whole number, got True"),
        ({"slots": 1, "input_memory": "pined"}, "input_memory must be one of .*pinned.*, got 'pined'"),
        ({"slots": 1, "output_memory": "page"}, "output_memory must be one of .*, got 'page'"),
    ],
)
def test_a_pool_that_cannot_be_is_refused(settings, message, device):
    with pytest.raises(SettingsError, match=message):
        SlotPool(device, [IMAGES], [], **settings)
