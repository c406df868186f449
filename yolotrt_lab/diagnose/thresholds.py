"""All numbers that decide something in a bill, each with its unit, its reason, and where it was measured.

"Shipped" means the recordings and traces of an H200 and an H100 in `data/`, "simulated" series of noise alone
(`benchmarks/bench_growth.py`). What depends on the machine is not here: it is estimated from the reader's own data,
such as what a call costs that does not wait (`Look._call_ms`) or how far a level wanders by itself (`Shape.shows_ms`).
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
"""Standard deviations of a level. Of 100 series each without growth, 40 to 1,000 frames long, at most 2 grow in white
noise, 1 in heavy-tailed, 5 in skewed, 4 in AR(1) noise of 0.6, 7 of 0.9, 25 of 0.97 (simulated)."""
FEW = 100.0
"""Independent frames. With as many, the variance of a level is taken twice: its estimate is uncertain (simulated)."""
OF_FRAME = 0.02
"""Share of a frame. In shipped loops with nothing the matter a call that waits wanders by 0 to 1.6 % of the frame."""
OF_STAGE = 0.05
"""Share of the stage's own level; shipped synchronize calls of 20 us or more wander by 0 to 3 %."""
BY_CHANCE = 5.0
"""Standard errors of the difference of two means. The two spans are the ones that differ most, so 2 are nothing."""
IN_ORDER = 0.5
"""Pairs of a value before and one after that are in order, less those that are not, as a share of all."""
COMES_BACK = 0.5
"""Share of a rise. What falls by more afterwards has come and gone: a wave."""
ANY_SHAPE = 0.7
"""Share of what the best of a line, a knee, a step and a bump leaves. A change of another shape that leaves no more is
no noise: of 17 shapes that rise by 10 and 28 % under noise of 0.5 and 2 %, 99 % grow instead of 74; of noise alone at
most 1.5 more of 100 series (simulated)."""
COARSE = 0.1
"""Share of a level. A time that is told in larger steps than that may be a step longer than it says."""
STEADY = 0.1
"""Share of a frame. A run is called steady only if it could show a change of that size: shipped ones that are steady
could show 2 to 9 %; those whose host changed its speed, and loops in turns, 22 % and more."""
FAST_START = 1.5
"""Times the first frames. First frames are slow rather than fast (shipped), so that a level this far above grew."""
FEW_ROWS = 3.0
"""Times that the last of 3, 4 or 5 rows is above the first, or below, with the others between. Noise of 30 % of the
level makes that in 1 of 100 series of 3 rows or of 5, noise of 50 % in 9 and 5 (simulated)."""

# Stalls and periods.
STALL_TIMES = 1.25
"""Times the level around, or behind a step. Labelled case 41b has stalls of 14 ms at a level of 8 to 10."""
STALL_DEVIATIONS = 8.0
"""Robust standard deviations above the level around; Gaussian noise has none in 1e15 frames."""
STALLS_SHARE = 0.05
"""Share of all time. Shipped loops with nothing the matter have 0 to 1.5 % of it in stalls, several at once 2.5 %."""
IN_A_ROW = 16
"""Frames. Half of those that a level around a frame is of: more stalls in a row than single ones make by chance."""
PERIOD_CYCLES = 5
"""Repetitions before something is called periodic."""
PERIOD_SIZE = 0.005
"""Standard deviation, as a share of the median, below which a repetition is only how the numbers are rounded."""
PERIOD_LIKE = 0.7
"""Correlation of a series with itself one period on. Stalls 4 to 7 frames apart have 0.29 at most, calls that repeat
every 5 rows 0.98 (labelled cases 02x and 53); 300 series each of seven noises have no period (simulated)."""
PERIOD_CLIP = 4.0
"""Robust standard deviations. What lies further out counts as if it lay there, or two long stalls would be a period."""

# Queues.
QUEUED_FRAMES = 3.0
"""Frames' worth of time that latency holds beyond the stages before it is a queue (shipped, pinned: below 0.1)."""
IN_FLIGHT = 16
"""Frames in flight. A launch queue holds some 1,000 launches (H200), which are 10 frames of 99."""
CLIMB = 0.5
"""Frames in flight more for each frame collected. A loop fed too fast gains fewer; one whose stream another thread
submits to gains more (shared-stream)."""

# Calls.
CALL_FLOOR_MS = 0.002
"""ms. The shortest call that a host timer can tell: a synchronize with nothing to wait for takes 2 to 5 us (H200)."""
CALL_MOST_MS = 0.01
"""ms. A call that takes longer waits, or does work: what no other call of a loop is below, is no measure of a call."""
HOLDS = 10.0
"""Times the loop's shortest call. Shipped pinned upload calls take 1 to 4.5 times as long, pageable ones 36 to 60."""
NO_WAIT = 0.05
"""Share of the call before. A synchronize that takes less had nothing to wait for (shipped moved wait: 0.4 %)."""
SUBMITS = 0.2
"""Share of the download call behind it that submitting may take: one that takes more may be `executeV2`, which has
waited for the network itself, so that the download only copies (shipped moved wait: 0.5 %)."""
NESTED = 1.1
"""Times the frame that its stages add up to: then one holds another, or they overlap (shipped: up to 1.00)."""
ALLOCATION_MS = 0.05
"""ms. The cheapest allocation measured: `cudaMalloc` and `cudaFree` take 59 us (H200); `cudaHostAlloc` 700 to 1,000."""
LAUNCH_SHARE = 0.5
"""Share of the frame's GPU calls that submitting takes, from which the host may be what bounds the loop."""
TRACE_SHARE = 0.02
"""Share of a traced frame below which calls that allocate are not billed."""

# The GPU and the machine, from telemetry.
CLOCK = 0.02
"""Share of the SM clock. Shipped clocks do not move at all; one step of an H200 is 15 MHz of 1,980."""
EXPLAINED = 0.5
"""Share of a growth that a clock must account for, by its own factor, to be proven; at most 1 / it."""
THROTTLED = 0.2
"""Share of the time for which a thermal throttle reason holds more than before."""
HOT_C = 50.0
"""degrees Celsius. Assumed: GPUs slow down for heat from about 85 on, laptops from 75, and for that of their memory,
which may be 45 degrees hotter than what is told; below it heat is excluded where no flag tells."""
FOLLOWS = 0.9
"""Correlation, over blocks, of the wait with how low the clock is; one that falls a tenth of a run earlier has 0.8."""
OUT_OF_TIME = 1.2
"""Times the variance that is left where the clock is shifted to where it fits best; one that falls for 100 of 2,000
frames before the wait steps leaves 2.9 times (simulated)."""
JUMP = 0.1
"""Share of the range of a column of telemetry by which it changes from one sample to the next, to be a jump."""
OFTEN = 0.5
"""Share of the frames that are near a jump; beyond it, that a wait changes near one shows nothing."""
LEAK_SHARE = 0.02
"""Share of the memory at the start. Loops that leak nothing take up to 0.8 % more, at once (H100)."""
JUMPS = 2
"""Times that other processes come or go in step with the wait: at a single one something else may have changed too."""
LEAK_BYTES = 4e6
"""Bytes. Loops that leak nothing end at most 0.3 MB higher once they are warm (H100)."""
LEAK_STEADY = 0.5
"""Each fifth of a run must add this share of a fifth's average: what is taken once is no leak."""
STAYS = 0.3
"""Share of a level within which it stays as it is: in 500 frames with noise of 12 %, the medians of blocks lie within
0.27 of it in 95 of 100 series (simulated)."""
WARM = 3.0
"""Times the settled level that the slowest of the first frames takes (H100, warm-up: 43 times)."""
UNFELT = 0.005
"""Share of a frame. Of a stage that wanders by less nothing is felt, however short it is (assumed)."""
NOT_WARM = 1.5
"""Times the settled level; the first frames of warm loops take up to 1.34 times (shipped)."""
