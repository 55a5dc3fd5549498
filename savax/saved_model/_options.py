"""Options of saving and loading; what savax doesn't do is refused, not ignored."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from savax.errors import InvalidArgumentError
from savax.function import (
    Backend,
    ConcreteFunction,
    Function,
    StableHLO,
    checked_fallback,
    checked_lowering,
    chosen_backend,
)
from savax.portability import TENSORFLOW, checked_target
from savax.saved_model._variable_policy import VariablePolicy
from savax.trackable.checkpoint._io_device import check_io_device
from savax.trackable.checkpoint._sharding_policies import checked_callback

if TYPE_CHECKING:
    from savax.trackable.checkpoint import ShardingCallback


@dataclasses.dataclass(frozen=True)
class SaveOptions:
    """How ``save`` writes a model; the fields and their order are TensorFlow's first.

    Attributes:
      namespace_whitelist: the namespaces of custom ops (``namespace>Op``) that the model may use;
        an empty list allows none, None all.
      save_debug_info: whether to write which lines of the code that was traced the nodes come from.
        The file has the paths of source files.
      function_aliases: an alias for all concrete functions of a function: alias to a Function, a
        ConcreteFunction, or several of those. Recorded in the model's ``function_aliases``.
      experimental_debug_stripper: whether nodes that check or print (``Assert``, ``PrintV2``,
        ``CheckNumerics``, ``Print``) are replaced by such that don't.
      experimental_io_device: a device of this host, as files are written by this process.
      experimental_variable_policy: a ``saved_model.experimental.VariablePolicy`` or its name: keeps
        with each Variable the device that has its value.
      experimental_custom_gradients: whether custom gradients are saved.
      experimental_image_format: whether to write ``saved_model.cpb`` instead of
        ``saved_model.pb``. What is beyond the 2 GiB of the latter is written so anyway.
      experimental_skip_saver: leaves out the parts of the graph that save and restore. Only
        Python's loaders read the model's Variables then.
      experimental_sharding_callback: decides what each data file of the Variables holds, such as a
        ``train.experimental.MaxShardSizePolicy``.
      extra_tags: tags beside ``"serve"``; loading by tags then needs all of them.
      as_text: whether to write ``saved_model.pbtxt`` instead of ``saved_model.pb``. It is for
        people to read, and several times as large.
      lowering: what functions without a wish of their own are written as: ``"ops"``, operations of
        TensorFlow; ``"stablehlo"`` or a ``StableHLO``, one compiled module each.
      fallback: what becomes of uses of JAX primitives that have no operations, in functions without
        a wish of their own: ``"refuse"``; ``"stablehlo"`` or a ``StableHLO``, a module each.
      target: the program that has to run the signatures: ``"tensorflow"``, ``"litert"``,
        ``"tfjs"``, ``"onnx"``, ``"openvino"``, or ``"portable"`` for all of them. Functions that
        were given a target of their own keep it.

    Raises:
      TypeError: an alias names no function, or ``namespace_whitelist`` is no list.
      InvalidArgumentError: the callback is no ``train.experimental.ShardingCallback``, or another
        value isn't what the field takes.
      UnsupportedOptionError: the IO device is another host's.
    """

    namespace_whitelist: list[str] | None = None
    save_debug_info: bool = False
    function_aliases: Mapping[str, Any] | None = None
    experimental_debug_stripper: bool = False
    experimental_io_device: str | None = None
    experimental_variable_policy: VariablePolicy | str | None = None
    experimental_custom_gradients: bool = True
    experimental_image_format: bool = False
    experimental_skip_saver: bool = False
    experimental_sharding_callback: ShardingCallback | None = None
    extra_tags: Iterable[str] | None = None
    as_text: bool = False
    lowering: StableHLO | str = "ops"
    fallback: StableHLO | str = "refuse"
    target: str = TENSORFLOW

    def __post_init__(self) -> None:
        checked_target(self.target)
        if self.experimental_image_format and self.as_text:
            raise InvalidArgumentError("A model is written as text or as an image, not as both.")
        checked_lowering(self.lowering)
        checked_fallback(self.fallback)
        _check_namespaces(self.namespace_whitelist)
        check_io_device(self.experimental_io_device)
        policy = VariablePolicy.from_obj(self.experimental_variable_policy)
        object.__setattr__(self, "experimental_variable_policy", policy)
        checked_callback(self.experimental_sharding_callback)
        for alias, value in (self.function_aliases or {}).items():
            _aliased(alias, value)
        if isinstance(self.extra_tags, str):
            raise InvalidArgumentError(
                f"extra_tags is a list of tags, got the string {self.extra_tags!r}."
            )

    def backend(self) -> Backend:
        """Returns what functions without a wish of their own are written as."""
        return chosen_backend(checked_lowering(self.lowering), checked_fallback(self.fallback))

    def aliases(self) -> dict[str, list[Function | ConcreteFunction]]:
        """Returns the functions of each alias."""
        return {
            alias: _aliased(alias, value) for alias, value in (self.function_aliases or {}).items()
        }


def _aliased(alias: str, value: Any) -> list[Function | ConcreteFunction]:
    functions = [value] if isinstance(value, Function | ConcreteFunction) else value
    is_list = isinstance(functions, Iterable)
    if not is_list or not all(isinstance(f, Function | ConcreteFunction) for f in functions):
        raise InvalidAliasError(
            f"function_aliases[{alias!r}] is a savax.function, a concrete function or a list of "
            f"them, got {value!r}."
        )
    return list(functions)


def _check_namespaces(namespaces: Any) -> None:
    if namespaces is None:
        return
    if not isinstance(namespaces, list):
        raise WhitelistTypeError(
            f"namespace_whitelist is a list of namespaces, got {namespaces!r}."
        )
    wrong = [name for name in namespaces if not isinstance(name, str)]
    if wrong:
        raise InvalidArgumentError(f"namespace_whitelist has names only, got {wrong[0]!r}.")


class WhitelistTypeError(InvalidArgumentError, TypeError):
    """A list of namespaces that is no list."""


class InvalidAliasError(InvalidArgumentError, TypeError):
    """An alias that names no function."""


@dataclasses.dataclass(frozen=True)
class LoadOptions:
    """How ``load`` reads a model; the fields and their order are TensorFlow's.

    Attributes:
      allow_partial_checkpoint: whether Variables without a value in the checkpoint are accepted;
        reading one is an error until a value is assigned.
      experimental_io_device: a device of this host, as files are read by this process.
      experimental_skip_checkpoint: whether values aren't read at all.
      experimental_variable_policy: a ``saved_model.experimental.VariablePolicy`` or its name: puts
        Variables on the devices that were saved with them, where this machine has them.
      experimental_load_function_aliases: whether the root gets ``function_aliases``.

    Raises:
      InvalidArgumentError: the policy is none.
      UnsupportedOptionError: the IO device is another host's.
    """

    allow_partial_checkpoint: bool = False
    experimental_io_device: str | None = None
    experimental_skip_checkpoint: bool = False
    experimental_variable_policy: VariablePolicy | str | None = None
    experimental_load_function_aliases: bool = False

    def __post_init__(self) -> None:
        check_io_device(self.experimental_io_device)
        policy = VariablePolicy.from_obj(self.experimental_variable_policy)
        object.__setattr__(self, "experimental_variable_policy", policy)
