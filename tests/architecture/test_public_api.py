"""The front door: every public name exists, nothing else is public, and stubs tell the truth."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
import types
from pathlib import Path

import pytest

import savax

ROOT = Path(__file__).parents[2]
LAZY_PACKAGES = ("savax", "savax.saved_model", "savax.train")
EAGER_MODULES = (
    "savax.dtypes",
    "savax.errors",
    "savax.function",
    "savax.io",
    "savax.lookup",
    "savax.protos",
    "savax.saved_model.builder",
    "savax.saved_model.cli",
    "savax.saved_model.constants",
    "savax.saved_model.experimental",
    "savax.saved_model.loader",
    "savax.saved_model.main_op",
    "savax.saved_model.signature_constants",
    "savax.saved_model.signature_def_utils",
    "savax.saved_model.tag_constants",
    "savax.saved_model.utils",
    "savax.trackable",
    "savax.trackable.bundle",
    "savax.trackable.checkpoint",
    "savax.train.experimental",
    "savax.types",
)

PUBLIC_NAMES = [
    "AutoTrackable",
    "DType",
    "Graph",
    "Module",
    "NoDependency",
    "Session",
    "TensorShape",
    "TensorSpec",
    "SparseTensor",
    "SparseTensorSpec",
    "StableHLO",
    "RaggedTensor",
    "RaggedTensorSpec",
    "IndexedSlices",
    "IndexedSlicesSpec",
    "Trackable",
    "TrackedState",
    "Variable",
    "VariableAggregation",
    "VariableSynchronization",
    "as_dtype",
    "as_jax",
    "bfloat16",
    "bool",
    "compat",
    "complex128",
    "complex64",
    "double",
    "dtypes",
    "errors",
    "float16",
    "float32",
    "float4_e2m1fn",
    "float64",
    "float8_e4m3b11fnuz",
    "float8_e4m3fn",
    "float8_e4m3fnuz",
    "float8_e5m2",
    "float8_e5m2fnuz",
    "freeze",
    "function",
    "grad",
    "half",
    "int16",
    "int2",
    "int32",
    "int4",
    "int64",
    "int8",
    "io",
    "lookup",
    "qint16",
    "qint32",
    "qint8",
    "quint16",
    "quint8",
    "register_op",
    "resource",
    "saved_model",
    "string",
    "strings",
    "train",
    "uint16",
    "uint2",
    "uint32",
    "uint4",
    "uint64",
    "uint8",
    "value_and_grad",
    "variant",
]


def test_public_names_of_savax_are_these() -> None:
    assert sorted(savax.__all__) == sorted(PUBLIC_NAMES)


@pytest.mark.parametrize("package", [*LAZY_PACKAGES, *EAGER_MODULES])
def test_every_public_name_exists(package: str) -> None:
    module = importlib.import_module(package)
    missing = [name for name in module.__all__ if not hasattr(module, name)]
    assert missing == []


@pytest.mark.parametrize("package", [m for m in EAGER_MODULES if m != "savax.saved_model.cli"])
def test_a_module_exports_all_that_it_defines_or_imports_for_others(package: str) -> None:
    module = importlib.import_module(package)
    visible = {
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and not isinstance(value, types.ModuleType)
        and str(getattr(value, "__module__", package)).startswith("savax")
    }
    assert visible <= set(module.__all__)


@pytest.mark.parametrize("package", LAZY_PACKAGES)
def test_stub_has_the_names_of_the_package(package: str) -> None:
    stub = ROOT / Path(*package.split(".")) / "__init__.pyi"
    names = {
        alias.asname
        for node in ast.walk(ast.parse(stub.read_text()))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert names - {"__version__"} == set(importlib.import_module(package).__all__)


@pytest.mark.parametrize("package", LAZY_PACKAGES)
def test_stub_and_package_find_a_name_in_the_same_object(package: str) -> None:
    stub = ROOT / Path(*package.split(".")) / "__init__.pyi"
    module = importlib.import_module(package)
    for node in ast.walk(ast.parse(stub.read_text())):
        if not isinstance(node, ast.ImportFrom) or node.module == "savax.function":
            continue
        source = importlib.import_module(str(node.module))
        for alias in node.names:
            assert getattr(module, alias.name) is getattr(source, alias.name), alias.name


@pytest.mark.parametrize("package", LAZY_PACKAGES)
def test_dir_lists_public_names_before_they_are_imported(package: str) -> None:
    code = f"import {package} as p; print(set(p.__all__) <= set(dir(p)), '_LAZY' in dir(p))"
    result = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert result.stdout.split() == ["True", "False"]


@pytest.mark.parametrize("package", LAZY_PACKAGES)
def test_unknown_name_is_an_attribute_error_that_names_it(package: str) -> None:
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nonsense'"):
        importlib.import_module(package).nonsense  # noqa: B018 - the access is the test


@pytest.mark.parametrize(
    "imports",
    [
        "import savax",
        "import savax; savax.Variable",
        "import savax.function; import savax",
        "import savax; from savax.function._polymorphic import Function",
        "import savax; savax.function; import savax.function.tracing._tracing",
        "import savax; savax.saved_model.save",
        "import savax.saved_model._load; import savax",
    ],
)
def test_function_is_the_decorator_in_every_order_of_imports(imports: str) -> None:
    code = f"""
{imports}
from savax import function
from savax.function import Function
assert function is savax.function

@savax.function
def plain(x):
    return x

@savax.function(input_signature=[savax.TensorSpec([None])])
def with_signature(x):
    return x

@function
def imported(x):
    return x

assert all(isinstance(f, Function) for f in (plain, with_signature, imported))
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_function_shows_the_signature_of_the_decorator() -> None:
    assert list(inspect.signature(savax.function).parameters)[:2] == ["func", "input_signature"]


def test_star_import_gives_the_public_names() -> None:
    namespace: dict[str, object] = {}
    exec("from savax.saved_model import *", namespace)
    assert {"save", "load", "SERVING"} <= namespace.keys()


def test_dtype_names_are_the_dtype_table() -> None:
    for dtype in savax.types.ALL_DTYPES:
        assert getattr(savax, dtype.name) is dtype


def test_constants_have_tensorflow_values() -> None:
    sm = savax.saved_model
    assert (sm.SERVING, sm.TRAINING, sm.GPU, sm.TPU) == ("serve", "train", "gpu", "tpu")
    assert sm.DEFAULT_SERVING_SIGNATURE_DEF_KEY == "serving_default"
    assert sm.signature_constants.PREDICT_METHOD_NAME == "tensorflow/serving/predict"
    assert sm.tag_constants.SERVING == "serve"
    assert (sm.constants.ASSETS_KEY, sm.SAVED_MODEL_SCHEMA_VERSION) == ("saved_model_assets", 1)
