"""Arguments and results as flat lists: which leaves are tensors, which are Python values."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from savax.errors import DTypeMismatchError, SignatureMismatchError
from savax.function._arrays import jax_dtype
from savax.function._function_spec import Canonical, FunctionSpec, as_spec
from savax.trackable import Variable
from savax.types import TensorSpec, as_dtype, as_shape, shapes_compatible

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Sequence

_ARRAY_TYPES = (np.ndarray, np.generic, jax.Array, Variable)


def is_array(value: Any) -> bool:
    """Whether a leaf is a tensor: an array, a Variable, or something that turns into an array."""
    return isinstance(value, _ARRAY_TYPES) or (
        hasattr(value, "__array__") and hasattr(value, "dtype") and hasattr(value, "shape")
    )


def _is_leaf(value: Any) -> bool:
    # Variables are pytree nodes for JAX; here they are arguments of their own.
    return isinstance(value, Variable)


@dataclasses.dataclass(frozen=True)
class FlatArguments:
    """A canonical call as a list.

    Attributes:
      treedef: its structure, leaves being tensors, specs and Python values.
      leaves: the leaves in order.
      tensors: positions of the leaves that are tensors or specs.
    """

    treedef: Any
    leaves: list[Any]
    tensors: tuple[int, ...]

    @property
    def tensor_leaves(self) -> list[Any]:
        """The leaves that are tensors or specs."""
        return [self.leaves[i] for i in self.tensors]

    def with_tensors(self, values: Sequence[Any]) -> Canonical:
        """Returns the canonical call with its tensors replaced."""
        leaves = list(self.leaves)
        for i, value in zip(self.tensors, values, strict=True):
            leaves[i] = value
        call: Canonical = jax.tree.unflatten(self.treedef, leaves)
        return call


def flatten_call(call: Canonical) -> FlatArguments:
    """Returns a canonical call as a list of leaves."""
    leaves, treedef = jax.tree.flatten(call, is_leaf=_is_leaf)
    leaves = [as_spec(leaf) for leaf in leaves]
    tensors = tuple(
        i for i, leaf in enumerate(leaves) if isinstance(leaf, TensorSpec) or is_array(leaf)
    )
    return FlatArguments(treedef, leaves, tensors)


def flatten_results(value: Any, path: str) -> tuple[list[Any], Any]:
    """Returns a function's result as arrays and its structure; Python numbers become arrays.

    So do sizes of unknown dims, and other objects that JAX takes for arrays (``__jax_array__``).

    Raises:
      SignatureMismatchError: a leaf is neither an array nor a Python number, string or bool.
    """
    leaves, treedef = jax.tree.flatten(value, is_leaf=_is_leaf)
    leaves = [
        jnp.asarray(leaf) if hasattr(leaf, "__jax_array__") and not is_array(leaf) else leaf
        for leaf in leaves
    ]
    wrong = [
        leaf
        for leaf in leaves
        if not is_array(leaf) and not isinstance(leaf, bool | int | float | complex | str | bytes)
    ]
    if wrong:
        raise SignatureMismatchError(
            f"{path} returns {', '.join(sorted({type(leaf).__name__ for leaf in wrong}))}; a "
            "function returns arrays, numbers, None, and lists, tuples and dicts of them."
        )
    return [leaf.value if isinstance(leaf, Variable) else leaf for leaf in leaves], treedef


def cache_key(flat: FlatArguments, spec: FunctionSpec) -> Hashable:
    """Returns what decides whether two calls share a trace.

    Tensors count by dtype and shape, Variables by spec and by which of them are the same object,
    Python values by type and value.

    Raises:
      SignatureMismatchError: a Python value can't be hashed.
    """
    variables: dict[int, int] = {}
    keys: list[Hashable] = []
    tensors = set(flat.tensors)
    for i, leaf in enumerate(flat.leaves):
        if isinstance(leaf, Variable):
            alias = variables.setdefault(id(leaf), len(variables))
            keys.append(("variable", leaf.dtype.name, leaf.shape, alias))
        elif isinstance(leaf, TensorSpec):
            keys.append((leaf.dtype.name, leaf.dims, leaf.name))
        elif i in tensors:
            keys.append((str(leaf.dtype), leaf.shape))
        else:
            keys.append(_python_key(leaf, spec))
    return (flat.treedef, tuple(keys))


def _python_key(leaf: Any, spec: FunctionSpec) -> Hashable:
    try:
        hash(leaf)
    except TypeError as error:
        raise SignatureMismatchError(
            f"{spec.name}{spec.describe()} got a {type(leaf).__name__} that can't be hashed. "
            "Arguments are arrays, hashable Python values, and lists, tuples and dicts of them."
        ) from error
    return (type(leaf), leaf)


def tensor_spec_of(value: Any) -> TensorSpec:
    """Returns the spec of an array, Variable or spec: exact but for unknown dims of a trace."""
    return value if isinstance(value, TensorSpec) else TensorSpec(_known_shape(value), value.dtype)


def argument_names(flat: FlatArguments, spec: FunctionSpec) -> list[str]:
    """Returns a graph name for each tensor argument: its spec's name, else its parameter's.

    Names are made legal and unique, the second ``x`` being ``x_1``.
    """
    return unique_names(own or _parameter_name(path, spec) for own, path in _tensor_paths(flat))


def structured_names(flat: FlatArguments, spec: FunctionSpec) -> list[str]:
    """Returns the name of each tensor in the structured signature: own name, else its path."""
    return [
        own or "_".join([_parameter_name(path, spec), *map(_key_text, path[2:])])
        for own, path in _tensor_paths(flat)
    ]


def argument_paths(flat: FlatArguments, spec: FunctionSpec) -> list[str]:
    """Returns the place of each leaf as a user writes it: ``x['ids'][0]``."""
    return [
        _parameter_name(path, spec) + jax.tree_util.keystr(path[2:]) for path in _leaf_paths(flat)
    ]


def _tensor_paths(flat: FlatArguments) -> Iterator[tuple[str | None, Sequence[Any]]]:
    """Yields the name that each tensor argument's spec gives it, and its place in the call."""
    paths = _leaf_paths(flat)
    for i in flat.tensors:
        leaf = flat.leaves[i]
        yield leaf.name if isinstance(leaf, TensorSpec) else None, paths[i]


def _leaf_paths(flat: FlatArguments) -> list[tuple[Any, ...]]:
    """Returns the place in the call of each leaf."""
    paths, _ = jax.tree_util.tree_flatten_with_path(
        jax.tree.unflatten(flat.treedef, range(len(flat.leaves)))
    )
    return [path for path, _ in paths]


def _parameter_name(path: Sequence[Any], spec: FunctionSpec) -> str:
    kind, parameter = path[0].idx, path[1]
    return spec.parameter_of(parameter.idx) if kind == 0 else str(parameter.key)


def _key_text(entry: Any) -> str:
    for attribute in ("key", "idx", "name"):
        if hasattr(entry, attribute):
            return str(getattr(entry, attribute))
    return str(entry)


def result_specs(leaves: Sequence[TensorSpec], treedef: Any) -> Any:
    """Returns structured outputs: specs named by their place, as TensorFlow names them."""
    paths, _ = jax.tree_util.tree_flatten_with_path(jax.tree.unflatten(treedef, leaves))
    named = []
    for path, leaf in paths:
        parts = [
            f"tensor_{entry.idx}" if hasattr(entry, "idx") and len(path) == 1 else _key_text(entry)
            for entry in path
        ]
        named.append(TensorSpec(leaf.dims, leaf.dtype, "_".join(parts) or "unknown"))
    return jax.tree.unflatten(treedef, named)


_ILLEGAL = re.compile(r"[^A-Za-z0-9_.\\-]")


def legal_name(name: str) -> str:
    """Returns a name that TensorFlow accepts for a graph's input or node."""
    cleaned = _ILLEGAL.sub("_", name).lstrip("_-\\/")
    return cleaned or "arg"


def unique_names(names: Iterable[str]) -> list[str]:
    """Returns legal names that differ from one another, in lower and upper case alike."""
    taken: set[str] = set()
    result = []
    for name in names:
        base = unique = legal_name(name)
        count = 0
        while unique.lower() in taken:
            count += 1
            unique = f"{base}_{count}"
        taken.add(unique.lower())
        result.append(unique)
    return result


def convert_argument(value: Any, spec: TensorSpec, what: str) -> Any:
    """Returns a value as an array that fits a spec.

    Python numbers and lists are converted; arrays must have the spec's dtype already.

    Raises:
      DTypeMismatchError: an array of another dtype.
      SignatureMismatchError: a shape that doesn't fit, or a value that is no array.
    """
    if isinstance(value, Variable):
        value = value.value
    if not is_array(value):
        try:
            value = np.asarray(value, dtype=spec.dtype.numpy_dtype)
        except (TypeError, ValueError, OverflowError) as error:
            raise SignatureMismatchError(
                f"{what} takes {spec}, got {value!r}, which can't be converted: {error}"
            ) from error
    dtype = as_dtype(value.dtype)
    # Where JAX has no 64-bit types, its arrays stand for them in the type that it has instead.
    stands_for_it = isinstance(value, jax.Array) and value.dtype == jax_dtype(spec.dtype)
    if dtype is not spec.dtype and not stands_for_it:
        raise DTypeMismatchError(
            f"{what} takes {spec.dtype.name}, got {dtype.name}. Convert it first, for example by "
            f"`x.astype({spec.dtype.name!r})`."
        )
    if spec.shape is not None and not shapes_compatible(spec.shape, _known_shape(value)):
        raise SignatureMismatchError(f"{what} takes {spec}, got the shape {tuple(value.shape)}.")
    return value


def _known_shape(value: Any) -> tuple[int | None, ...] | None:
    if value.shape is None:
        return None
    # Under a trace a size may be an unknown dim of JAX.
    return as_shape([size if isinstance(size, int) else None for size in value.shape])
