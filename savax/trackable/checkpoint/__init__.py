"""Checkpoints: the values of an object graph in a bundle, written and restored."""

from __future__ import annotations

from savax.trackable.checkpoint._async_writing import CheckpointFuture
from savax.trackable.checkpoint._checkpoint import Checkpoint
from savax.trackable.checkpoint._iterator import checkpoints_iterator
from savax.trackable.checkpoint._manager import CheckpointManager
from savax.trackable.checkpoint._name_based import restore_by_name
from savax.trackable.checkpoint._object_graph_codec import (
    EncodedObjectGraph,
    decode_object_graph,
    encode_object_graph,
    object_graph_tensor,
)
from savax.trackable.checkpoint._options import CheckpointOptions
from savax.trackable.checkpoint._prefix import resolve_prefix
from savax.trackable.checkpoint._python_state import PythonState
from savax.trackable.checkpoint._reader import (
    CheckpointReader,
    list_variables,
    load_checkpoint,
    load_variable,
)
from savax.trackable.checkpoint._registered_savers import UnknownSaverWarning
from savax.trackable.checkpoint._report import (
    Mismatch,
    Missing,
    Restored,
    RestoreReport,
    Unused,
)
from savax.trackable.checkpoint._restoration import Restoration, restore_objects
from savax.trackable.checkpoint._sharding_policies import (
    MaxShardSizePolicy,
    ShardableTensor,
    ShardByTaskPolicy,
    ShardingCallback,
)
from savax.trackable.checkpoint._state import (
    get_checkpoint_state,
    latest_checkpoint,
    write_checkpoint_state,
)
from savax.trackable.checkpoint._status import (
    CheckpointLoadStatus,
    InitializationOnlyStatus,
    LoadStatus,
    NameBasedLoadStatus,
)
from savax.trackable.checkpoint._trees import compare_tree, restore_tree, save_tree
from savax.trackable.checkpoint._views import CheckpointView, TrackableView

__all__ = [
    "Checkpoint",
    "CheckpointFuture",
    "CheckpointLoadStatus",
    "CheckpointManager",
    "CheckpointOptions",
    "CheckpointReader",
    "CheckpointView",
    "EncodedObjectGraph",
    "InitializationOnlyStatus",
    "LoadStatus",
    "MaxShardSizePolicy",
    "Mismatch",
    "Missing",
    "NameBasedLoadStatus",
    "PythonState",
    "Restoration",
    "RestoreReport",
    "Restored",
    "ShardByTaskPolicy",
    "ShardableTensor",
    "ShardingCallback",
    "TrackableView",
    "UnknownSaverWarning",
    "Unused",
    "checkpoints_iterator",
    "compare_tree",
    "decode_object_graph",
    "encode_object_graph",
    "get_checkpoint_state",
    "latest_checkpoint",
    "list_variables",
    "load_checkpoint",
    "load_variable",
    "object_graph_tensor",
    "resolve_prefix",
    "restore_by_name",
    "restore_objects",
    "restore_tree",
    "save_tree",
    "write_checkpoint_state",
]
