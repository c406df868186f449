"""Heavy packages, imported at first use, and the files that ship with the lab."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import LabError, MissingPackageError, SettingsError
from .files import limit_bytes

if TYPE_CHECKING:  # the doctor works without NumPy too
    import numpy as np

_PACKAGE = Path(__file__).resolve().parent


def load(module: str, *, needed_for: str, install: str = "") -> Any:
    """The module of that name; MissingPackageError if it, or something that it needs, is not installed.

    `install` is the command that fixes this; the default is `pip install` of the package.
    """
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0].replace("cv2", "opencv-python-headless")
        fix = install or f"python -m pip install {package}"
        raise MissingPackageError(package, needed_for=needed_for, install=fix) from error


def import_cv2() -> Any:
    """OpenCV, which most of what touches an image needs. It reads no image that takes more than `limit_bytes`."""
    if "cv2" not in sys.modules:
        os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(limit_bytes() // 3))
    return load("cv2", needed_for="images and videos")


def arrow_stream(columns: Mapping[str, np.ndarray], requested_schema: object | None = None) -> object:
    """What `__arrow_c_stream__` of a table returns: a capsule of its columns, NumPy arrays of shape (rows,).

    With it pandas, Polars, DuckDB and PyArrow take the table as it is (the Arrow PyCapsule interface).
    """
    return arrow_table(columns).__arrow_c_stream__(requested_schema)


def arrow_array(values: np.ndarray) -> Any:
    """A PyArrow array of NumPy values. `pyarrow.array` would import pandas, where it is there, for half a second."""
    import numpy as np

    arrow = load("pyarrow", needed_for="Arrow tables")
    if values.dtype.kind not in "biuf":
        return arrow.array(values)
    packed = np.packbits(values, bitorder="little") if values.dtype == bool else np.ascontiguousarray(values)
    buffers = [None, arrow.py_buffer(packed)]
    return arrow.Array.from_buffers(arrow.from_numpy_dtype(values.dtype), len(values), buffers)


def arrow_table(columns: Mapping[str, np.ndarray], metadata: Mapping[bytes, str] | None = None) -> Any:
    """A PyArrow table of NumPy columns."""
    import numpy as np

    arrays = [arrow_array(np.asarray(values)) for values in columns.values()]
    return load("pyarrow", needed_for="Arrow tables").Table.from_arrays(arrays, list(columns), metadata=metadata)


def lab_path(*parts: str) -> Path:
    """A file or folder of the lab; SettingsError if it does not exist.

    >>> lab_path("data", "presets").is_dir()
    True
    """
    for root in (_PACKAGE, _PACKAGE.parent):  # a wheel has `data` and `notebooks` in the package, a checkout beside it
        path = root.joinpath(*parts)
        if path.exists():
            return path
    raise SettingsError(
        f"the lab has no {'/'.join(parts)}", fix="run inside a checkout of the lab, or name a file that exists"
    )


def shipped_file(kind: str, file: str, error: type[LabError] = SettingsError) -> Path:
    """`data/<kind>/<gpu>/<file>` of whichever GPU; an `error` that lists the files there are if it is none of them."""
    folder = lab_path("data", kind)
    found = sorted(folder.glob(f"*/{file}"))
    if not found:
        names = sorted({path.stem for path in folder.glob(f"*/*{Path(file).suffix}")})
        raise error(f"no {file} ships with the lab", fix=f"use one of {', '.join(names)}")
    return found[0]


def shipped_model() -> Path:
    """The ONNX file of the lab's own YOLOv8n, which knows the parts of `SyntheticScene`; SettingsError without it.

    >>> shipped_model().name
    'lab-yolov8n.onnx'
    """
    return lab_path("data", "models", "lab-yolov8n.onnx")


def install_command(extra: str) -> str:
    """The pip command that adds one of the lab's extras, such as "cuda13", to this Python."""
    if (_PACKAGE.parent / "pyproject.toml").is_file():
        return f'python -m pip install -e ".[{extra}]"'
    return f'python -m pip install "yolotrt-lab[{extra}]"'
