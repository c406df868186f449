"""Stand-ins for what needs a GPU. test_tensorrt_rtx.py checks the names of TensorRT's objects against real ones."""

from types import ModuleType, SimpleNamespace


class FakeGpu:
    """A device whose allocations lie at 4096, 8192, ..."""

    kind = "cuda"

    def __init__(self):
        self.sizes = []

    def empty_device(self, nbytes):
        self.sizes.append(nbytes)
        return SimpleNamespace(address=4096 * len(self.sizes), nbytes=nbytes)


class FakeStream:
    def __init__(self, handle=77):
        self.handle = handle


class FakeContext:
    stands_for = "IExecutionContext"

    def __init__(self, engine):
        self._engine = engine
        self._calls = engine._calls
        self._batch = 1

    def set_input_shape(self, name, shape):
        self._calls.append(("set_input_shape", name, shape))
        self._batch = shape[0]
        return self._engine._accepts

    def get_tensor_shape(self, name):
        batch, *others = self._engine._tensors[name].shape
        return [self._batch if batch == -1 else batch, *others]  # -1 stays where a size depends on the data

    def set_tensor_address(self, name, address):
        self._calls.append(("set_tensor_address", name, address))
        return self._engine._accepts_memory

    def execute_async_v3(self, handle):
        self._calls.append(("execute_async_v3", handle))
        return self._engine._runs


class FakeEngine:
    """Tensors are (mode, shape, dtype name); what it answers to its contexts is set from outside."""

    stands_for = "ICudaEngine"

    def __init__(self, **tensors):
        self._tensors = {
            name: SimpleNamespace(mode=mode, shape=shape, dtype=SimpleNamespace(name=dtype))
            for name, (mode, shape, dtype) in tensors.items()
        }
        self._calls = []
        self._accepts = self._accepts_memory = self._runs = True
        self._contexts, self._configs = 100, []

    @property
    def num_io_tensors(self):
        return len(self._tensors)

    def get_tensor_name(self, index):
        return list(self._tensors)[index]

    def get_tensor_mode(self, name):
        return self._tensors[name].mode

    def get_tensor_shape(self, name):
        return self._tensors[name].shape

    def get_tensor_dtype(self, name):
        return self._tensors[name].dtype

    def get_tensor_profile_shape(self, name, profile):
        assert profile == 0
        return [[size if open_ == -1 else open_ for open_ in self._tensors[name].shape] for size in (1, 2, 4)]

    def create_execution_context(self, *configs):
        self._configs += configs
        self._contexts -= 1
        return FakeContext(self) if self._contexts >= 0 else None


class FakeLogger:
    INTERNAL_ERROR, ERROR, WARNING, INFO = (
        SimpleNamespace(name=name) for name in ("INTERNAL_ERROR", "ERROR", "WARNING", "INFO")
    )


def never(*arguments):
    raise AssertionError("without a driver this crashes the process")


def fake_module(name="tensorrt", version="10.13.3.9.post1"):
    """A module of full TensorRT whose Builder and Runtime must not be made."""
    module = ModuleType(name)
    module.__version__ = version
    module.ILogger = FakeLogger
    module.TensorIOMode = SimpleNamespace(INPUT="in", OUTPUT="out")
    module.Builder = module.Runtime = never
    return module
