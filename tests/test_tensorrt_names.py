"""Every TensorRT name that the backend uses is in each version it claims, by tables read from the versions' wheels.

Full TensorRT can't run everywhere; a misspelled or missing attribute can be found without it. The backend names its
variables after what they hold (KINDS), so that its source shows which class an attribute is looked up on.
"""

import ast
import json
from pathlib import Path

import pytest

from yolotrt_lab import plans

TABLE = json.loads((Path(__file__).parent / "data" / "tensorrt-names.json").read_text(encoding="utf-8"))
VERSIONS = {
    version: {*TABLE["in_all"], *names}
    for version, names in TABLE["beyond_that"].items()
    if not version.startswith("tensorrt_lean")  # has neither builder nor parser
}
KINDS = {
    "trt": "",
    "builder": "Builder",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "error": "ParserError",
    "config": "IBuilderConfig",
    "runtime": "Runtime",
    "engine": "ICudaEngine",
    "context": "IExecutionContext",
    "runtime_config": "IRuntimeConfig",
    "tensor": "ITensor",
}
RETURNS = {
    "trt.Builder": "builder",
    "trt.OnnxParser": "parser",
    "trt.Runtime": "runtime",
    "builder.create_network": "network",
    "builder.create_builder_config": "config",
    "runtime.deserialize_cuda_engine": "engine",
    "engine.create_execution_context": "context",
    "engine.create_runtime_config": "runtime_config",
}
RESULT_KINDS = {"ParserError.code": "ErrorCode", "ICudaEngine.get_tensor_dtype": "DataType"}
OPTIONAL = {  # of TensorRT-RTX alone, and asked for only there
    "ComputeCapability",
    "IBuilderConfig.num_compute_capabilities",
    "IBuilderConfig.set_compute_capability",
    "ICudaEngine.create_runtime_config",
    "IRuntimeConfig.create_runtime_cache",
    "IRuntimeConfig.set_runtime_cache",
}
UNLISTED = {"ITensor.name", "ITensor.shape"}  # the tables leave ITensor out; test_tensorrt_rtx.py uses real ones
SOURCES = ["tensorrt.py", "plans.py"]


def dotted(node):
    """'engine.get_tensor_name' for that expression, with `self._engine` read as `engine`; '' for any other."""
    if isinstance(node, ast.Attribute):
        if isinstance(node.value, ast.Name) and node.value.id == "self" and node.attr.lstrip("_") in KINDS:
            return node.attr.lstrip("_")
        owner = dotted(node.value)
        return f"{owner}.{node.attr}" if owner else ""
    return node.id if isinstance(node, ast.Name) else ""


def qualified(path):
    """'ICudaEngine.get_tensor_name' for 'engine.get_tensor_name'; '' where no TensorRT object is in front."""
    root, _, rest = path.partition(".")
    if root not in KINDS or not rest or "__" in rest:
        return ""
    return f"{KINDS[root]}.{rest}".lstrip(".")


def names_used(source):
    """All TensorRT names that a source text uses, and the assignments that break the naming rule."""
    used, broken = set(), []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            used.add(qualified(dotted(node)))
            if isinstance(node.value, ast.Call) and (called := qualified(dotted(node.value.func))):
                used.add(f"{RESULT_KINDS.get(called, f'{called}()')}.{node.attr}")
        elif isinstance(node, ast.Call) and dotted(node.func) in ("getattr", "hasattr"):
            owner, name = node.args[0], node.args[1]
            if dotted(owner) and isinstance(name, ast.Constant) and "__" not in name.value:
                used.add(qualified(f"{dotted(owner)}.{name.value}"))
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            wanted = RETURNS.get(dotted(node.value.func))
            if wanted and [dotted(target) for target in node.targets] != [wanted]:
                broken.append(f"line {node.lineno}: the result should be called {wanted!r}")
    return used - {""}, broken


def backend():
    folder = Path(plans.__file__).parent
    return [names_used((folder / name).read_text(encoding="utf-8")) for name in SOURCES]


USED = set().union(*(used for used, _ in backend()))


def test_the_sources_name_their_objects_as_this_test_expects():
    assert [line for _, broken in backend() for line in broken] == []


def test_the_collection_sees_the_calls_that_matter():
    assert {
        "IExecutionContext.execute_async_v3",
        "IExecutionContext.set_tensor_address",
        "Builder.build_serialized_network",
        "OnnxParser.supports_operator",
        "Runtime.deserialize_cuda_engine",
        "TensorIOMode.INPUT",
        "ILogger.INTERNAL_ERROR",
        "DataType.name",
        "ErrorCode.name",
    } <= USED


@pytest.mark.parametrize("version", VERSIONS)
def test_every_required_name_is_in_the_version(version):
    assert USED - OPTIONAL - UNLISTED - VERSIONS[version] == set()


def test_optional_names_are_used_and_exist_somewhere():
    assert OPTIONAL | UNLISTED <= USED
    assert set().union(*VERSIONS.values()) >= OPTIONAL


@pytest.mark.parametrize(
    ("source", "finding"),
    [
        ("context.execute_async_v4(0)", "IExecutionContext.execute_async_v4"),
        ("self._engine.get_tensor_nam(0)", "ICudaEngine.get_tensor_nam"),
        ("trt.BuilderFlags.FP16", "BuilderFlags.FP16"),
        ("getattr(trt.NetworkDefinitionCreationFlag, 'STRONG', None)", "NetworkDefinitionCreationFlag.STRONG"),
        ("error.code().nam", "ErrorCode.nam"),
    ],
)
def test_a_misspelled_name_would_be_found(source, finding):
    assert finding in names_used(source)[0]
    assert all(finding not in names for names in VERSIONS.values())


def test_a_result_under_another_name_would_be_found():
    assert names_used("ctx = engine.create_execution_context()")[1] == ["line 1: the result should be called 'context'"]
