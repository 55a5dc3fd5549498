"""``savax convert``: forms, tags, names of signatures, and what it refuses to do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import savax as sx
from savax.protos import FingerprintDef, SavedModel, parse, parse_text
from savax.saved_model._reader import open_model, read_saved_model
from savax.saved_model.cli import _convert, main

X = np.float32([[1, 2]])
Y = X * 3 + 0.5


class Net(sx.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = sx.Variable(np.float32(3))

    @sx.function(input_signature=[sx.TensorSpec([None, 2], name="x")])
    def apply(self, x):
        return {"y": x * self.scale + np.float32(0.5)}

    @sx.function(input_signature=[sx.TensorSpec([None], np.int64, name="n")])
    def double(self, n):
        return {"m": n * 2}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("models") / "model"
    net = Net()
    sx.saved_model.save(net, path, {"serving_default": net.apply, "größe": net.double})
    (path / "assets.extra").mkdir()
    (path / "assets.extra" / "README.md").write_text("read me")
    return str(path)


def converted(model: str, out: Path, *options: str) -> Path:
    assert main(["convert", model, str(out), *options]) == 0
    return out


def files(directory: Path | str) -> dict[str, bytes]:
    root = Path(directory)
    return {str(f.relative_to(root)): f.read_bytes() for f in root.rglob("*") if f.is_file()}


def proto(directory: Path | str) -> SavedModel:
    with open_model(directory) as opened:
        return read_saved_model(opened)


def error(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert main(["convert", *arguments]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith("savax: error: ")
    return line


@pytest.mark.parametrize("form", ["pb", "pbtxt", "cpb"])
def test_each_form_of_each_form(model: str, tmp_path: Path, form: str) -> None:
    expected = files(model)
    first = converted(model, tmp_path / "deep" / "first", "--to", form)
    assert files(first).keys() == expected.keys() - {"saved_model.pb"} | {f"saved_model.{form}"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the fingerprint fits
        loaded = sx.saved_model.load(first)
    np.testing.assert_array_equal(loaded.signatures["serving_default"](x=X)["y"], Y)
    assert proto(first) == proto(model)
    # Without a wish the form stays; and back again nothing is lost.
    assert f"saved_model.{form}" in files(converted(str(first), tmp_path / "same"))
    back = files(converted(str(first), tmp_path / "back", "--to", "pb"))
    theirs, ours = (
        parse(FingerprintDef, found.pop("fingerprint.pb"), "") for found in (expected, back)
    )
    assert back == expected
    theirs.uuid = ours.uuid = ""
    assert ours == theirs


def test_signatures_are_kept_and_renamed(model: str, tmp_path: Path) -> None:
    out = converted(
        model,
        tmp_path / "out",
        *("--rename-signature", "serving_default=größe"),
        *("--rename-signature", "größe=serving_default"),
    )
    swapped = sx.saved_model.load(out).signatures
    assert list(swapped["serving_default"](n=np.int64([4]))["m"]) == [8]
    np.testing.assert_array_equal(swapped["größe"](x=X)["y"], Y)
    out = converted(
        model, out, "--signature", "größe", "--rename-signature", "größe=b=c", "--force"
    )
    loaded = sx.saved_model.load(out)
    assert list(loaded.signatures) == ["b=c"]
    assert float(loaded.scale.numpy()) == 3
    graph = proto(out).meta_graphs[0]
    assert sorted(graph.signature_def) == ["__saved_model_init_op", "b=c"]


def test_tags(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = converted(model, tmp_path / "out", "--tag-set", "serve", "--tags", "a, b,a", "--json")
    report = json.loads(capsys.readouterr().out)
    assert report["graphs"] == [{"tags": ["a", "b"], "signatures": ["größe", "serving_default"]}]
    assert (report["directory"], report["file"]) == (str(out), "saved_model.pb")
    sx.saved_model.load(out, ["a", "b"])


def two_graphs(directory: Path) -> str:
    model = SavedModel()
    for tags, keys in ((("serve",), "ab"), (("train", "gpu"), "bc")):
        graph = model.meta_graphs.add()
        graph.meta_info_def.tags.extend(tags)
        graph.graph_def.node.add(name=tags[0], op="NoOp")
        for key in keys:
            graph.signature_def[key].method_name = f"{tags[0]} {key}"
    directory.mkdir()
    (directory / "saved_model.pb").write_bytes(model.SerializeToString())
    return str(directory)


def test_several_graphs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = two_graphs(tmp_path / "two")
    out = converted(source, tmp_path / "all", "--to", "pbtxt", "--rename-signature", "b=d")
    assert "tags train, gpu: signatures c, d" in capsys.readouterr().out
    graphs = parse_text(SavedModel, files(out)["saved_model.pbtxt"], "").meta_graphs
    assert [graph.signature_def["d"].method_name for graph in graphs] == ["serve b", "train b"]
    out = converted(source, tmp_path / "one", "--tag-set", "gpu,train", "--to", "cpb")
    assert [graph.graph_def.node[0].name for graph in proto(out).meta_graphs] == ["train"]
    assert "choose one by --tag-set" in error(capsys, source, str(tmp_path / "x"), "--to", "cpb")
    assert "2 graphs" in error(capsys, source, str(tmp_path / "x"), "--tags", "new")
    assert "no graph with the tags gpu" in error(
        capsys, source, str(tmp_path / "x"), "--tag-set", "gpu"
    )
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--signature", "none"], "There is no signature 'none'; there are: größe, serving_def"),
        (["--signature", "größe", "--rename-signature", "serving_default=a"], "are: größe."),
        (["--rename-signature", "__saved_model_init_op=a"], "There is no signature '__saved"),
        (["--rename-signature", "größe=__saved_model_init_op"], "No signature can have the key"),
        (["--rename-signature", "größe=serving_default"], "would both have the key 'serving_d"),
        (["--rename-signature", "größe=a", "--rename-signature", "größe=b"], "more than one"),
    ],
    ids=range(6),
)
def test_wrong_signatures(
    model: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    assert message in error(capsys, model, str(tmp_path / "out"), *options)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "options",
    [["--to", "txt"], ["--tags", ","], ["--tag-set", ""], ["--rename-signature", "a"]],
    ids=range(4),
)
def test_wrong_arguments(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["convert", model, str(tmp_path / "out"), *options])
    assert "usage: savax convert" in capsys.readouterr().err


def test_nothing_is_replaced_without_force(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = converted(model, tmp_path / "out")
    (tmp_path / "link").symlink_to(out)
    before = files(out)
    assert "--force lets it" in error(capsys, str(out), str(tmp_path / "link"))
    assert "isn't empty; --force" in error(capsys, model, str(out))
    assert "is inside the model" in error(capsys, str(out), str(out / "new"), "--force")
    assert "is a file" in error(capsys, model, str(out / "saved_model.pb"))
    assert files(out) == before
    (out / "notes.txt").write_text("mine")
    converted(str(out), tmp_path / "link", "--to", "pbtxt", "--force")
    assert files(out).keys() == before.keys() - {"saved_model.pb"} | {
        "saved_model.pbtxt",
        "notes.txt",
    }
    sx.saved_model.load(out)
    (tmp_path / "empty").mkdir()
    converted(model, tmp_path / "empty")
    assert sorted(os.listdir(tmp_path)) == ["empty", "link", "out"]


def test_links_and_special_files_are_not_copied(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = converted(model, tmp_path / "source")
    for name, make in (
        ("secret", lambda path: path.symlink_to("/etc/passwd")),
        ("folder", lambda path: path.symlink_to("/etc")),
        ("pipe", os.mkfifo),
    ):
        path = out / "assets.extra" / name
        make(path)
        assert f"assets.extra/{name}' is a link" in error(capsys, str(out), str(tmp_path / "o"))
        path.unlink()
    assert os.listdir(tmp_path) == ["source"]


def test_no_model_and_damaged_models(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no SavedModel directory" in error(capsys, str(tmp_path / "no"), str(tmp_path / "o"))
    (tmp_path / "bad").mkdir()
    assert "no saved_model.pb" in error(capsys, str(tmp_path / "bad"), str(tmp_path / "o"))
    (tmp_path / "bad" / "saved_model.pb").write_bytes(b"\xff\xff")
    assert "saved_model.pb" in error(capsys, str(tmp_path / "bad"), str(tmp_path / "o"))
    assert os.listdir(tmp_path) == ["bad"]


def test_what_a_form_cannot_hold(
    model: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = converted(model, tmp_path / "source")
    with open(source / "saved_model.pb", "ab") as file:
        file.write(b"\xfa\x7f\x01a")  # field 2047
    assert "would lose them" in error(capsys, str(source), str(tmp_path / "o"), "--to", "pbtxt")
    assert files(converted(str(source), tmp_path / "out"))["saved_model.pb"].endswith(b"\x7f\x01a")
    monkeypatch.setattr(_convert, "MOST_BYTES", 100)
    for form in ("pb", "pbtxt"):
        message = error(capsys, model, str(tmp_path / "o"), "--to", form)
        assert "more than 100 bytes, which only the image form" in message
    assert not (tmp_path / "o").exists()


def test_large_constants_of_images(tmp_path: Path) -> None:
    table = np.arange(600_000, dtype=np.float32)

    class Large(sx.Module):
        @sx.function(input_signature=[sx.TensorSpec([], np.int32, name="i")])
        def __call__(self, i):
            return {"y": jnp.asarray(table)[i]}

    options = sx.saved_model.SaveOptions(experimental_image_format=True)
    sx.saved_model.save(Large(), tmp_path / "large", options=options)
    for number, form in enumerate(["cpb", "pb", "cpb"]):
        source = tmp_path / ("large" if number == 0 else str(number - 1))
        out = converted(str(source), tmp_path / str(number), "--to", form)
        loaded = sx.saved_model.load(out)
        assert float(loaded.signatures["serving_default"](i=np.int32(77))["y"]) == 77


def test_a_model_that_is_replaced_meanwhile(
    model: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = converted(model, tmp_path / "source")
    copy = _convert.copy_other_files

    def copy_and_replace(*arguments: object) -> None:
        copy(*arguments)  # type: ignore[arg-type]
        sx.saved_model.save(Net(), source)

    monkeypatch.setattr(_convert, "copy_other_files", copy_and_replace)
    assert "was replaced while it was read" in error(capsys, str(source), str(tmp_path / "o"))
    assert os.listdir(tmp_path) == ["source"]


def test_convert_loads_neither_jax_nor_tensorflow(model: str, tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from savax.saved_model.cli import main\n"
        f"code = main(['convert', {model!r}, {str(tmp_path / 'out')!r}, '--to', 'cpb'])\n"
        "loaded = {name.split('.')[0] for name in sys.modules}\n"
        "sys.exit(code or bool(loaded & {'jax', 'jaxlib', 'tensorflow'}))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
