"""Whether a call fits a signature, and in which places it doesn't."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax

from savax.function._arguments import FlatArguments, argument_paths, is_array, tensor_spec_of
from savax.trackable import Variable
from savax.types import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from savax.function._function_spec import Canonical, FunctionSpec


def aligned(given: FlatArguments, wanted: FlatArguments) -> FlatArguments:
    """Returns a call with the lists of numbers that stand for tensors as single leaves."""
    structure: Any = wanted.treedef
    if given.treedef == structure:
        return given
    call = jax.tree.unflatten(given.treedef, given.leaves)
    try:
        leaves = structure.flatten_up_to(call)
    except (ValueError, TypeError):
        return given
    arrays = tuple(
        i for i, leaf in enumerate(leaves) if isinstance(leaf, TensorSpec) or is_array(leaf)
    )
    return FlatArguments(structure, leaves, arrays)


def tensors_of(given: FlatArguments, wanted: FlatArguments) -> list[Any]:
    """Returns what stands for each tensor of a signature in a call that fits it."""
    leaves = aligned(given, wanted).leaves
    return [leaves[i] for i in wanted.tensors]


def fits(given: FlatArguments, wanted: FlatArguments, *, convert: bool) -> bool:
    """Whether a call has the structure, the specs and the Python values of a signature.

    Args:
      given: the call.
      wanted: the signature.
      convert: whether Python values in the place of tensors count too.
    """
    if convert:
        given = aligned(given, wanted)
    return given.treedef == wanted.treedef and next(_misfits(given, wanted, convert), None) is None


def call_differences(given: FlatArguments, wanted: FlatArguments, spec: FunctionSpec) -> list[str]:
    """Returns a line for each place where a call differs from a signature.

    Python values in the place of tensors count as tensors.

    Args:
      given: the call.
      wanted: the signature.
      spec: the parameters, for their names.
    """
    given = aligned(given, wanted)
    if given.treedef != wanted.treedef:
        return _structure_differences(wanted.treedef, given.treedef, spec)
    paths = argument_paths(wanted, spec)
    return [
        f"{paths[i]}: {_leaf_difference(wanted, given, i)}"
        for i in _misfits(given, wanted, convert=True)
    ]


def _misfits(given: FlatArguments, wanted: FlatArguments, convert: bool) -> Iterator[int]:
    """Yields the positions of leaves that differ, in calls of one structure."""
    tensors, given_tensors = set(wanted.tensors), set(given.tensors)
    for i, (want, have) in enumerate(zip(wanted.leaves, given.leaves, strict=True)):
        if i not in tensors:
            if i in given_tensors or type(want) is not type(have) or want != have:
                yield i
        elif i in given_tensors:
            found = tensor_spec_of(have)
            if not found.is_subtype_of(want) or found.name not in (None, want.name):
                yield i
        elif not convert:
            yield i


def _leaf_difference(wanted: FlatArguments, given: FlatArguments, i: int) -> str:
    want, have = wanted.leaves[i], given.leaves[i]
    if i not in wanted.tensors:
        shown = _short_spec(have) if i in given.tensors else repr(have)
        return f"the Python value {want!r} is part of the signature, got {shown}"
    found = tensor_spec_of(have)
    difference = f"wanted {_short_spec(want)}, got {_short_spec(found)}"
    if found.dtype is not want.dtype:
        return f"{difference}; convert it, for example by `x.astype({want.dtype.name!r})`"
    return f"{difference}{_shape_difference(want, found)}"


def _shape_difference(want: TensorSpec, found: TensorSpec) -> str:
    if found.is_subtype_of(want):
        return f"; the spec is named {found.name!r}, the signature's {want.name!r}"
    if want.shape is None or found.shape is None:
        return ""
    if len(want.shape) != len(found.shape):
        return f"; the rank is {len(found.shape)} instead of {len(want.shape)}"
    wrong = [
        f"axis {axis} is {'unknown' if size is None else size} instead of {wanted_size}"
        for axis, (wanted_size, size) in enumerate(zip(want.shape, found.shape, strict=True))
        if wanted_size not in (None, size)
    ]
    return f"; {', '.join(wrong)}"


def _structure_differences(wanted: Any, given: Any, spec: FunctionSpec) -> list[str]:
    (wanted_args, wanted_kwargs), (args, kwargs) = wanted.children(), given.children()
    differences = []
    pairs = list(zip(wanted_args.children(), args.children(), strict=False))
    for i, (want, have) in enumerate(pairs):
        differences += _node_differences(want, have, spec.parameter_of(i))
    for i in range(len(pairs), len(wanted_args.children())):
        differences.append(f"{spec.parameter_of(i)}: is missing")
    for i in range(len(pairs), len(args.children())):
        differences.append(f"{spec.parameter_of(i)}: is not in the signature")
    return differences + _dict_differences(wanted_kwargs, kwargs, "{}")


def _node_differences(wanted: Any, given: Any, path: str) -> list[str]:
    """Returns the differences of two nodes of structures; leaves don't differ here."""
    want, have = wanted.node_data(), given.node_data()
    if want is None and have is None:
        return []
    if want is None or have is None or want[0] is not have[0]:
        return [f"{path}: wanted {_kind(wanted)}, got {_kind(given)}"]
    if want[0] is dict:
        return _dict_differences(wanted, given, path + "[{!r}]")
    children, given_children = wanted.children(), given.children()
    if len(children) != len(given_children):
        return [f"{path}: wanted {len(children)} items, got {len(given_children)}"]
    differences = [
        line
        for i, pair in enumerate(zip(children, given_children, strict=True))
        for line in _node_differences(*pair, f"{path}[{i}]")
    ]
    if not differences and want[1] != have[1]:
        return [f"{path}: wanted a {want[0].__name__} with {want[1]}, got one with {have[1]}"]
    return differences


def _dict_differences(wanted: Any, given: Any, path: str) -> list[str]:
    wants = dict(zip(wanted.node_data()[1], wanted.children(), strict=True))
    haves = dict(zip(given.node_data()[1], given.children(), strict=True))
    return [
        *(f"{path.format(key)}: is missing" for key in wants if key not in haves),
        *(f"{path.format(key)}: is not in the signature" for key in haves if key not in wants),
        *(
            line
            for key in wants
            if key in haves
            for line in _node_differences(wants[key], haves[key], path.format(key))
        ),
    ]


def _kind(structure: Any) -> str:
    data = structure.node_data()
    if data is None:
        return "a single value"
    return "None" if data[0] is type(None) else f"a {data[0].__name__}"


def describe_call(call: Canonical) -> str:
    """Returns a call in one line, arrays by their specs."""
    args, kwargs = call
    parts = [describe_specs(arg) for arg in args]
    parts += [f"{name}={describe_specs(value)}" for name, value in kwargs.items()]
    return f"({', '.join(parts)})"


def describe_specs(structure: Any) -> str:
    """Returns a structure of specs, arrays and values in one line."""
    return str(
        jax.tree.map(_short_spec, structure, is_leaf=lambda leaf: isinstance(leaf, Variable))
    )


class _Text(str):
    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _short_spec(value: Any) -> Any:
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        spec = tensor_spec_of(value)
        dims = "..." if spec.dims is None else ", ".join(str(d) for d in spec.dims)
        return _Text(f"{spec.dtype.name}[{dims}]")
    return value
