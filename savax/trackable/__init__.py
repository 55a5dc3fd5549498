"""Objects with named edges: Variables, Modules, containers, and the graph they form.

Nothing here imports JAX; ``savax.function`` tells this layer about it.
"""

from __future__ import annotations

from savax.trackable._arrays import (
    content_key,
    host_array,
    set_array_converter,
    set_sharding_support,
    set_tracer_check,
)
from savax.trackable._asset import Asset
from savax.trackable._auto import AutoTrackable, Module
from savax.trackable._base import (
    FunctionLike,
    PendingRestoration,
    SaveType,
    SlotOwner,
    Trackable,
)
from savax.trackable._constant import Constant
from savax.trackable._containers import (
    NoDependency,
    TrackedContainer,
    TrackedDict,
    TrackedList,
    TrackedOrderedDict,
    TrackedTuple,
    wrap,
)
from savax.trackable._frames import Frame, current_frame, frame_scope
from savax.trackable._lookup_table import LookupTable
from savax.trackable._name_scope import NameScope
from savax.trackable._names import OBJECT_GRAPH_KEY, checkpoint_key, escape_local_name
from savax.trackable._object_graph import (
    Node,
    ObjectGraph,
    SlotReference,
    freeze_object_graph,
)
from savax.trackable._ordering import order_by_dependency
from savax.trackable._placement import Box, Placement, Shard, ShardedArray
from savax.trackable._registry import (
    CLASS_REGISTRY,
    SAVER_REGISTRY,
    CheckpointSaver,
    Registry,
    register_checkpoint_saver,
    register_serializable,
)
from savax.trackable._resource import TableResource
from savax.trackable._state_tree import TrackedState
from savax.trackable._trees import OpenedNode, RandomKeyParts, TreeBackend, set_tree_backend
from savax.trackable._variable import VARIABLE_VALUE, Variable, VariableRef
from savax.trackable._variable_properties import VariableAggregation, VariableSynchronization

__all__ = [
    "CLASS_REGISTRY",
    "OBJECT_GRAPH_KEY",
    "SAVER_REGISTRY",
    "VARIABLE_VALUE",
    "Asset",
    "AutoTrackable",
    "Box",
    "CheckpointSaver",
    "Constant",
    "Frame",
    "FunctionLike",
    "LookupTable",
    "Module",
    "NameScope",
    "NoDependency",
    "Node",
    "ObjectGraph",
    "OpenedNode",
    "PendingRestoration",
    "Placement",
    "RandomKeyParts",
    "Registry",
    "SaveType",
    "Shard",
    "ShardedArray",
    "SlotOwner",
    "SlotReference",
    "TableResource",
    "Trackable",
    "TrackedContainer",
    "TrackedDict",
    "TrackedList",
    "TrackedOrderedDict",
    "TrackedState",
    "TrackedTuple",
    "TreeBackend",
    "Variable",
    "VariableAggregation",
    "VariableRef",
    "VariableSynchronization",
    "checkpoint_key",
    "content_key",
    "current_frame",
    "escape_local_name",
    "frame_scope",
    "freeze_object_graph",
    "host_array",
    "order_by_dependency",
    "register_checkpoint_saver",
    "register_serializable",
    "set_array_converter",
    "set_sharding_support",
    "set_tracer_check",
    "set_tree_backend",
    "wrap",
]
