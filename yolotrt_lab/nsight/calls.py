"""What a CUDA call is for, by its name: the synchronization records of a report give some types wrongly."""

from __future__ import annotations

from enum import StrEnum


class Call(StrEnum):
    """Kinds of CUDA calls, of the runtime and of the driver."""

    COPY = "copy"
    LAUNCH = "launch"
    SYNCHRONIZE = "synchronize"
    ALLOCATE = "allocate"
    OTHER = "other"


_PARTS = {
    Call.COPY: ("Memcpy",),
    Call.LAUNCH: ("Launch",),
    Call.ALLOCATE: ("Malloc", "MemAlloc", "HostAlloc", "Free", "HostRegister", "HostUnregister"),
}
_WHOLE_DEVICE = ("cudaDeviceSynchronize", "cudaThreadSynchronize", "cuCtxSynchronize")


def kind_of(name: str) -> Call:
    """The kind of the call of that name, such as 'cuMemcpyHtoDAsync'; names of other things are OTHER."""
    if not name.startswith("cu"):
        return Call.OTHER
    if name.endswith("Synchronize"):
        return Call.SYNCHRONIZE
    return next((kind for kind, parts in _PARTS.items() if any(part in name for part in parts)), Call.OTHER)


def waits_for_device(name: str) -> bool:
    """True for calls that wait for all streams."""
    return name in _WHOLE_DEVICE
