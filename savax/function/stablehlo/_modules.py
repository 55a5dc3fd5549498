"""StableHLO modules by way of ``jax.extend.mlir``: reading, describing, fixing their sizes.

The file is a program, too, that needs nothing else of savax. MLIR's reader can crash on damaged
bytes, and does so in a process of its own when bytes come from a file: see ``_checking``.
"""

from __future__ import annotations

import io
import json
import os
import resource
import sys
from typing import TYPE_CHECKING, Any, TypeAlias

from jax.extend import mlir
from jax.extend.mlir import ir, passmanager
from jax.extend.mlir.dialects import chlo, func, sdy, stablehlo

if TYPE_CHECKING:
    from collections.abc import Sequence

# Sizes (None where unknown) and the name of the element type.
Tensor: TypeAlias = tuple[list[int | None], str]

_MAIN = "main"
_INNER = "_module_main"

# Attributes that name a function.
_CALLEES = ("callee", "decomposition")

# What reading a module may take, as a process: seconds of CPU and bytes of address space.
_CPU_SECONDS = 120
_ADDRESS_SPACE = 16 << 30


def read_module(artifact: bytes) -> Any:
    """Returns the ``ir.Module`` of a portable artifact.

    The process may crash if the bytes weren't written by MLIR.

    Raises:
      ValueError: it is no portable artifact, or of a newer version.
    """
    context = ir.Context()
    stablehlo.register_dialect(context)
    chlo.register_dialect(context)
    sdy.register_dialect(context)
    try:
        return stablehlo.deserialize_portable_artifact(context, artifact)
    except Exception as error:
        raise ValueError(f"MLIR can't read it: {error}") from error


def write_module(module: Any, version: str | None = None) -> bytes:
    """Returns a module as a portable artifact.

    Args:
      module: an ``ir.Module``.
      version: of StableHLO; the newest that this JAX has by default.

    Raises:
      ValueError: the version lacks operations of the module.
    """
    target = version or stablehlo.get_current_version()
    try:
        artifact: bytes = mlir.serialize_portable_artifact(_bytecode(module), target, True)
    except Exception as error:
        raise ValueError(f"StableHLO {target} can't express it: {error}") from error
    return artifact


def strip_locations(module: Any) -> None:
    """Removes the lines of source code that operations come from."""
    with module.context:
        passmanager.PassManager.parse("builtin.module(strip-debuginfo)").run(module.operation)


def describe(module: Any) -> dict[str, Any]:
    """Returns what a module takes, returns and has in it.

    Returns:
      ``arguments`` and ``results`` of its main function as Tensors, the names of its operations,
      the targets of its ``custom_calls``, and the number of ``devices``.

    Raises:
      ValueError: it has no main function, or one of other things than ranked tensors.
    """
    ops, targets = set(), set()
    calls: dict[str, set[str]] = {}

    def visit(operation: Any, function: set[str]) -> Any:
        ops.add(operation.name)
        attributes = operation.attributes
        if operation.name == "stablehlo.custom_call":
            targets.add(attributes["call_target_name"].value)
        function.update(attributes[name].value for name in _CALLEES if name in attributes)
        return ir.WalkResult.ADVANCE

    for operation in module.body.operations:
        called = calls.setdefault(_symbol(operation), set())
        operation.operation.walk(lambda inner, called=called: visit(inner, called))
    _check_calls(calls)
    main = _main(module)
    attributes = module.operation.attributes
    name = "mhlo.num_partitions"
    return {
        "arguments": [_tensor(type_) for type_ in main.type.inputs],
        "results": [_tensor(type_) for type_ in main.type.results],
        "ops": sorted(ops),
        "custom_calls": sorted(targets),
        "devices": attributes[name].value if name in attributes else 1,
    }


def _symbol(operation: Any) -> str:
    attributes = operation.attributes
    name: str = attributes["sym_name"].value if "sym_name" in attributes else ""
    return name


def _check_calls(calls: dict[str, set[str]]) -> None:
    """Refuses functions that call themselves: what inlines them never ends."""
    waiting = {name: set(called) for name, called in calls.items()}
    while waiting:
        done = [name for name, called in waiting.items() if not called & waiting.keys()]
        if not done:
            raise ValueError(f"its functions call themselves: {', '.join(sorted(waiting))}")
        for name in done:
            del waiting[name]


def refined(module: Any, shapes: Sequence[Sequence[int]]) -> Any:
    """Returns a module for arguments of known shapes; all shapes in it are known.

    Args:
      module: the module; it is changed.
      shapes: of its last arguments; those before them are scalars.

    Raises:
      ValueError: the shapes don't fit the module, or leave shapes in it unknown.
    """
    with module.context, ir.Location.unknown():
        _wrap_main(module, shapes)
        if not module.operation.verify():
            raise ValueError("it doesn't fit the shapes of its arguments")
        found = mlir.refine_polymorphic_shapes(
            _bytecode(module), enable_shape_assertions=True, validate_static_shapes=True
        )
        return ir.Module.parse(found)


def _wrap_main(module: Any, shapes: Sequence[Sequence[int]]) -> None:
    """Puts a function of known shapes before the main function."""
    inner = _main(module)
    ir.SymbolTable.set_symbol_name(inner, _INNER)
    ir.SymbolTable.set_visibility(inner, "private")
    given, results = list(inner.type.inputs), list(inner.type.results)
    known = list(given)
    for position, shape in enumerate(shapes, start=len(given) - len(shapes)):
        known[position] = ir.RankedTensorType.get(list(shape), given[position].element_type)
    with ir.InsertionPoint(module.body):
        outer: Any = func.FuncOp(  # type: ignore[call-arg]
            _MAIN, (known, results), visibility="public"
        )
    with ir.InsertionPoint(outer.add_entry_block()):
        passed = [
            value if value.type == type_ else stablehlo.convert(type_, value)
            for value, type_ in zip(outer.arguments, given, strict=True)
        ]
        call = func.CallOp(results, ir.FlatSymbolRefAttr.get(_INNER), passed)
        func.ReturnOp(call.results)


def _main(module: Any) -> Any:
    symbols = ir.SymbolTable(module.operation)
    if _MAIN not in symbols or not isinstance(symbols[_MAIN], func.FuncOp):
        raise ValueError("it has no main function")
    return symbols[_MAIN]


def _tensor(type_: Any) -> Tensor:
    if not isinstance(type_, ir.RankedTensorType):
        raise ValueError(f"its main function takes or returns {type_}")
    sizes = [
        None if type_.is_dynamic_dim(axis) else type_.get_dim_size(axis)
        for axis in range(type_.rank)
    ]
    return sizes, str(type_.element_type)


def _bytecode(module: Any) -> bytes:
    written = io.BytesIO()
    module.operation.write_bytecode(written)
    return written.getvalue()


def _answer(request: dict[str, Any], artifact: bytes) -> tuple[dict[str, Any], bytes, bytes]:
    """Returns a module's description, the module written anew, and that for known shapes."""
    try:
        module = read_module(artifact)
        if not module.operation.verify():
            raise ValueError("it isn't valid")
        strip_locations(module)
        found = describe(module)
        clean = write_module(module)
    except Exception as error:
        return {"error": str(error)}, b"", b""
    try:
        fixed = refined(module, request["shapes"])
        return {**found, "fixed_results": describe(fixed)["results"]}, clean, write_module(fixed)
    except Exception as error:
        return {**found, "shape_error": str(error)}, clean, b""


def main() -> None:
    """Reads a request (a line of JSON) and a module; writes a line of JSON and two modules."""
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_SECONDS, _CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE, _ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Whatever libraries print goes elsewhere.
    output = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    header, _, artifact = sys.stdin.buffer.read().partition(b"\n")
    found, clean, fixed = _answer(json.loads(header), artifact)
    sizes = {"clean_bytes": len(clean), "fixed_bytes": len(fixed)}
    output.write(json.dumps(found | sizes).encode() + b"\n" + clean + fixed)
    output.close()


if __name__ == "__main__":
    main()
