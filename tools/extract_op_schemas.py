"""Writes savax/function/op_schemas.binpb from the op registry of the installed TensorFlow.

Run it to follow a new TensorFlow release:

    python tools/extract_op_schemas.py
"""

from __future__ import annotations

import sys
from pathlib import Path

from tensorflow.python.client import pywrap_tf_session

from savax.protos import OpDef, OpList, parse, serialize

TARGET = Path(__file__).resolve().parent.parent / "savax" / "function" / "op_schemas.binpb"


def registered_ops() -> OpList:
    """Returns every op that TensorFlow registers, by name, without its documentation."""
    buffer = pywrap_tf_session.TF_GetAllOpList()
    ops = parse(OpList, pywrap_tf_session.TF_GetBuffer(buffer), "TensorFlow's op registry")
    ordered = sorted(ops.op, key=lambda op: op.name)
    for op in ordered:
        _drop_documentation(op)
    return OpList(op=ordered)


def _drop_documentation(op: OpDef) -> None:
    op.ClearField("summary")
    op.ClearField("description")
    if op.HasField("deprecation"):
        op.deprecation.ClearField("explanation")
    for part in (*op.input_arg, *op.output_arg, *op.attr):
        part.ClearField("description")


def main() -> int:
    ops = registered_ops()
    data = serialize(ops)
    TARGET.write_bytes(data)
    print(f"{len(ops.op)} ops, {len(data)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
