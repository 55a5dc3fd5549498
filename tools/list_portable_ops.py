"""Writes docs/portability_ops.md: which ops each consumer of SavedModels runs.

python tools/list_portable_ops.py
"""

from __future__ import annotations

from pathlib import Path

from savax.portability import ANY_DTYPE, CONDITIONS, CONSUMERS, REPLACED_OPS, support_table

PAGE = Path(__file__).resolve().parent.parent / "docs" / "portability_ops.md"

_HEAD = """# Ops of targets

<!-- Written by tools/list_portable_ops.py; change that instead. -->

For each op and program the types for which the op gave TensorFlow's results, measured with
{versions}.

- **other**: savax writes the op by others when it exports for a program that doesn't run it for the
  types at hand (where it has a form for them; else the export is refused).
- **all**: values of every type are passed on.
- \\*: under the condition below the table.
- Ops that aren't here weren't measured, and are refused.

What this means for an export is in [Portability](portability.md).
"""


def _types(dtypes: frozenset[str], op: str, consumer: str) -> str:
    mark = "\\*" if (consumer, op) in CONDITIONS else ""
    if ANY_DTYPE in dtypes:
        return f"all{mark}"
    names = sorted(dtypes, key=_ORDER.index)
    short = [_SHORT.get(n, n.replace("uint", "u").replace("int", "i")) for n in names]
    return ", ".join(short) + mark if short else "-"


_ORDER = (
    *("bool", "bfloat16", "float16", "float32", "float64", "complex64", "complex128", "int8"),
    *("int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
)
_SHORT = {
    "bfloat16": "bf16",
    "float16": "f16",
    "float32": "f32",
    "float64": "f64",
    "complex64": "c64",
    "complex128": "c128",
}


def page() -> str:
    """Returns the page."""
    table = support_table()
    versions = "; ".join(f"{CONSUMERS[name]}: {table.versions[name]}" for name in CONSUMERS)
    lines = [
        _HEAD.format(versions=versions),
        f"| op | {' | '.join(CONSUMERS)} | |",
        "|---" * (len(CONSUMERS) + 2) + "|",
    ]
    for op, row in table.ops.items():
        cells = [_types(row[consumer], op, consumer) for consumer in CONSUMERS]
        lines.append(f"| `{op}` | {' | '.join(cells)} | {'other' if op in REPLACED_OPS else ''} |")
    lines += ["", "## Conditions", "", "| op | program | if not met |", "|---|---|---|"]
    lines += [f"| `{op}` | {name} | {row.advice} |" for (name, op), row in CONDITIONS.items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    PAGE.write_text(page())


if __name__ == "__main__":
    main()
