"""How functions are written as StableHLO modules: the choice of a function, or of a whole save."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from savax.errors import InvalidArgumentError

_VERSION = re.compile(r"\d{1,4}\.\d{1,4}\.\d{1,4}")

# A backward pass often makes such calls itself, even of the same function, so there is no end to
# the derivatives that could be written.
MAX_ORDER = 2

_PLATFORMS = frozenset({"cpu", "cuda", "rocm", "tpu"})


@dataclasses.dataclass(frozen=True, kw_only=True)
class StableHLO:
    """Options of functions that are written as compiled modules (``XlaCallModule``).

    Attributes:
      platforms: where the module is to run: ``"cpu"``, ``"cuda"``, ``"rocm"``, ``"tpu"``.
      version: of StableHLO, as ``"0.14.0"``, that the module is written in. By default the oldest
        one from 1.0 on that has all operations of the module.
      gradients: how many derivatives functions of TensorFlow get, each as a module too: 1 by
        default, which ``True`` means as well, 2, or 0 (``False``). TensorFlow refuses to
        differentiate the function more often.

    Raises:
      InvalidArgumentError: a platform or version is none, or there can't be so many derivatives.
    """

    platforms: tuple[str, ...] = ("cpu", "cuda", "tpu")
    version: str | None = None
    gradients: int = 1

    def __post_init__(self) -> None:
        if isinstance(self.platforms, str):
            raise InvalidArgumentError(
                f"platforms is a list of names, got the string {self.platforms!r}."
            )
        object.__setattr__(self, "platforms", tuple(self.platforms))
        wrong = sorted(set(self.platforms) - _PLATFORMS)
        if wrong or not self.platforms or len(set(self.platforms)) != len(self.platforms):
            raise InvalidArgumentError(
                f"platforms are some of {', '.join(sorted(_PLATFORMS))}, each once; got "
                f"{self.platforms!r}."
            )
        if self.version is not None and not _VERSION.fullmatch(self.version):
            raise InvalidArgumentError(
                f"A version of StableHLO has three numbers, as '1.0.0'; got {self.version!r}."
            )
        if not isinstance(self.gradients, int) or not 0 <= self.gradients <= MAX_ORDER:
            raise InvalidArgumentError(
                f"gradients is a number from 0 to {MAX_ORDER}, or a bool; got {self.gradients!r}."
            )


@dataclasses.dataclass(frozen=True)
class Backend:
    """What the functions of a save are written as.

    Attributes:
      whole: how whole functions become modules; None for operations of TensorFlow.
      single: how uses of primitives that have no operations do; None refuses them.
    """

    whole: StableHLO | None = None
    single: StableHLO | None = None


OPS = Backend()


def checked_lowering(lowering: Any) -> StableHLO | str | None:
    """Returns a wish for whole functions: ``"ops"``, modules, or None if there is none.

    Raises:
      InvalidArgumentError: it is another value.
    """
    if lowering is None or lowering == "ops":
        return lowering  # type: ignore[no-any-return]
    return _modules_for("lowering", lowering, "'ops', 'stablehlo' or savax.StableHLO(...)")


def checked_fallback(fallback: Any) -> StableHLO | str | None:
    """Returns a wish for primitives without operations: ``"refuse"``, modules, or None.

    Raises:
      InvalidArgumentError: it is another value.
    """
    if fallback is None or fallback == "refuse":
        return fallback  # type: ignore[no-any-return]
    return _modules_for("fallback", fallback, "'refuse', 'stablehlo' or savax.StableHLO(...)")


def _modules_for(name: str, value: Any, wanted: str) -> StableHLO:
    if value == "stablehlo":
        return StableHLO()
    if isinstance(value, StableHLO):
        return value
    raise InvalidArgumentError(f"{name} is {wanted}; got {value!r}.")


def chosen_backend(
    lowering: StableHLO | str | None,
    fallback: StableHLO | str | None,
    default: Backend = OPS,
) -> Backend:
    """Returns what a function is written as.

    Args:
      lowering: the function's own wish, as ``checked_lowering`` returns it.
      fallback: the function's own wish, as ``checked_fallback`` returns it.
      default: what counts where it has none.
    """
    whole = default.whole if lowering is None else lowering
    single = default.single if fallback is None else fallback
    return Backend(
        whole if isinstance(whole, StableHLO) else None,
        single if isinstance(single, StableHLO) else None,
    )
