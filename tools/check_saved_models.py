"""Runs SavedModels in savax and in TensorFlow, and prints a table of what differs.

    python tools/check_saved_models.py DIR...           # every SavedModel below these directories
    python tools/check_saved_models.py DIR... --page    # and writes the table into docs/models.md

All signatures of all MetaGraphs are called with the same random inputs in both. It needs
TensorFlow. TensorFlow runs what a model says: check only those that you trust.
"""

from __future__ import annotations

import argparse
import functools
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import jax
import numpy as np
import tensorflow as tf

from savax import protos
from savax.saved_model import load

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

PAGE = Path(__file__).resolve().parent.parent / "docs" / "models.md"
_FILES = ("saved_model.pb", "saved_model.pbtxt", "saved_model.cpb")
_TOLERANCE = 1e-4
_BATCHES = (2, 1)
_SHOWN_FOLDERS = 4
_SHOWN_CHARACTERS = 60
_MARK = "<!-- Rows below are written by tools/check_saved_models.py --page. -->"


class Row(NamedTuple):
    """What was found of a MetaGraph.

    Attributes:
      model: directory of the model, and its tags where it has several MetaGraphs.
      version: the TensorFlow that wrote it.
      signatures: how many were compared.
      difference: largest one of any result, relative to the largest number in it; None if nothing
        was compared.
      remarks: what couldn't be compared, and why.
    """

    model: str
    version: str
    signatures: int
    difference: float | None
    remarks: tuple[str, ...]

    @property
    def is_good(self) -> bool:
        """Whether all results agree that TensorFlow itself computes."""
        fails = any(remark.startswith("savax") for remark in self.remarks)
        return not fails and (self.difference or 0.0) <= _TOLERANCE

    def __str__(self) -> str:
        difference = "" if self.difference is None else f"{self.difference:.0e}"
        remarks = "; ".join(self.remarks[:1]).replace("|", "\\|")
        if len(self.remarks) > 1:
            remarks += f"; and {len(self.remarks) - 1} more"
        return f"| {self.model} | {self.version} | {self.signatures} | {difference} | {remarks} |"


def find_models(roots: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yields directory and short name of every SavedModel below some directories, sorted."""
    for root in roots:
        for directory, folders, files in os.walk(root):
            folders.sort()
            if any(name in files for name in _FILES):
                parts = Path(os.path.relpath(directory, root)).parts
                if len(parts) > _SHOWN_FOLDERS:
                    parts = (parts[0], "...", *parts[1 - _SHOWN_FOLDERS :])
                yield directory, "/".join(parts)


def check(directory: str, name: str) -> list[Row]:
    """Compares all signatures of all MetaGraphs of a model."""
    meta_graphs = _meta_graphs(directory)
    rows = []
    for meta_graph in meta_graphs:
        tags = list(meta_graph.meta_info_def.tags)
        label = name if len(meta_graphs) == 1 else f"{name} ({', '.join(tags)})"
        version = meta_graph.meta_info_def.tensorflow_version
        signatures, difference, remarks = _check_meta_graph(directory, tags, meta_graph)
        rows.append(Row(label, version, signatures, difference, tuple(remarks)))
    return rows


def _meta_graphs(directory: str) -> Sequence[Any]:
    path = Path(directory)
    try:
        if (path / "saved_model.pb").exists():
            return protos.SavedModel.FromString((path / "saved_model.pb").read_bytes()).meta_graphs
        text = (path / "saved_model.pbtxt").read_text()
        return protos.parse_text(protos.SavedModel, text, "saved_model.pbtxt").meta_graphs
    except Exception:  # no file that can be read: both readers are to say so
        model = protos.SavedModel()
        model.meta_graphs.add().meta_info_def.tags.append("serve")
        return model.meta_graphs


def _check_meta_graph(
    directory: str, tags: list[str], meta_graph: Any
) -> tuple[int, float | None, list[str]]:
    try:
        theirs = _tensorflow_callables(directory, tags)
        ours = load(directory, tags=tags)
    except Exception as error:  # whatever it is, it is the result of the check
        return 0, None, [_remark("TensorFlow" if "theirs" not in locals() else "savax", "", error)]
    count, worst, remarks = 0, None, []
    for key in sorted(theirs):
        specs, call = theirs[key]
        try:
            mine = (
                _positional(getattr(ours, key[1:]), ours) if key[0] == "." else ours.signatures[key]
            )
        except Exception as error:
            remarks.append(_remark("savax", key, error))
            continue
        found = _check_callable(specs, call, mine, meta_graph)
        if isinstance(found, float):
            count, worst = count + 1, max(found, worst or 0.0)
        else:
            remarks.append(_remark(found[0], key, found[1]))
    return count, worst, remarks


def _tensorflow_callables(directory: str, tags: list[str]) -> dict[str, tuple[Any, Any]]:
    """Returns, by name, specs of arguments and what computes; the root's functions have a dot."""
    try:
        loaded = tf.saved_model.load(directory, tags=tags)
    except Exception:
        # Objects of Keras 2 that TensorFlow can't make any more don't concern a session.
        return _session_callables(directory, tags)
    found: dict[str, tuple[Any, Any]] = {}
    for key, function in loaded.signatures.items():
        found[key] = (function.structured_input_signature[1], function)
    for name, member in vars(loaded).items():
        concretes = getattr(member, "concrete_functions", None)
        if concretes and not name.startswith("_") and name != "signatures":
            args, kwargs = concretes[0].structured_input_signature
            specs = {str(i): spec for i, spec in enumerate(args)}
            if not kwargs and all(isinstance(spec, tf.TensorSpec) for spec in args):
                found[f".{name}"] = (specs, _positional(member, loaded))
    return found


def _positional(function: Any, model: Any) -> Any:
    """Returns a function that takes and returns arrays by their places, as strings."""

    def call(**inputs: Any) -> dict[str, Any]:
        assert model is not None  # TensorFlow's functions don't keep their Variables alive
        results = function(*inputs.values())
        found = [result for result in tf.nest.flatten(results) if result is not None]
        return {str(i): result for i, result in enumerate(found)}

    return call


def _session_callables(directory: str, tags: list[str]) -> dict[str, tuple[Any, Any]]:
    session = tf.compat.v1.Session(graph=tf.Graph())
    with session.graph.as_default():
        meta_graph = tf.compat.v1.saved_model.loader.load(session, tags, directory)
    found: dict[str, tuple[Any, Any]] = {}
    for key, signature in meta_graph.signature_def.items():
        if key.startswith("__saved_model"):
            continue
        specs = {
            name: tf.TensorSpec(info.tensor_shape, info.dtype)
            for name, info in signature.inputs.items()
        }
        found[key] = (specs, functools.partial(_run_session, session, signature))
    return found


def _run_session(session: Any, signature: Any, /, **inputs: Any) -> dict[str, Any]:
    fetches = {name: info.name for name, info in signature.outputs.items()}
    if len({info.name for info in signature.inputs.values()}) < len(signature.inputs):
        raise ValueError("two inputs are one tensor")
    feed = {signature.inputs[name].name: value.numpy() for name, value in inputs.items()}
    return {name: tf.constant(value) for name, value in session.run(fetches, feed).items()}


def _check_callable(
    specs: Mapping[str, Any], theirs: Any, ours: Any, meta_graph: Any
) -> float | tuple[str, Exception]:
    """Returns the largest difference, or which side failed with what error."""
    first: Exception | None = None
    for inputs in _inputs(specs, meta_graph):
        try:
            found = theirs(**{name: tf.constant(value) for name, value in inputs.items()})
            wanted = {name: _host(value) for name, value in found.items()}
        except Exception as error:
            first = first or error
            continue
        try:
            return _difference(ours(**inputs), wanted)
        except Exception as error:
            return "savax", error
    assert first is not None
    return "TensorFlow", first


def _inputs(specs: Mapping[str, Any], meta_graph: Any) -> Iterator[dict[str, np.ndarray]]:
    """Yields inputs to try: TensorFlow refuses words where it wants serialized examples."""
    has_strings = any(spec.dtype == tf.string for spec in specs.values())
    texts = [b"Some words, \xc3\xa9.", _serialized_example(meta_graph)] if has_strings else [b""]
    for text in texts:
        for batch in _BATCHES:
            rng = np.random.default_rng(0)
            yield {name: _random(spec, rng, batch, text) for name, spec in specs.items()}


def _random(spec: Any, rng: np.random.Generator, batch: int, text: bytes) -> np.ndarray:
    rank = spec.shape.rank
    shape = [batch] if rank is None else [batch if size is None else size for size in spec.shape]
    if spec.dtype == tf.string:
        return np.full(shape, text, object)
    kind = spec.dtype.as_numpy_dtype
    if spec.dtype.is_bool:
        return rng.uniform(size=shape) < 0.5
    if spec.dtype.is_integer:
        return rng.integers(0, 3, shape).astype(kind)
    return np.asarray(rng.standard_normal(shape), kind)


def _host(value: Any) -> np.ndarray:
    """Returns a tensor of TensorFlow as an array; its scalar strings are bytes."""
    return np.array(value.numpy(), object if value.dtype == tf.string else None)


def _difference(found: Mapping[str, Any], wanted: Mapping[str, np.ndarray]) -> float:
    if set(found) != set(wanted):
        raise AssertionError(f"other results: {sorted(found)}, not {sorted(wanted)}")
    worst = 0.0
    for name, theirs in wanted.items():
        ours = np.asarray(found[name])
        if ours.shape != theirs.shape or (ours.dtype != theirs.dtype and theirs.dtype != object):
            raise AssertionError(
                f"{name} is {ours.dtype}{list(ours.shape)}, not {theirs.dtype}{list(theirs.shape)}"
            )
        if theirs.dtype.kind in "fc" or theirs.dtype == tf.bfloat16.as_numpy_dtype:
            a, b = ours.astype(np.complex128), theirs.astype(np.complex128)
            same = (a == b) | (np.isnan(a) & np.isnan(b))
            scale = np.abs(b[np.isfinite(b)]).max(initial=1e-6)
            error = np.where(same, 0.0, np.nan_to_num(np.abs(a - b), nan=np.inf))
            worst = max(worst, error.max(initial=0.0) / scale)
        elif ours.tolist() != theirs.tolist():
            raise AssertionError(f"{name} has other values")
    return float(worst)


def _serialized_example(meta_graph: Any) -> bytes:
    """Returns a tf.train.Example with all features that the ops of a model parse."""
    graph = meta_graph.graph_def
    example = tf.train.Example()
    for nodes in (graph.node, *(function.node_def for function in graph.library.function)):
        by_name = {node.name: node for node in nodes}
        for node in nodes:
            if node.op in ("ParseExample", "ParseExampleV2"):
                for key, dtype, size in _features(node, by_name):
                    feature = example.features.feature[key]
                    if dtype == tf.string:
                        feature.bytes_list.value[:] = [b"word"] * size
                    elif dtype == tf.int64:
                        feature.int64_list.value[:] = [1] * size
                    else:
                        feature.float_list.value[:] = [0.5] * size
    return example.SerializeToString(deterministic=True)


def _features(node: Any, by_name: Mapping[str, Any]) -> Iterator[tuple[str, Any, int]]:
    """Yields name, dtype and number of values of the features that a node parses."""
    consts = [_strings(by_name.get(re.split(r"[:^]", name)[0])) for name in node.input]
    if node.op == "ParseExampleV2":
        sparse, dense = consts[2], consts[3]
    else:
        count = node.attr["Nsparse"].i
        keys = [key for const in consts[2:] for key in const]
        sparse, dense = keys[:count], keys[count : count + node.attr["Ndense"].i]
    for key, dtype in zip(sparse, node.attr["sparse_types"].list.type, strict=False):
        yield key, tf.as_dtype(dtype), 1
    shapes = node.attr["dense_shapes"].list.shape
    for key, dtype, shape in zip(dense, node.attr["Tdense"].list.type, shapes, strict=False):
        yield key, tf.as_dtype(dtype), int(np.prod([max(dim.size, 1) for dim in shape.dim]))


def _strings(node: Any) -> list[str]:
    if node is None or node.op != "Const":
        return []
    return [text.decode() for text in node.attr["value"].tensor.string_val]


def _remark(reader: str, key: str, error: Exception) -> str:
    text = str(error).strip().splitlines() or [""]
    where = f" {key}" if key else ""
    return f"{reader}{where}: {type(error).__name__}: {text[0][:_SHOWN_CHARACTERS]}"


def _write(rows: Sequence[Row]) -> None:
    """Replaces the table of the page."""
    head, mark, _ = PAGE.read_text().partition(_MARK)
    if not mark:
        raise SystemExit(f"{PAGE} has no line {_MARK!r}.")
    table = "| model | TensorFlow | signatures | difference | remarks |\n|---|---|---|---|---|\n"
    PAGE.write_text(head + mark + "\n\n" + table + "".join(f"{row}\n" for row in rows))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directories", nargs="+", help="directories with SavedModels below them")
    parser.add_argument("--page", action="store_true", help="write docs/models.md")
    options = parser.parse_args(arguments)
    rows = []
    for directory, name in find_models(options.directories):
        for row in check(directory, name):
            print(row, flush=True)
            rows.append(row)
        jax.clear_caches()  # or the programs of all models stay in memory
    if options.page:
        _write(rows)
    bad = sum(not row.is_good for row in rows)
    print(f"{len(rows) - bad} of {len(rows)} MetaGraphs agree", file=sys.stderr)
    return int(bad > 0 or not rows)


if __name__ == "__main__":
    sys.exit(main())
