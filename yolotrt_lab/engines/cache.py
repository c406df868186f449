"""The plan cache: a plan is built once for each model, builder, GPU and set of options.

Nothing is ever evicted; the folder may be deleted at any time. `YOLOTRT_LAB_CACHE` moves it.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ..errors import PlanError, SettingsError
from .plan import read_plan, write_plan


def cache_folder(folder: str | Path | None = None) -> Path:
    """`folder` if given, else `$YOLOTRT_LAB_CACHE`, else `yolotrt-lab` in the platform's user cache folder."""
    if chosen := folder or os.environ.get("YOLOTRT_LAB_CACHE"):
        return Path(chosen)
    if sys.platform == "win32":
        parent = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        parent = Path.home() / "Library" / "Caches"
    else:
        parent = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return parent / "yolotrt-lab"


def plan_name(onnx: bytes, *, builder: str, target: str, options: str) -> str:
    """The file name of a plan: the builder ('tensorrt_rtx-1.4.0.76'), and a hash of all that the plan depends on."""
    digest = hashlib.sha256()
    for part in (onnx, builder.encode(), target.encode(), options.encode()):
        digest.update(hashlib.sha256(part).digest())
    return f"{builder}-{digest.hexdigest()[:32]}.plan"


def cached_plan(path: Path, build: Callable[[], bytes]) -> bytes:
    """The plan at `path`, built and stored first if it is missing or damaged.

    A damaged plan is replaced without a word: it holds nothing that `build` does not make again. SettingsError where
    the folder cannot be written.
    """
    with suppress(PlanError):
        return read_plan(path)
    plan = build()
    try:
        write_plan(path, plan)
    except OSError as error:
        raise SettingsError(
            f"the plan cache {path.parent} cannot be written: {error}",
            fix="set YOLOTRT_LAB_CACHE, or pass cache_dir=, to a folder that can be written",
        ) from error
    return plan
