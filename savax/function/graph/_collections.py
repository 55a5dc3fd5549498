"""Named lists of what belongs together in a graph."""

from __future__ import annotations

import re
from typing import Any


class Collections:
    """The collections of a graph.

    Attributes:
      collections: lists by name.
    """

    def __init__(self) -> None:
        self.collections: dict[Any, list[Any]] = {}

    def add_to_collection(self, name: Any, value: Any) -> None:
        """Adds a value to a collection."""
        self.collections.setdefault(name, []).append(value)

    def add_to_collections(self, names: Any, value: Any) -> None:
        """Adds a value to several collections."""
        for name in dict.fromkeys((names,) if isinstance(names, str) else names):
            self.add_to_collection(name, value)

    def get_collection(self, name: Any, scope: str | None = None) -> list[Any]:
        """Returns the values of a collection.

        Args:
          name: of the collection.
          scope: a regular expression that the names of the values begin with; None for all values.
        """
        found = list(self.collections.get(name, ()))
        if scope is None:
            return found
        begins = re.compile(scope).match
        return [value for value in found if hasattr(value, "name") and begins(value.name)]

    def get_collection_ref(self, name: Any) -> list[Any]:
        """Returns a collection itself, to be changed in place."""
        return self.collections.setdefault(name, [])

    def get_all_collection_keys(self) -> list[Any]:
        """Returns the names of collections that have values."""
        return [name for name, values in self.collections.items() if values]

    def clear_collection(self, name: Any) -> None:
        """Removes the values of a collection."""
        self.collections.pop(name, None)
