"""What a call takes in virtual time."""

from __future__ import annotations


def time_of(device, call):
    begin = device.now_ns()
    call()
    return device.now_ns() - begin
