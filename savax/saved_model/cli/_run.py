"""``savax run``: a signature on given inputs. Only this command loads JAX."""

from __future__ import annotations

import dataclasses
import os
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

import savax.saved_model as saved_model
from savax.errors import InvalidArgumentError, KeyNotFoundError, PublishError, SavaxError
from savax.saved_model._constants import DEFAULT_SERVING_SIGNATURE_DEF_KEY
from savax.saved_model.cli._inputs import InputArguments, read_inputs
from savax.saved_model.cli._tables import count_text
from savax.saved_model.cli._values import tensor_text
from savax.saved_model.cli._whole_files import whole_file
from savax.types import as_dtype

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from savax.types import PathLike

Array = np.ndarray[Any, Any]

# What the computation of a model may raise, beside savax's own errors.
_FAILURES = (TypeError, ValueError, ArithmeticError, LookupError, RuntimeError, MemoryError)
_MAX_SECONDS_TEXT = 1.0


@dataclasses.dataclass(frozen=True)
class RunArguments:
    """What to run, and how.

    Attributes:
      inputs: what the command line says about inputs.
      tags: of the graph; None for a model's only one.
      signature: its key; None for ``serving_default``, or the only one.
      batch: rows of the inputs that run at a time; None for all.
      out_dir: directory for the outputs; None to print them.
      overwrite: whether files there may be replaced.
      repeat: how often to run once more, for the time; 0 for no times.
    """

    inputs: InputArguments
    tags: tuple[str, ...] | None = None
    signature: str | None = None
    batch: int | None = None
    out_dir: str | None = None
    overwrite: bool = False
    repeat: int = 0


@dataclasses.dataclass(frozen=True)
class TimeReport:
    """How long calls took, in seconds of wall time.

    Attributes:
      load_seconds: loading the model.
      first_seconds: the first call, with its compilation.
      median_seconds: the median of the others.
      fastest_seconds: the fastest of them.
      repeat: how many others there were.
    """

    load_seconds: float
    first_seconds: float
    median_seconds: float
    fastest_seconds: float
    repeat: int


@dataclasses.dataclass(frozen=True)
class OutputReport:
    """An output.

    Attributes:
      name: its key.
      dtype: TensorFlow's name of the element type.
      shape: its sizes.
      file: where it was written; None if it wasn't.
      value: its elements as nested lists; None if they were written to a file. Strings that aren't
        UTF-8 have their other bytes escaped.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: str | None
    value: Any


@dataclasses.dataclass(frozen=True)
class RunReport:
    """What a signature gave.

    Attributes:
      path: of the model.
      signature: its key.
      outputs: sorted by name.
      times: None if they weren't asked for.
    """

    path: str
    signature: str
    outputs: tuple[OutputReport, ...]
    times: TimeReport | None


def run_model(export_dir: PathLike, arguments: RunArguments) -> tuple[RunReport, dict[str, Array]]:
    """Loads a model and calls a signature.

    Args:
      export_dir: directory of the model.
      arguments: what to run.

    Returns:
      The report, and the outputs by name.

    Raises:
      NotFoundError: there is no model, or no file of an input.
      KeyNotFoundError: there is no such signature or input.
      InvalidArgumentError: inputs are missing or don't fit, or the computation fails.
      PublishError: an output's file exists.
      UnsupportedOpError: the signature has operations that savax doesn't evaluate.
    """
    path = os.fspath(export_dir)
    load = saved_model.load  # the first use loads JAX
    start = time.perf_counter()
    model = load(path, arguments.tags)
    load_seconds = time.perf_counter() - start
    key = _signature_key(model.signatures, arguments.signature)
    signature = model.signatures[key]
    specs = {spec.name: spec for spec in signature.inputs}
    inputs = read_inputs(arguments.inputs, specs)
    inputs = {**model.signatures.defaults.get(key, {}), **inputs}
    if missing := [f"{n!r}: {_spec_text(spec)}" for n, spec in specs.items() if n not in inputs]:
        raise InvalidArgumentError(f"Inputs of {key!r} are missing: {', '.join(missing)}.")
    files = _output_files(arguments, [str(name) for name in signature.structured_outputs])

    def call() -> dict[str, Array]:
        return _batched(signature, [inputs[name] for name in specs], arguments.batch)

    outputs, times = _timed(call, arguments.repeat, load_seconds, key)
    for name, file in files.items():
        _write_array(file, outputs[name], overwrite=arguments.overwrite)
    reports = tuple(
        OutputReport(
            name,
            _dtype_name(array),
            array.shape,
            files.get(name),
            None if name in files else _plain(array),
        )
        for name, array in sorted(outputs.items())
    )
    return RunReport(path, key, reports, times), outputs


def _signature_key(signatures: Mapping[str, Any], wanted: str | None) -> str:
    known = ", ".join(map(repr, sorted(signatures))) or "none"
    if wanted is not None:
        if wanted not in signatures:
            raise KeyNotFoundError(f"There is no signature {wanted!r}; there are: {known}.")
        return wanted
    if DEFAULT_SERVING_SIGNATURE_DEF_KEY in signatures:
        return DEFAULT_SERVING_SIGNATURE_DEF_KEY
    if len(signatures) == 1:
        return next(iter(signatures))
    raise KeyNotFoundError(f"Choose a signature with --signature; there are: {known}.")


def _spec_text(spec: Any) -> str:
    return tensor_text(spec.dtype.name, spec.shape)


def _timed(
    call: Callable[[], dict[str, Array]], repeat: int, load_seconds: float, key: str
) -> tuple[dict[str, Array], TimeReport | None]:
    try:
        start = time.perf_counter()
        outputs = call()
        seconds = [time.perf_counter() - start]
        for _ in range(repeat):
            start = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - start)
    except SavaxError:
        raise
    except _FAILURES as error:
        reason = str(error).strip().split("\n", 1)[0] or type(error).__name__
        raise InvalidArgumentError(f"The signature {key!r} fails: {reason}") from error
    if not repeat:
        return outputs, None
    others = sorted(seconds[1:])
    median = float(np.median(others))
    return outputs, TimeReport(load_seconds, seconds[0], median, others[0], repeat)


def _batched(signature: Any, inputs: list[Array], batch: int | None) -> dict[str, Array]:
    """Returns the outputs of a call, or of one call for each batch of rows, put together."""
    if batch is None:
        return _called(signature, inputs)
    counts = {array.shape[0] if array.ndim else None for array in inputs}
    if len(counts) != 1 or None in counts:
        raise InvalidArgumentError(
            "Only inputs that have as many rows as each other can run in batches."
        )
    (count,) = counts
    assert count is not None
    starts = range(0, count, batch) if count else [0]
    parts = [_called(signature, [array[s : s + batch] for array in inputs]) for s in starts]
    for name in parts[0]:
        for s, part in zip(starts, parts, strict=True):
            rows = min(batch, count - s)
            if part[name].ndim == 0 or part[name].shape[0] != rows:
                raise InvalidArgumentError(
                    f"The output {name!r} doesn't have a row for each row of the inputs, so "
                    "batches of it can't be put together."
                )
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _called(signature: Any, inputs: list[Array]) -> dict[str, Array]:
    names = signature.argument_names
    outputs = signature(**dict(zip(names, inputs, strict=True)))
    return {str(name): np.asarray(value) for name, value in outputs.items()}


def _output_files(arguments: RunArguments, names: Iterable[str]) -> dict[str, str]:
    """Returns the file of each output; nothing has run when one is in the way."""
    if arguments.out_dir is None:
        return {}
    # Names are the model's: escaped, they can't lead out of the directory.
    files = {
        name: os.path.join(arguments.out_dir, f"{quote(name, safe=' []:')}.npy") for name in names
    }
    taken = [file for file in files.values() if os.path.lexists(file)]
    if taken and not arguments.overwrite:
        raise PublishError(f"{', '.join(map(repr, taken))} exists; --overwrite replaces it.")
    os.makedirs(arguments.out_dir, exist_ok=True)
    return files


def _write_array(file: str, array: Array, *, overwrite: bool) -> None:
    """Writes a file as a whole or not at all."""
    storable = _storable(array, os.path.basename(file))
    with whole_file(file, overwrite=overwrite) as stream:
        np.save(stream, storable, allow_pickle=False)


def _storable(array: Array, name: str) -> Array:
    """Returns an array of a type that numpy's files know, with the same values."""
    if array.dtype == object:
        if any(item.endswith(b"\0") for item in array.reshape(-1)):
            raise InvalidArgumentError(
                f"{name}: strings that end with a zero byte can't be written to an .npy file; "
                "print them with --json."
            )
        return array.astype("S")
    if array.dtype.kind in "biufc" and array.dtype.isbuiltin == 1:
        return array
    return array.astype(np.int8 if as_dtype(array.dtype).is_integer else np.float32)


def _dtype_name(array: Array) -> str:
    return "string" if array.dtype == object else as_dtype(array.dtype).name


def _plain(array: Array) -> Any:
    if array.dtype == object:
        texts = np.empty(array.size, object)
        texts[:] = [item.decode("utf-8", "backslashreplace") for item in array.reshape(-1)]
        return texts.reshape(array.shape).tolist()
    if array.dtype.kind == "c":
        return np.stack([array.real, array.imag], axis=-1).tolist()
    if array.dtype.kind in "biuf" and array.dtype.isbuiltin == 1:
        return array.tolist()
    return _storable(array, "").tolist()


def run_lines(report: RunReport, outputs: Mapping[str, Array]) -> Iterator[str]:
    """Yields the report for people; without ends, as numpy prints large arrays."""
    for output in report.outputs:
        place = "" if output.file is None else f" in {output.file}"
        yield f"{output.name}: {tensor_text(output.dtype, output.shape)}{place}"
        if output.file is None:
            text = np.array2string(outputs[output.name], separator=", ")
            yield from (f"  {line}" for line in text.splitlines())
    if times := report.times:
        yield ""
        yield f"loading     {_seconds(times.load_seconds)}"
        yield f"first call  {_seconds(times.first_seconds)}"
        yield (
            f"next calls  {_seconds(times.median_seconds)} median, "
            f"{_seconds(times.fastest_seconds)} fastest of {count_text(times.repeat, 'call')}"
        )


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= _MAX_SECONDS_TEXT else f"{seconds * 1e3:.3g} ms"
