"""Reading a checkpoint by keys, without objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from savax.trackable.bundle import BundleReader
from savax.trackable.checkpoint._prefix import resolve_prefix

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from savax.types import DType, PathLike


class CheckpointReader:
    """Names, shapes, dtypes and values of a checkpoint's tensors.

    Args:
      path: see ``load_checkpoint``.
    """

    def __init__(self, path: PathLike) -> None:
        self.prefix = resolve_prefix(path)
        self._bundle = BundleReader(self.prefix)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the files."""
        self._bundle.close()

    def has_tensor(self, tensor_str: str) -> bool:
        """Whether the checkpoint has a tensor of this key."""
        return tensor_str in self._bundle

    def get_tensor(self, tensor_str: str) -> Any:
        """Returns a tensor's value.

        Returns:
          A numpy array of the stored dtype and shape; strings are bytes in an object array.
          A scalar is a numpy scalar, or bytes.

        Raises:
          KeyNotFoundError: there is no such key; the message lists the nearest.
        """
        return self._bundle.read(tensor_str)[()]

    def get_variable_to_shape_map(self) -> dict[str, list[int]]:
        """Returns the tensors' shapes by key."""
        return {key: list(self._bundle.entry(key).shape) for key in self._bundle}

    def get_variable_to_dtype_map(self) -> dict[str, DType]:
        """Returns the tensors' dtypes by key."""
        return {key: self._bundle.entry(key).dtype for key in self._bundle}

    def debug_string(self) -> str:
        """Returns a line for each tensor: key, dtype and shape."""
        dtypes = self.get_variable_to_dtype_map()
        shapes = self.get_variable_to_shape_map()
        return "\n".join(f"{key} ({dtypes[key].name}) {shapes[key]}" for key in sorted(shapes))


def load_checkpoint(ckpt_dir_or_file: PathLike) -> CheckpointReader:
    """Opens a checkpoint for reading by keys.

    Args:
      ckpt_dir_or_file: a prefix, an index file, a directory with a state file (its latest
        checkpoint), or a SavedModel directory.

    Raises:
      NotFoundError: there is no such checkpoint.
      CorruptBundleError: its index breaks the format.
    """
    return CheckpointReader(ckpt_dir_or_file)


def list_variables(ckpt_dir_or_file: PathLike) -> list[tuple[str, list[int]]]:
    """Returns keys and shapes of a checkpoint's tensors, sorted; see ``load_checkpoint``."""
    with CheckpointReader(ckpt_dir_or_file) as reader:
        return sorted(reader.get_variable_to_shape_map().items())


def load_variable(ckpt_dir_or_file: PathLike, name: str) -> Any:
    """Returns the value under a key, ``:0`` at its end ignored; see ``load_checkpoint``."""
    with CheckpointReader(ckpt_dir_or_file) as reader:
        return reader.get_tensor(name.removesuffix(":0"))
