"""The gym: write a frame loop yourself, in CuPy's, TensorRT's and nvtx's own names, and have it graded.

`check` runs it on a fresh simulated device, which counts every call and finds what a GPU does silently wrong, and on a
GPU live as well. The exercises stand at the end of the notebooks; their texts are the files of `exercises/`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
