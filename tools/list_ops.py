"""Writes docs/ops.md: what savax does with each TensorFlow op.

python tools/list_ops.py
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from pathlib import Path

import savax.function.ops  # noqa: F401 - registers the rules
from savax.function._op_schemas import OpSchema, known_ops, op_schema
from savax.function.ops._registry import EVALUATIONS, FOLDS, LOWERINGS, Evaluation, _PairRule
from savax.function.ops.internal_ops import internal_reason
from savax.function.ops.refused_ops import op_reason

_ROOT = Path(__file__).resolve().parent.parent
PAGE = _ROOT / "docs" / "ops.md"

_HEAD = """# TensorFlow ops

<!-- Written by tools/list_ops.py; change that instead. -->

What savax does with the ops of TensorFlow's registry. **{evaluated}** are evaluated on JAX;
{refused} more are refused, with a reason, as are {internal} that only TensorFlow's runtime and its
tests use, which aren't listed. A model with refused ops or with ops of its own loads, and the error
of the function that holds them lists all of them.

- *Written*: savax writes the op when it saves JAX functions.
- *Types* are those of TensorFlow's schema; kernels of a device may have fewer. Types that the
  schema fixes aren't listed.
- *Known*: operands whose values savax needs to know before it computes, since shapes depend on
  them. Under `jax.jit` of your own they have to be constants; otherwise savax runs the op by
  itself, between two compiled parts of the function.
- *Host*: the op runs in numpy, between compiled parts.
- *Folds*: of small known integers, the result is known too.

Random ops with a state (`RandomUniform` and others) start from the seeds of their nodes, as
TensorFlow's do when a model is loaded: call after call they give TensorFlow's numbers. Without
seeds the operating system gives one. A `tf.random.Generator` is a Variable, and continues from its
state. Under `jax.jit` and other transformations of your own, functions that move such states ahead
are refused like other assignments; `savax.function` and `savax.value_and_grad` run them.

The algorithms of random ops are Philox and the device's choice, which is Philox too. ThreeFry is
refused, as by TensorFlow's kernels for CPUs.
"""

# Calls of the graph builder that add an op.
_WRITING = re.compile(r'(?:\.op\(|in_float\(g,|in_dtype\(g,)\s*"(\w+)"')

_SHORT = {
    "bfloat16": "bf16",
    "bool": "bool",
    "complex64": "c64",
    "complex128": "c128",
    "float16": "f16",
    "float32": "f32",
    "float64": "f64",
    "string": "string",
}


def _written_ops() -> set[str]:
    """Returns the ops that lowerings name."""
    found = {row.rule.op for row in LOWERINGS.values() if isinstance(row.rule, _PairRule)}
    for path in (_ROOT / "savax" / "function").rglob("*.py"):
        found |= set(
            re.findall(r'(?:\.op\(|in_float\(g,|in_dtype\(g,)\s*"(\w+)"', path.read_text())
        )
    return found & set(known_ops())


def _types(schema: OpSchema) -> str:
    """Returns the types that the op's first input or output with a choice may have."""
    for arg in (*schema.inputs, *schema.outputs):
        if arg.type_attr is None:
            continue
        allowed = schema.attrs[arg.type_attr].allowed
        if allowed is None:
            return "all"
        names = [_SHORT.get(t.name, t.name) for t in allowed if not isinstance(t, str)]
        return ", ".join(name.replace("uint", "u").replace("int", "i") for name in names)
    return ""


def _notes(row: Evaluation) -> str:
    schema = op_schema(row.op)
    tensors = (*schema.inputs, *schema.outputs)
    has_strings = any(arg.type is not None and arg.type.name == "string" for arg in tensors)
    notes = []
    if row.on_host or has_strings:
        notes.append("host")
    if row.static:
        notes.append("known: " + ", ".join(f"`{name}`" for name in sorted(row.static)))
    if row.draws:
        notes.append("state of the node")
    if row.needs_64_bit:
        notes.append("computes in float64")
    if row.op in FOLDS:
        notes.append("folds")
    return "; ".join(notes)


def _family(row: Evaluation) -> str:
    module = sys.modules[getattr(row.rule, "__module__", type(row.rule).__module__)]
    if not module.__name__.startswith("savax.function.ops."):
        return "Regular ops"
    return (module.__doc__ or module.__name__).strip().splitlines()[0].rstrip(".")


def page() -> str:
    """Returns the text of the page."""
    written = _written_ops()
    reasons = {op: reason for op in known_ops() if (reason := op_reason(op)) is not None}
    refused = {op: reason for op, reason in reasons.items() if internal_reason(op) is None}
    families: dict[str, list[Evaluation]] = defaultdict(list)
    rows = [row for row in EVALUATIONS.values() if not row.is_custom]
    for row in rows:
        families[_family(row)].append(row)
    parts = [
        _HEAD.format(
            evaluated=len(rows), refused=len(refused), internal=len(reasons) - len(refused)
        )
    ]
    for family, rows in sorted(families.items()):
        parts.append(f"\n## {family}\n\n| op | written | types | notes |\n|---|---|---|---|\n")
        for row in sorted(rows, key=lambda row: row.op):
            mark = "yes" if row.op in written else ""
            parts.append(f"| `{row.op}` | {mark} | {_types(op_schema(row.op))} | {_notes(row)} |\n")
    parts.append("\n## Refused\n\n| reason | ops |\n|---|---|\n")
    by_reason: dict[str, list[str]] = defaultdict(list)
    for op, reason in refused.items():
        by_reason[reason].append(op)
    for reason, ops in sorted(by_reason.items()):
        parts.append(f"| {reason} | {', '.join(f'`{op}`' for op in ops)} |\n")
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())
