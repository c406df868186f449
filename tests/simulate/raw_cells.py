"""The notebooks' raw cells: code in CuPy's, TensorRT's and nvtx's own names, which runs on a GPU and simulated alike.

`run` executes them in order in one namespace, as a notebook does. Each cell needs SETUP and 'memory' before it, and
'trap' alone needs 'probe' too, for its `spin`. MEASURED names what a cell leaves behind.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from yolotrt_lab import simulate
from yolotrt_lab.errors import HazardError

SETUP = """
cupy, cupyx, tensorrt, nvtx, time = simulate.raw_modules(device)
context = engine.raw_context(device)
letterbox = simulate.open_letterbox(device)
"""
"""`device`, `engine` (whose one input is an image), `images` and `frames` are given."""

CELLS = {
    "memory": """
memcpy_async = cupy.cuda.runtime.memcpyAsync
TO_DEVICE, TO_HOST = cupy.cuda.runtime.memcpyHostToDevice, cupy.cuda.runtime.memcpyDeviceToHost
image_spec, output_spec = engine.inputs[0], engine.outputs[0]    # name, shape, dtype

stream = cupy.cuda.Stream(non_blocking=True)
d_image = cupy.empty(image_spec.shape, image_spec.dtype)         # on the device
d_output = cupy.empty(output_spec.shape, output_spec.dtype)
context.set_input_shape(image_spec.name, image_spec.shape)
context.set_tensor_address(image_spec.name, d_image.data.ptr)    # TensorRT keeps the number, not the memory
context.set_tensor_address(output_spec.name, d_output.data.ptr)

block = cupy.cuda.alloc_pinned_memory(d_output.nbytes)           # page-locked memory of the host,
h_output = np.frombuffer(block, d_output.dtype, d_output.size).reshape(d_output.shape)  # and a NumPy view on it
print(f"TensorRT {tensorrt.__version__}: {d_output.nbytes:,} bytes of output, in a block of {block.size():,}")
""",
    "report": """
report_ms = []
for i in range(frames):
    times = [time.perf_counter_ns()]
    blob = letterbox(images[i % len(images)])                    # a new, pageable array in each frame
    times.append(time.perf_counter_ns())
    memcpy_async(d_image.data.ptr, blob.ctypes.data, blob.nbytes, TO_DEVICE, stream.ptr)
    times.append(time.perf_counter_ns())
    context.execute_async_v3(stream.ptr)
    times.append(time.perf_counter_ns())
    memcpy_async(h_output.ctypes.data, d_output.data.ptr, h_output.nbytes, TO_HOST, stream.ptr)
    times.append(time.perf_counter_ns())
    stream.synchronize()
    times.append(time.perf_counter_ns())
    report_ms.append(np.diff(times) / 1e6)
for name, ms in zip(("letterbox", "upload", "enqueue", "download", "synchronize"), np.median(report_ms, axis=0)):
    print(f"{name:12}{ms:8.3f} ms")
""",
    "fixed": """
block = cupy.cuda.alloc_pinned_memory(d_image.nbytes)            # once, before the loop
h_image = np.frombuffer(block, d_image.dtype, d_image.size).reshape(d_image.shape)
done = cupy.cuda.Event(disable_timing=True)
fixed_ms = []
for i in range(frames):
    with nvtx.annotate("frame", payload=i, category="loop", domain="raw"):
        times = [time.perf_counter_ns()]
        letterbox(images[i % len(images)], out=h_image)          # written in place
        times.append(time.perf_counter_ns())
        memcpy_async(d_image.data.ptr, h_image.ctypes.data, h_image.nbytes, TO_DEVICE, stream.ptr)
        times.append(time.perf_counter_ns())
        context.execute_async_v3(stream.ptr)
        times.append(time.perf_counter_ns())
        memcpy_async(h_output.ctypes.data, d_output.data.ptr, h_output.nbytes, TO_HOST, stream.ptr)
        done.record(stream)
        times.append(time.perf_counter_ns())
        done.synchronize()                                       # from here on h_image may be written again
        times.append(time.perf_counter_ns())
    fixed_ms.append(np.diff(times) / 1e6)
for name, ms in zip(("letterbox", "upload", "enqueue", "download", "synchronize"), np.median(fixed_ms, axis=0)):
    print(f"{name:12}{ms:8.3f} ms")
""",
    "probe": """
spin = cupy.RawKernel(simulate.SPIN.source, "spin")              # keeps the GPU busy for so many nanoseconds

def probe(array, backlog_ns=5_000_000):
    with stream:
        spin((1,), (1,), (np.uint64(backlog_ns),))
    start = time.perf_counter_ns()
    memcpy_async(d_image.data.ptr, array.ctypes.data, array.nbytes, TO_DEVICE, stream.ptr)
    returned = time.perf_counter_ns()
    stream.synchronize()
    return (returned - start) / 1e6, (time.perf_counter_ns() - returned) / 1e6

arrays = {"pageable": np.ones(d_image.shape, d_image.dtype), "pinned": cupyx.empty_pinned(d_image.shape, d_image.dtype)}
arrays["pinned"][:] = 1
probe_ms = {name: np.median([probe(array) for _ in range(7)][2:], axis=0) for name, array in arrays.items()}
for name, (call, synchronize) in probe_ms.items():
    print(f"{name:9} call {call:6.3f} ms, synchronize {synchronize:6.3f} ms")
""",
    "allocators": """
nbytes, pool, alloc_ms = d_image.nbytes, cupy.cuda.PinnedMemoryPool(), {}

def cost(name, allocate):
    start = time.perf_counter_ns()
    memory = allocate()
    alloc_ms[name] = (time.perf_counter_ns() - start) / 1e6
    return memory                                                # dropped by the caller, it is given back

cupy.cuda.set_pinned_memory_allocator(pool.malloc)
block = block = cost("a new pool's first block", lambda: cupy.cuda.alloc_pinned_memory(nbytes))
print(f"asked for {nbytes:,} bytes, got a block of {block.size():,}")
del block
cost("the same block again", lambda: cupy.cuda.alloc_pinned_memory(nbytes))
cost("cupyx.empty_pinned, from that pool", lambda: cupyx.empty_pinned(d_image.shape, d_image.dtype))
cupy.cuda.set_pinned_memory_allocator()                          # no pool: each call is a cudaHostAlloc
cost("without a pool", lambda: cupy.cuda.alloc_pinned_memory(nbytes))
cupy.cuda.set_pinned_memory_allocator(cupy.get_default_pinned_memory_pool().malloc)
array = np.ones(d_image.shape, d_image.dtype)
cost("hostRegister", lambda: cupy.cuda.runtime.hostRegister(array.ctypes.data, array.nbytes, 0))
cupy.cuda.runtime.hostUnregister(array.ctypes.data)
for name, ms in alloc_ms.items():
    print(f"{ms:8.3f} ms  {name}")
""",
    "events": """
h_image = cupyx.empty_pinned(d_image.shape, d_image.dtype)
h_image[:] = 0
marks = [cupy.cuda.Event() for _ in range(4)]
gpu_ms = []
for i in range(frames):
    marks[0].record(stream)
    memcpy_async(d_image.data.ptr, h_image.ctypes.data, h_image.nbytes, TO_DEVICE, stream.ptr)
    marks[1].record(stream)
    context.execute_async_v3(stream.ptr)
    marks[2].record(stream)
    memcpy_async(h_output.ctypes.data, d_output.data.ptr, h_output.nbytes, TO_HOST, stream.ptr)
    marks[3].record(stream)
    marks[3].synchronize()
    gpu_ms.append([cupy.cuda.get_elapsed_time(*pair) for pair in zip(marks, marks[1:])])
for name, ms in zip(("upload", "infer", "download"), np.median(gpu_ms, axis=0)):
    print(f"{name:9}{ms:8.3f} ms on the GPU")
""",
    "graph": """
h_image = cupyx.empty_pinned(d_image.shape, d_image.dtype)       # a graph knows addresses: hold what it uses
h_image[:] = 0
with stream:
    stream.begin_capture()
    memcpy_async(d_image.data.ptr, h_image.ctypes.data, h_image.nbytes, TO_DEVICE, stream.ptr)
    context.execute_async_v3(stream.ptr)
    memcpy_async(h_output.ctypes.data, d_output.data.ptr, h_output.nbytes, TO_HOST, stream.ptr)
    graph = stream.end_capture()
graph_ms = []
for i in range(frames):
    times = [time.perf_counter_ns()]
    graph.launch(stream)
    times.append(time.perf_counter_ns())
    stream.synchronize()
    times.append(time.perf_counter_ns())
    graph_ms.append(np.diff(times) / 1e6)
print("launch {:.3f} ms, synchronize {:.3f} ms".format(*np.median(graph_ms, axis=0)))
""",
    "trap": """
def upload_from_a_local_block(value, target):
    block = cupy.cuda.alloc_pinned_memory(nbytes)                # local: back in the pool when the function returns
    np.frombuffer(block, np.uint8, nbytes)[:] = value
    memcpy_async(target.ptr, block.ptr, nbytes, TO_DEVICE, stream.ptr)

nbytes, found = 1 << 20, np.empty(1 << 20, np.uint8)
first, second = cupy.cuda.alloc(nbytes), cupy.cuda.alloc(nbytes)
with stream:
    spin((1,), (1,), (np.uint64(5_000_000),))                    # the GPU is busy, so the copies have to wait
upload_from_a_local_block(1, first)
upload_from_a_local_block(2, second)                             # gets the same block, and writes into it
try:
    stream.synchronize()
    memcpy_async(found.ctypes.data, first.ptr, nbytes, TO_HOST, stream.ptr)
    stream.synchronize()
    trap = f"no error, and of the first upload, which was 1, {np.mean(found == 2):.0%} of the bytes are 2"
except HazardError as error:                                     # the simulated device alone can see it
    trap = str(error)
print(trap)
""",
}

MEASURED = {
    "report": "report_ms",
    "fixed": "fixed_ms",
    "probe": "probe_ms",
    "allocators": "alloc_ms",
    "events": "gpu_ms",
    "graph": "graph_ms",
    "trap": "trap",
}


def names_for(device: Any, engine: Any, images: list[np.ndarray], frames: int) -> dict[str, Any]:
    """What cells see, once SETUP has run."""
    names = {"np": np, "simulate": simulate, "HazardError": HazardError}
    names |= {"device": device, "engine": engine, "images": images, "frames": frames}
    exec(compile(SETUP, "SETUP", "exec"), names)
    return names


def run(name: str, names: dict[str, Any]) -> Any:
    """Run a cell; what it measured."""
    exec(compile(CELLS[name], f"cell {name!r}", "exec"), names)
    return names.get(MEASURED.get(name, ""))
