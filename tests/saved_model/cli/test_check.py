"""``savax check``: what a target doesn't run of a model, where it is, and where it comes from."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import pytest
from jax.scipy import special

import savax as sx
from savax.protos import SavedModel
from savax.saved_model.cli import main
from savax.saved_model.cli._check import check_model

if TYPE_CHECKING:
    from pathlib import Path

SPEC = [sx.TensorSpec([None, 3], "float32", "x")]


def serve(x: Any) -> Any:
    return special.erf(x) + jnp.nextafter(x, x + 1)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("check") / "model"
    module = sx.Module()
    module.serve = sx.function(serve, input_signature=SPEC)
    module.other = sx.function(lambda x: jnp.linalg.cholesky(x.T @ x), input_signature=SPEC)
    options = sx.saved_model.SaveOptions(save_debug_info=True)
    sx.saved_model.save(module, path, module.serve, options)
    return path


def test_problems_have_places_and_lines(model: Path) -> None:
    report = check_model(model, "litert")
    erf, nextafter = report.problems
    assert (erf.op, erf.dtypes, erf.consumers, erf.count) == ("Erf", ("float32",), ("litert",), 1)
    (place,) = erf.places
    assert place.startswith("__inference_serve_")
    assert place.endswith("/Erf")
    line = serve.__code__.co_firstlineno + 1
    assert erf.lines == (f"{__file__}:{line} (serve)",)
    assert "export the program by savax for the target" in erf.advice
    assert nextafter.op == "NextAfter"
    assert "export the program" not in nextafter.advice


def test_functions_without_a_signature_do_not_count(model: Path) -> None:
    report = check_model(model, "portable")
    assert {problem.op for problem in report.problems} == {"Erf", "NextAfter"}
    assert report.problems[1].consumers == ("litert", "tfjs", "onnx", "openvino")


def test_exit_codes_and_text(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(model), "--target", "onnx"]) == 1
    text = capsys.readouterr().out
    assert "NextAfter: not in onnx" in text
    assert f"written at {__file__}:" in text
    assert main(["check", str(model), "--target", "tensorflow"]) == 0
    assert main(["check", str(tmp_path / "nowhere")]) == 2
    with pytest.raises(SystemExit):
        main(["check", str(model), "--target", "coreml"])


def test_json(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(model), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["target"] == "portable"
    assert [problem["op"] for problem in report["problems"]] == ["Erf", "NextAfter"]


def test_what_is_exported_for_a_target_passes(tmp_path: Path) -> None:
    module = sx.Module()
    module.f = sx.function(
        lambda x: special.erf(x) + (x.astype(jnp.int32) // 3).astype(jnp.float32),
        input_signature=SPEC,
    )
    options = sx.saved_model.SaveOptions(target="portable")
    sx.saved_model.save(module, tmp_path / "m", module.f, options)
    assert check_model(tmp_path / "m", "portable").problems == ()


def test_graphs_of_version_1_and_custom_ops(tmp_path: Path) -> None:
    proto = SavedModel()
    graph = proto.meta_graphs.add()
    for name, op, *inputs in (
        ("x", "Placeholder"),
        ("h", "StringToHashBucketFast", "x"),
        ("y", "MyOp", "h:0", "^x"),
        ("unused", "PyFunc", "x"),
    ):
        graph.graph_def.node.add(name=name, op=op, input=inputs)
    graph.signature_def["s"].outputs["y"].name = "y:0"
    graph.signature_def["__saved_model_init_op"].outputs["i"].name = "unused:0"
    (tmp_path / "saved_model.pb").write_bytes(proto.SerializeToString())
    report = check_model(tmp_path, "openvino")
    assert [(p.op, p.places) for p in report.problems] == [
        ("MyOp", ("y",)),
        ("StringToHashBucketFast", ("h",)),
    ]
    assert report.num_nodes == 3


def test_it_loads_no_jax(model: Path) -> None:
    code = (
        "import sys; from savax.saved_model.cli import main; "
        f"main(['check', {str(model)!r}]); sys.exit('jax' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
