"""Measures which TensorFlow ops other readers run; writes savax/portability/support.json.

    python tools/portability/measure.py DIRECTORY [--ops Erf,Conv2D] [--consumers litert,tfjs]

DIRECTORY has the readers, as ``tools/consumer_environments.py`` makes them. Each op and dtype is a
model of one op, written and run by TensorFlow; a reader runs the op for the dtype if it gives the
same results. What isn't measured keeps its row. All of it takes hours, most of them tf2onnx.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import array_probes
import ml_dtypes
import numpy as np
import probes
import tensorflow as tf
from probes import Probe

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "savax" / "portability" / "support.json"
sys.path.insert(0, str(ROOT))

from tests.consumers.readers import OTHERS, Job, Outcome, run  # noqa: E402

FAMILIES = (
    *(probes.elementwise, probes.behaviour, probes.shapes, probes.casts),
    *(array_probes.reductions, array_probes.indexing, array_probes.products),
    *(array_probes.matrices, array_probes.complex_numbers),
)

# All that TF.js computes with; 64-bit types become 32-bit ones there, others don't wrap.
_TFJS = frozenset({"float16", "float32", "float64", "int32", "int64", "bool", "complex64"})

_TOLERANCE = {"float16": 1e-2}


class Trial(NamedTuple):
    """A model of a probe.

    Attributes:
      probe: the probe.
      dtype: that it was written with.
      path: of the model.
      inputs: arrays by name.
      outputs: TensorFlow's results by name.
    """

    probe: Probe
    dtype: str
    path: Path
    inputs: dict[str, Any]
    outputs: dict[str, Any]


def write(probe: Probe, dtype: str, path: Path) -> Trial | None:
    """Writes the model of a probe; returns None if TensorFlow doesn't run it."""
    dtypes = [given or dtype for given in probe.inputs or ("",) * len(probe.shapes)]
    names = "abc"[: len(dtypes)]
    arrays = [
        values(given, shape, probe.domain, seed)
        for seed, (given, shape) in enumerate(zip(dtypes, probe.shapes, strict=True))
    ]
    signature = [
        tf.TensorSpec((None, *shape[1:]) if shape else (), given, name)
        for shape, given, name in zip(probe.shapes, dtypes, names, strict=True)
    ]

    def function(*inputs: Any) -> dict[str, Any]:
        results = probe.build(dtype, *inputs)
        results = results if isinstance(results, list) else [results]
        return {f"result_{i}": result for i, result in enumerate(results)}

    module = tf.Module()
    try:
        module.function = tf.function(function, input_signature=signature, autograph=False)
        outputs = {k: v.numpy() for k, v in module.function(*map(tf.constant, arrays)).items()}
        tf.saved_model.save(module, str(path), module.function.get_concrete_function())
    except (tf.errors.OpError, TypeError, ValueError):
        return None
    return Trial(probe, dtype, path, dict(zip(names, arrays, strict=True)), outputs)


def values(dtype: str, shape: tuple[int, ...], domain: tuple[float, float], seed: int) -> Any:
    """Returns random numbers of a dtype inside a domain."""
    rng = np.random.default_rng(seed)
    kind, (low, high) = tf.as_dtype(dtype), domain
    if kind.is_bool:
        return rng.uniform(size=shape) > 0.5
    if kind.is_integer:
        low = int(np.ceil(max(low, 0) if kind.is_unsigned else low))
        return rng.integers(low, max(int(high), low + 1), shape).astype(kind.as_numpy_dtype)
    numbers = rng.uniform(low, high, shape)
    if kind.is_complex:
        numbers = numbers + 1j * rng.uniform(low, high, shape)
    return numbers.astype(kind.as_numpy_dtype)


def is_right(trial: Trial, outcome: Outcome) -> bool:
    """Whether a reader's results are TensorFlow's."""
    if outcome.error is not None:
        return False
    (got,) = outcome.outputs
    types = (trial.dtype, *trial.probe.types)
    tolerance = max(_TOLERANCE.get(dtype, 1e-4) for dtype in types)
    for name, want in trial.outputs.items():
        if name not in got or got[name].shape != want.shape:
            return False
        if want.dtype.kind in "biu":
            if not np.array_equal(got[name].astype(np.float64), want.astype(np.float64)):
                return False
        elif not np.allclose(got[name], want, rtol=tolerance, atol=tolerance, equal_nan=True):
            return False
    return True


def measure(consumer: str, trials: Sequence[Trial], directory: str) -> dict[str, dict[str, bool]]:
    """Returns for each op the dtypes that were tried, and whether all results were right."""
    jobs = [Job(trial.path, [trial.inputs]) for trial in trials]
    verdicts: dict[str, dict[str, bool]] = {}
    for trial, outcome in zip(trials, run(consumer, jobs, directory, limit=20_000), strict=True):
        right = is_right(trial, outcome)
        for op in trial.probe.judges or (trial.probe.op,):
            for dtype in trial.probe.types or (trial.dtype,):
                allowed = consumer != "tfjs" or dtype in _TFJS or op == "Cast"
                known = verdicts.setdefault(op, {}).get(dtype, True)
                verdicts[op][dtype] = known and right and allowed
    return verdicts


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("directory")
    parser.add_argument("--ops", default="")
    parser.add_argument("--consumers", default=",".join(OTHERS))
    arguments = parser.parse_args()
    ops = set(filter(None, arguments.ops.split(",")))
    found = [probe for family in FAMILIES for probe in family() if not ops or probe.op in ops]
    table = json.loads(TABLE.read_text())
    with tempfile.TemporaryDirectory() as folder:
        trials = []
        for number, probe in enumerate(found):
            for dtype in probe.dtypes:
                trial = write(probe, dtype, Path(folder) / f"{number}_{dtype}")
                fed = trial is not None and all(
                    array.dtype != ml_dtypes.bfloat16 for array in trial.inputs.values()
                )
                trials += [trial] if fed else []
        for consumer in arguments.consumers.split(","):
            for op, row in measure(consumer, trials, arguments.directory).items():
                right = " ".join(dtype for dtype in sorted(row) if row[dtype])
                table["ops"].setdefault(op, {})[consumer] = right
    rows = (f"  {json.dumps(op)}: {json.dumps(row)}" for op, row in sorted(table["ops"].items()))
    head = f'{{\n "versions": {json.dumps(table["versions"])},\n "ops": {{\n'
    TABLE.write_text(head + ",\n".join(rows) + "\n }\n}\n")


if __name__ == "__main__":
    main()
