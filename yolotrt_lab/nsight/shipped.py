"""The traces of a real GPU that ship with the lab, in `data/traces`."""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import TraceError
from ..paths import shipped_file
from .report import read_trace
from .trace import Trace


def shipped_trace(name: str) -> Trace:
    """The trace of that name, such as 'graph-pinned'; TraceError names those there are.

    `Recording.shipped(name, "traces")` is what the loop itself recorded of the same frames.
    """
    return read_trace(shipped_file("traces", f"{name}.sqlite", TraceError), use_cache=False)


def shipped_analysis(name: str) -> str:
    """What `nsys analyze` said of the trace of that name; TraceError names those that it was asked about."""
    return shipped_file("traces", f"{name}.analyze.txt", TraceError).read_text(encoding="utf-8")


def rules(said: str) -> Iterator[tuple[str, str]]:
    """Each rule of nsys by its name, such as 'cuda_api_sync', with what `nsys analyze` said by it."""
    for part in said.split("Processing [")[1:]:
        head, _, text = part.partition("\n")
        yield head.partition("] with [")[2].partition(".py]")[0], text.strip("\n") + "\n"
