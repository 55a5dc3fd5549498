"""Other readers of SavedModels: what they run, and what has to be written differently for them.

The tables are files of this package; no JAX is needed to look something up.
"""

from savax.portability._advice import REPLACED_OPS
from savax.portability._conditions import CONDITIONS, Condition, InputView, NodeView
from savax.portability._nodes import refused_nodes
from savax.portability._support import (
    ANY_DTYPE,
    Refusal,
    SupportTable,
    TargetProblems,
    refusals,
    support_table,
    value_dtypes,
)
from savax.portability._targets import (
    CONSUMERS,
    PORTABLE,
    TARGETS,
    TENSORFLOW,
    checked_target,
    consumers_of,
)

__all__ = [
    "ANY_DTYPE",
    "CONDITIONS",
    "CONSUMERS",
    "PORTABLE",
    "REPLACED_OPS",
    "TARGETS",
    "TENSORFLOW",
    "Condition",
    "InputView",
    "NodeView",
    "Refusal",
    "SupportTable",
    "TargetProblems",
    "checked_target",
    "consumers_of",
    "refusals",
    "refused_nodes",
    "support_table",
    "value_dtypes",
]
