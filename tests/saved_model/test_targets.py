"""Saving for a target: other forms where there are some, refusals before anything is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy import special

import savax as sx
from savax.errors import InvalidArgumentError, UnsupportedTargetError
from savax.saved_model import SaveOptions, load, save
from savax.saved_model._reader import open_model, read_saved_model

if TYPE_CHECKING:
    from pathlib import Path

VECTOR = [sx.TensorSpec([None, 5], "float32", "x")]


def module_of(function: Any, **options: Any) -> sx.Module:
    module = sx.Module()
    module.f = sx.function(function, input_signature=VECTOR, **options)
    return module


def ops_of(path: Path) -> set[str]:
    with open_model(path) as directory:
        (graph,) = read_saved_model(directory).meta_graphs
    return {node.op for f in graph.graph_def.library.function for node in f.node_def}


def test_ops_that_a_target_lacks_are_written_by_others(tmp_path: Path) -> None:
    module = module_of(special.erf)
    save(module, tmp_path / "tf", signatures=module.f)
    save(module, tmp_path / "tfjs", module.f, SaveOptions(target="tfjs"))
    save(module, tmp_path / "lite", module.f, SaveOptions(target="litert"))
    save(module, tmp_path / "all", module.f, SaveOptions(target="portable"))
    assert ["Erf" in ops_of(tmp_path / name) for name in ("tf", "tfjs", "lite", "all")] == [
        True,
        True,
        False,
        False,
    ]
    x = np.linspace(-4, 4, 15, dtype=np.float32).reshape(3, 5)
    for name in ("lite", "all"):
        got = load(tmp_path / name).f(x)
        np.testing.assert_allclose(got, special.erf(x), rtol=1e-6, atol=1e-7)


def test_a_function_has_a_target_of_its_own(tmp_path: Path) -> None:
    module = sx.Module()
    module.erf = sx.function(special.erf, input_signature=VECTOR, target="litert")
    module.plain = sx.function(special.erfc, input_signature=VECTOR)
    save(module, tmp_path / "m", signatures=module.erf)
    assert "Erf" not in ops_of(tmp_path / "m")
    assert "Erfc" in ops_of(tmp_path / "m")


def test_methods_keep_the_target(tmp_path: Path) -> None:
    class Net(sx.Module):
        @sx.function(input_signature=VECTOR, target="litert")
        def __call__(self, x: Any) -> Any:
            return special.erf(x)

    save(Net(), tmp_path / "m")
    assert "Erf" not in ops_of(tmp_path / "m")


def test_only_signatures_must_run_in_the_target(tmp_path: Path) -> None:
    module = sx.Module()
    module.serve = sx.function(lambda x: x + 1, input_signature=VECTOR)
    module.other = sx.function(lambda x: jnp.nextafter(x, 0.0), input_signature=VECTOR)
    save(module, tmp_path / "m", module.serve, SaveOptions(target="portable"))
    with pytest.raises(UnsupportedTargetError, match="nextafter"):
        save(module, tmp_path / "n", module.other, SaveOptions(target="portable"))


def test_all_refusals_come_together_with_lines_and_nothing_is_written(tmp_path: Path) -> None:
    def function(x: Any) -> Any:
        y = jnp.nextafter(x, x + 1)
        key = jax.random.key(0)
        return jnp.linalg.cholesky(y.T @ y) + jax.random.uniform(key, (5, 5))

    module = module_of(function)
    with pytest.raises(UnsupportedTargetError) as caught:
        save(module, tmp_path / "m", module.f, SaveOptions(target="portable"))
    lines = str(caught.value).splitlines()
    first = function.__code__.co_firstlineno
    assert f"nextafter, {__file__}:{first + 1} (" in str(caught.value)
    (cholesky,) = [line for line in lines if "cholesky, " in line]
    assert f"{__file__}:{first + 3} (" in cholesky
    assert "litert, tfjs, onnx, openvino don't run Cholesky of float32; no converter" in cholesky
    assert any("random" in line and "tfjs doesn't run" in line for line in lines)
    assert not list(tmp_path.iterdir())


def test_loops_and_shared_functions_are_looked_at(tmp_path: Path) -> None:
    def step(carry: Any, row: Any) -> Any:
        return carry + special.erf(row), jnp.nextafter(row, row + 1)

    module = module_of(lambda x: jax.lax.scan(step, jnp.zeros(5), x)[1])
    with pytest.raises(UnsupportedTargetError, match="nextafter"):
        save(module, tmp_path / "m", module.f, SaveOptions(target="litert"))

    module = module_of(lambda x: jax.lax.scan(lambda c, r: (c + special.erf(r), c), x[0], x)[0])
    save(module, tmp_path / "n", module.f, SaveOptions(target="litert"))
    assert "Erf" not in ops_of(tmp_path / "n")


def test_lists_of_tensors_where_their_elements_have_known_sizes(tmp_path: Path) -> None:
    def rows(x: Any) -> Any:
        return jax.lax.scan(lambda c, row: (c + row, c), x[0], x)[1]

    def columns(x: Any) -> Any:
        return jax.lax.scan(lambda c, column: (c + column, c), x[:, 0], x.T)[1]

    for target, function, has_list in (
        ("litert", rows, True),
        ("litert", columns, False),
        ("portable", columns, False),
        ("openvino", columns, True),
        ("tensorflow", columns, True),
    ):
        module = module_of(function)
        path = tmp_path / f"{target}_{function.__name__}"
        save(module, path, module.f, SaveOptions(target=target))
        assert ("TensorListReserve" in ops_of(path)) is has_list


def test_constants_of_types_that_are_read_wrongly(tmp_path: Path) -> None:
    numbers = np.array([1, 2, 3, 2**32 - 1, 5], np.uint32)
    module = module_of(lambda x: x.astype(jnp.uint32) + numbers)
    save(module, tmp_path / "m", module.f, SaveOptions(target="openvino"))
    with open_model(tmp_path / "m") as directory:
        (graph,) = read_saved_model(directory).meta_graphs
    nodes = [node for f in graph.graph_def.library.function for node in f.node_def]
    types = {node.attr["dtype"].type for node in nodes if node.op == "Const"}
    assert sx.as_dtype("uint32").number not in types
    x = np.ones((1, 5), np.float32)
    np.testing.assert_array_equal(load(tmp_path / "m").f(x)[0], numbers + np.uint32(1))


def test_a_loaded_function_is_checked_as_it_is(tmp_path: Path) -> None:
    module = module_of(special.erf)
    save(module, tmp_path / "m", signatures=module.f)
    loaded = load(tmp_path / "m")
    save(loaded, tmp_path / "tfjs", options=SaveOptions(target="tfjs"))
    with pytest.raises(UnsupportedTargetError, match=r"node 'erf/Erf' of .*litert doesn't run Erf"):
        save(loaded, tmp_path / "lite", options=SaveOptions(target="litert"))
    assert not (tmp_path / "lite").exists()


def test_unknown_targets() -> None:
    with pytest.raises(InvalidArgumentError, match="tensorflow, litert"):
        SaveOptions(target="tflite")
    with pytest.raises(InvalidArgumentError, match="tensorflow, litert"):
        sx.function(lambda x: x, target="coreml")
