"""Checkpoint keys: how a path through the object graph becomes the name of a tensor.

The rules are TensorFlow's: parts of a path are joined by ``/``; in each part ``.`` is doubled and
``/`` becomes ``.S``, so that the words below, which hold single dots, can't be a part.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

# Under this name the root of a saved model has the large arrays that its functions close over, if
# the user's object has no attribute of that name; else with a number behind it.
CAPTURED_ARRAYS = "_captured_arrays"
CAPTURED_ARRAY = "captured_array_"  # what their names begin with
_CAPTURED_PATH = re.compile(rf"root\.{CAPTURED_ARRAYS}(_\d+)?\.\d+")

OBJECT_GRAPH_KEY = "_CHECKPOINTABLE_OBJECT_GRAPH"
_ATTRIBUTES = ".ATTRIBUTES"
_OPTIMIZER_SLOT = ".OPTIMIZER_SLOT"


def escape_local_name(name: str) -> str:
    """Returns a local name as one part of a key."""
    return name.replace(".", "..").replace("/", ".S")


def object_name(local_names: Iterable[str]) -> str:
    """Returns what keys of an object start with, from the local names on the way from the root."""
    return "/".join(escape_local_name(name) for name in local_names)


def is_captured_array(path: str, name: str) -> bool:
    """Whether a Variable is a saved model's array that functions close over.

    Args:
      path: of the Variable from the root.
      name: the Variable's own.
    """
    return name.startswith(CAPTURED_ARRAY) and _CAPTURED_PATH.fullmatch(path) is not None


def checkpoint_key(name: str, attribute: str) -> str:
    """Returns the key of an object's tensor.

    Args:
      name: the object's, by ``object_name`` or ``slot_variable_name``.
      attribute: name of the tensor among the object's.
    """
    return f"{name}/{_ATTRIBUTES}/{escape_local_name(attribute)}"


def slot_variable_name(variable: str, optimizer: str, slot_name: str) -> str:
    """Returns what the key of a slot variable starts with.

    Args:
      variable: object name of the Variable that the slot belongs to.
      optimizer: object name of the optimizer.
      slot_name: the slot's name in the optimizer.
    """
    return f"{variable}/{_OPTIMIZER_SLOT}/{optimizer}/{escape_local_name(slot_name)}"
