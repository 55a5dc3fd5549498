"""Parameters of JAX primitives that a lowering may leave out, and the values that allow it."""

from __future__ import annotations

from typing import Any

# They steer placement, accuracy hints or caching. Any other value means something else, and is an
# error: silent loss of a parameter is a wrong model.
IGNORABLE: dict[str, tuple[Any, ...]] = {
    "accuracy": (None,),
    "out_sharding": (None,),
    "sharding": (None,),
}
