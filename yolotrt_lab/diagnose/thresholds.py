"""All numbers that decide something in a bill, each with its unit, its reason, and where it was measured.

"Shipped" means the recordings and traces of an H200 and an H100 in `data/`, "simulated" series of noise alone
(`benchmarks/bench_growth.py`). What depends on the machine is not here: it is estimated from the reader's own data,
such as what a call costs that does not wait (`Look.call_ms`) or how far a level wanders by itself (`Shape.shows_ms`).
"""

from __future__ import annotations

# How much there must be to say something.
FEWEST_FRAMES = 24
"""Frames. Six blocks of four, the fewest of which a change is told from noise (simulated)."""
FEWEST_STEADY = 100
"""Frames. Below it a run is too short to be called steady: a stall in every 50 frames may be missed by chance."""
FEWEST_TRACED = 8
"""Frames. A trace with fewer holds no loop, and is billed as a whole."""
EDGE_FRAMES = 8
"""Frames. The first and the last ones of a short run; a warm-up shows in these."""

# What grows.
NOISE = 5.0
"""Standard deviations of a level. Of series without growth, of 40 to 2,000 frames, at most 1 % have two levels further
apart in white or heavy-tailed noise, 2 % in AR(1) noise of 0.5, 7 % in 0.9 (simulated)."""
FEW = 100.0
"""Independent frames. With as many, the variance of a level is taken twice: its estimate is uncertain (simulated)."""
OF_FRAME = 0.02
"""Share of the whole frame. The shipped loops with nothing the matter wander by less in a stage (median of a sixth)."""
OF_STAGE = 0.05
"""Share of the stage's own level; shipped synchronize calls wander by 3 %."""
COMES_BACK = 0.5
"""Share of a rise. What falls by more afterwards has come and gone: a wave."""

FAST_START = 1.5
"""Times the first frames. First frames are slow rather than fast (shipped), so that a level this far above grew."""

# Stalls and periods.
STALL_TIMES = 1.25
"""Times the level around. 41b of the cases, 7 to 10 ms in steps of 0.5, has its stalls from 1.3 on."""
STALL_DEVIATIONS = 8.0
"""Robust standard deviations above the level around; Gaussian noise has none in 1e15 frames, shipped host calls few."""
STALLS_SHARE = 0.05
"""Share of all time. Shipped loops with nothing the matter have 0 to 3 % of it in stalls."""
PERIOD_CYCLES = 5
"""Repetitions before something is called periodic."""
PERIOD_LIKE = 0.7
"""Correlation of a series with itself one period on; the shortest irregular case (4 or 5 frames apart) has 0.5."""

SPIKES_ALIKE = 0.25
"""Share of the spikes that may lie half way: what is done now and then takes as long each time (shape-change)."""

# Queues.
QUEUED_FRAMES = 3.0
"""Frames' worth of time that latency holds beyond the stages before it is called a queue (shipped, pinned: below 1)."""
IN_FLIGHT = 16
"""Frames in flight from which a launch queue of some 1,000 launches can be full (99 launches a frame, shipped)."""
CLIMB = 0.5
"""Frames in flight more for each frame collected. A loop fed too fast gains fewer; a stream that another thread
submits to gains more (shipped: shared-stream)."""

# Calls.
CALL_FLOOR_MS = 0.002
"""ms. The shortest call that a host timer can tell: a synchronize with nothing to wait for takes 2 to 5 us (H200)."""
HOLDS = 10.0
"""Times the shortest call of the loop. A pinned upload takes 1 to 3 times it (H200), a pageable one of 1.2 MB 30."""
NO_WAIT = 0.05
"""Share of the call before. A synchronize that takes less had nothing to wait for (H200: 0.4 to 0.9 %)."""
BUS_GB_S = 64.0
"""GB/s. PCIe 5 x16, the fastest bus here; a copy call that returns sooner than its bytes can cross it did not copy."""
BLOCKED = 5.0
"""Times as long as at first. A full launch queue made launches 25 times as long (H200: 4 and 101 us)."""
ALLOCATION_MS = 0.05
"""ms. The cheapest allocation measured: `cudaMalloc` and `cudaFree` take 59 us (H200); `cudaHostAlloc` 700 to 1,000."""
LAUNCH_SHARE = 0.5
"""Share of the frame's GPU calls that submitting takes, from which the host may be what bounds the loop."""
TRACE_SHARE = 0.02
"""Share of a traced frame below which calls that allocate are not billed."""

# The GPU and the machine, from telemetry.
CLOCK = 0.04
"""Share of the SM clock. Shipped clocks that stay wander by less than 1 %; one step of the H200 is 15 MHz of 1,980."""
EXPLAINED = 0.5
"""Share of a growth that a clock must account for, by its own factor, to be proven; at most 1 / it."""
THROTTLED = 0.2
"""Share of the time for which a thermal throttle reason holds more than before."""
HOT_C = 80.0
"""degrees Celsius. GPUs of the data centre slow down from 83 to 92 on; below it heat is excluded."""
FOLLOWS = 0.8
"""Rank correlation, over blocks, of the wait with the other processes (shipped: 0.97; a lone step has 0.87)."""
LEAK_SHARE = 0.02
"""Share of the memory at the start; allocators with nothing the matter take 1 % more (H100, leak-released)."""
LEAK_BYTES = 4e6
"""Bytes, likewise: 1.2 MB at most."""
LEAK_STEADY = 0.5
"""Each fifth of a run must add this share of a fifth's average: what is taken once is no leak."""
HOST_WANDERS = 0.4
"""Share by which host times of machines of one kind differ by themselves (H200: 10 to 40 %)."""
ALIKE = 0.25
"""Share of the spikes that may lie half way: what is done now and then takes as long each time (shape-change)."""

# Queues.
QUEUED_FRAMES = 3.0
"""Frames' worth of time that latency holds beyond the stages before it is called a queue (shipped, pinned: below 1)."""
IN_FLIGHT = 16
"""Frames in flight from which a launch queue of some 1,000 launches can be full (99 launches a frame, shipped)."""
CLIMB = 0.5
"""Frames in flight more for each frame collected. A loop fed too fast gains fewer; a stream that another thread
submits to gains more (shipped: shared-stream)."""

# Calls.
CALL_FLOOR_MS = 0.002
"""ms. The shortest call that a host timer can tell: a synchronize with nothing to wait for takes 2 to 5 us (H200)."""
HOLDS = 10.0
"""Times the shortest call of the loop. A pinned upload takes 1 to 3 times it (H200), a pageable one of 1.2 MB 30."""
NO_WAIT = 0.05
"""Share of the call before. A synchronize that takes less had nothing to wait for (H200: 0.4 to 0.9 %)."""
BUS_GB_S = 64.0
"""GB/s. PCIe 5 x16, the fastest bus here; a copy call that returns sooner than its bytes can cross it did not copy."""
BLOCKED = 5.0
"""Times as long as at first. A full launch queue made launches 25 times as long (H200: 4 and 101 us)."""
ALLOCATION_MS = 0.05
"""ms. The cheapest allocation measured: `cudaMalloc` and `cudaFree` take 59 us (H200); `cudaHostAlloc` 700 to 1,000."""
LAUNCH_SHARE = 0.5
"""Share of the frame's GPU calls that submitting takes, from which the host may be what bounds the loop."""
TRACE_SHARE = 0.02
"""Share of a traced frame below which calls that allocate are not billed."""

# The GPU and the machine, from telemetry.
CLOCK = 0.04
"""Share of the SM clock. Shipped clocks that stay wander by less than 1 %; one step of the H200 is 15 MHz of 1,980."""
EXPLAINED = 0.5
"""Share of a growth that a clock must account for, by its own factor, to be proven; at most 1 / it."""
THROTTLED = 0.2
"""Share of the time for which a thermal throttle reason holds more than before."""
HOT_C = 80.0
"""degrees Celsius. GPUs of the data centre slow down from 83 to 92 on; below it heat is excluded."""
FOLLOWS = 0.8
"""Rank correlation, over blocks, of the wait with the other processes (shipped: 0.97; a lone step has 0.87)."""
LEAK_SHARE = 0.02
"""Share of the memory at the start; allocators with nothing the matter take 1 % more (H100, leak-released)."""
LEAK_BYTES = 4e6
"""Bytes, likewise: 1.2 MB at most."""
LEAK_STEADY = 0.5
"""Each fifth of a run must add this share of a fifth's average: what is taken once is no leak."""
HOST_WANDERS = 0.25
"""Share by which the processor of a virtual machine changes its speed by itself (H200: 18 % within 1,500 frames)."""
ALIKE = 0.3
"""Share of the relative growth of one host stage that another one must share to speak for a slower host."""
WARM = 3.0
"""Times the settled level that the slowest of the first frames takes (H100: 6.9 ms of 0.6)."""
NOT_WARM = 1.5
"""Times the settled level below which the first frames have had no warm-up."""
