"""Variables and Modules for users: with JAX, which ``savax.trackable`` alone knows nothing of.

Importing ``savax.function`` makes Variables hold JAX arrays, and pass through its transformations.
"""

from __future__ import annotations

import savax.function  # noqa: F401 - see above
from savax.trackable import Module, TrackedState, Variable

__all__ = ["Module", "TrackedState", "Variable"]
