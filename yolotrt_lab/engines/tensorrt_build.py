"""From an ONNX model to a serialized TensorRT engine, a plan.

Number types come from the model itself (a strongly typed network), so there is no precision switch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..devices.driver import find_gpu
from ..errors import BuildError, ModelError, ProfileError, SettingsError, UnsupportedOperatorError
from .model import read_onnx
from .tensorrt_module import build_targets, import_tensorrt, log_of

Shape = tuple[int, ...]
Profile = Mapping[str, tuple[Shape, Shape, Shape]]
"""For each dynamic input its smallest, its usual and its largest shape."""


def build_plan(
    onnx: bytes | str | Path, *, module: str = "", profile: Profile | None = None, target: str = ""
) -> bytes:
    """Build a serialized engine from an ONNX model.

    TensorRT builds for the GPU it finds (NoGpuError without one). TensorRT-RTX needs no GPU; it builds for every
    compute capability from 8.0 on, or for one `target` such as 'SM75'. ModelError, UnsupportedOperatorError,
    ProfileError or BuildError where the model cannot be built.
    """
    trt = import_tensorrt(module)
    targets = build_targets(trt)
    if target and target not in targets:
        raise SettingsError(
            f"{trt.__name__} {trt.__version__} has no build target {target!r}",
            fix=f"choose one of {', '.join(targets)}" if targets else "leave it away: the plan is for the GPU there",
        )
    if not targets:
        find_gpu()  # without a driver a Builder of TensorRT crashes the process
    model = read_onnx(onnx)
    log = log_of(trt)
    log.clear()
    builder = trt.Builder(log)
    strongly_typed = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if strongly_typed is None else 1 << int(strongly_typed))
    parser = trt.OnnxParser(network, log)  # the network uses its memory until the plan is built
    _parse(parser, network, model, log)
    config = builder.create_builder_config()
    _add_profile(builder, config, network, profile or {}, log)
    if target:
        config.num_compute_capabilities = 1
        config.set_compute_capability(targets[target], 0)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise BuildError(f"the builder gave up: {log.reason}", fix="read all of its lines in .log", log=log.lines)
    return bytes(plan)


def _parse(parser: Any, network: Any, model: bytes, log: Any) -> None:
    if parser.parse(model) and network.num_outputs:  # empty and stray bytes parse to an empty network
        return
    errors = [parser.get_error(i) for i in range(parser.num_errors)]
    said = tuple(f"{error.node_operator() or 'the file'}: {error.desc()}" for error in errors) + log.lines
    for error in errors:
        operator = error.node_operator()
        if operator and (error.code().name.startswith("UNSUPPORTED") or not parser.supports_operator(operator)):
            raise UnsupportedOperatorError(
                f"TensorRT does not support the operator {operator} as node {error.node_name()!r} uses it",
                fix="export the model without it, or run the model in ONNX Runtime",
                log=said,
            )
    raise ModelError(
        f"this is no usable ONNX model: {said[0] if said else 'it holds no graph'}",
        fix="export the model again, and check it with onnx.checker",
        log=said,
    )


def _add_profile(builder: Any, config: Any, network: Any, profile: Profile, log: Any) -> None:
    tensors = [network.get_input(i) for i in range(network.num_inputs)]
    check_profile({tensor.name: tuple(tensor.shape) for tensor in tensors}, profile)
    if not profile:
        return
    trt_profile = builder.create_optimization_profile()
    for name, (smallest, usual, largest) in profile.items():
        trt_profile.set_shape(name, smallest, usual, largest)
    if not trt_profile:
        raise ProfileError(f"TensorRT refuses the profile: {log.reason}", fix="give min <= opt <= max", log=log.lines)
    config.add_optimization_profile(trt_profile)


def check_profile(inputs: Mapping[str, Shape], profile: Profile) -> None:
    """ProfileError unless every input with open dimensions (-1) has an entry, and every entry fits its input.

    TensorRT itself accepts most misfits silently and fails later, or reports a different input.
    """
    for name, shape in inputs.items():
        if -1 in shape and name not in profile:
            example = tuple(max(size, 1) for size in shape)
            raise ProfileError(
                f"{name} has open dimensions, {shape}, and no optimisation profile",
                fix=f"pass profile={{{name!r}: (smallest, usual, largest)}}, each a shape such as {example}",
            )
    for name, (smallest, usual, largest) in profile.items():
        if name not in inputs:
            raise ProfileError(f"the profile names {name!r}, which is no input", fix=f"the inputs are {list(inputs)}")
        shape = inputs[name]
        same_rank = len(shape) == len(smallest) == len(usual) == len(largest)
        sizes = zip(shape, smallest, usual, largest, strict=False)
        if not same_rank or not all(0 < a <= b <= c and (size == -1 or a == c == size) for size, a, b, c in sizes):
            raise ProfileError(
                f"the profile {smallest}, {usual}, {largest} does not fit {name}{shape}",
                fix=f"give {len(shape)} sizes with smallest <= usual <= largest; only -1 may vary",
            )
