"""The exception tree of savax.

    SavaxError
    ├── InvalidArgumentError            (ValueError)      a value that can't be right
    │   ├── SignatureMismatchError      (TypeError)       a call that fits no signature
    │   ├── ShapeMismatchError                            two shapes that must agree, don't
    │   └── DTypeMismatchError          (TypeError)       two dtypes that must agree, don't
    ├── NotFoundError                   (FileNotFoundError)  a file that should exist
    ├── KeyNotFoundError                (KeyError)        a name that should exist inside a file
    ├── DataLossError                   (OSError)         bytes that were damaged
    │   ├── CorruptBundleError          (ValueError)      a checkpoint's index or data
    │   └── CorruptSavedModelError      (ValueError)      a SavedModel's protos
    ├── ResourceLimitError              (ValueError)      a file that asks for more than it may
    ├── UnsafePathError                 (ValueError)      a name that leaves its directory
    ├── NotEncodableError               (TypeError)       a Python value without a wire form
    ├── UnsupportedError                (NotImplementedError)
    │   ├── UnsupportedPrimitiveError                     JAX primitives without a lowering
    │   ├── UnsupportedParamError                         a primitive's parameter without one
    │   ├── UnsupportedOpError                            TensorFlow ops without an evaluation
    │   ├── UnsupportedTargetError                        ops that the target of an export lacks
    │   └── UnsupportedOptionError                        an option that savax doesn't implement
    ├── TrackingError                   (ValueError)      an object graph that can't be saved
    │   ├── UntrackedDependencyError    (AssertionError)  a state that is out of reach of the root
    │   └── CyclicDependencyError                         loading order that doesn't exist
    ├── IncompleteRestoreError          (AssertionError)  a checkpoint and objects that differ
    ├── TracingError                    (TypeError)       a function that can't be traced
    │   ├── EscapedTracerError                            a traced value that outlived its trace
    │   ├── VariableWriteError                            an assignment where none is possible
    │   ├── VariableCreationError   (ValueError)          a Variable made in each trace anew
    │   └── InconclusiveDimensionError                    a comparison of unknown dimensions
    ├── PublishError                    (OSError)         a directory that couldn't be replaced
    ├── RemoteStorageError              (OSError)         a remote file system that failed
    │   └── RemotePermissionError       (PermissionError) one that doesn't let in
    ├── ProcessFailedError              (RuntimeError)    one of several processes that failed
    │   └── ProcessTimeoutError         (TimeoutError)    one that the others waited for in vain
    └── MissingDependencyError          (ImportError)     an optional package that isn't installed

Each class also derives from the built-in exception that code written for TensorFlow would catch, or
that is nearest in meaning. Messages name the user's object (its path from the root), what was
expected, what was found, and the cure.
"""

from __future__ import annotations

__all__ = [
    "CorruptBundleError",
    "CorruptSavedModelError",
    "CyclicDependencyError",
    "DTypeMismatchError",
    "DataLossError",
    "EscapedTracerError",
    "IncompleteRestoreError",
    "InconclusiveDimensionError",
    "InvalidArgumentError",
    "KeyNotFoundError",
    "MissingDependencyError",
    "NotEncodableError",
    "NotFoundError",
    "ProcessFailedError",
    "ProcessTimeoutError",
    "PublishError",
    "RemotePermissionError",
    "RemoteStorageError",
    "ResourceLimitError",
    "SavaxError",
    "ShapeMismatchError",
    "SignatureMismatchError",
    "TracingError",
    "TrackingError",
    "UnsafePathError",
    "UnsupportedError",
    "UnsupportedOpError",
    "UnsupportedOptionError",
    "UnsupportedParamError",
    "UnsupportedPrimitiveError",
    "UnsupportedTargetError",
    "UntrackedDependencyError",
    "VariableCreationError",
    "VariableWriteError",
]


class SavaxError(Exception):
    """Base of every exception that savax raises on purpose."""

    def __str__(self) -> str:
        # KeyError prints the repr of its argument and OSError a pair; a message stays a message.
        return str(self.args[0]) if self.args else ""


class InvalidArgumentError(SavaxError, ValueError):
    """An argument has a value that can't be right."""


class SignatureMismatchError(InvalidArgumentError, TypeError):
    """A call's arguments fit none of the function's signatures."""


class ShapeMismatchError(InvalidArgumentError):
    """Two shapes that must agree don't."""


class DTypeMismatchError(InvalidArgumentError, TypeError):
    """Two dtypes that must agree don't."""


class NotFoundError(SavaxError, FileNotFoundError):
    """A file or directory doesn't exist."""


class KeyNotFoundError(SavaxError, KeyError):
    """A checkpoint or model holds nothing under the given name."""


class DataLossError(SavaxError, OSError):
    """Bytes on disk were damaged or are incomplete."""


class CorruptBundleError(DataLossError, ValueError):
    """A checkpoint's index or data file breaks the format or a checksum."""


class CorruptSavedModelError(DataLossError, ValueError):
    """A SavedModel's protos can't be parsed or contradict each other."""


class ResourceLimitError(SavaxError, ValueError):
    """A file asks for more memory, depth or entries than its size justifies."""


class UnsafePathError(SavaxError, ValueError):
    """A file name inside a model leaves the model's directory."""


class NotEncodableError(SavaxError, TypeError):
    """A Python value has no form in the file format."""


class UnsupportedError(SavaxError, NotImplementedError):
    """Something valid that savax doesn't implement."""


class UnsupportedPrimitiveError(UnsupportedError):
    """JAX primitives that have no lowering to TensorFlow ops."""


class UnsupportedParamError(UnsupportedError):
    """A parameter value of a JAX primitive that has no lowering."""


class UnsupportedOpError(UnsupportedError):
    """TensorFlow ops that have no evaluation on JAX."""


class UnsupportedTargetError(UnsupportedError):
    """TensorFlow ops that the program a model is exported for doesn't run."""


class UnsupportedOptionError(UnsupportedError):
    """An option of TensorFlow's API that savax refuses rather than ignores."""


class TrackingError(SavaxError, ValueError):
    """The object graph can't be written as it stands."""


class UntrackedDependencyError(TrackingError, AssertionError):
    """A function depends on state that can't be reached from the saved root."""


class CyclicDependencyError(TrackingError):
    """Objects need each other to be loaded first."""


class IncompleteRestoreError(SavaxError, AssertionError):
    """Values of a checkpoint met no object, or objects met no values."""


class TracingError(SavaxError, TypeError):
    """A Python function can't be traced."""


class EscapedTracerError(TracingError):
    """A value that exists only while tracing was kept beyond it."""


class VariableWriteError(TracingError):
    """A Variable is assigned where the assignment can't take effect."""


class VariableCreationError(TracingError, ValueError):
    """A function creates a Variable where it can't keep it, or from its arguments."""


class InconclusiveDimensionError(TracingError):
    """A traced function compares dimensions whose sizes aren't known."""


class PublishError(SavaxError, OSError):
    """A finished directory couldn't take the place of the old one."""


class RemoteStorageError(SavaxError, OSError):
    """A remote file system can't be reached, or failed."""


class RemotePermissionError(RemoteStorageError, PermissionError):
    """A remote file system doesn't allow what was asked of it."""


class ProcessFailedError(SavaxError, RuntimeError):
    """One of several processes that write a checkpoint together failed."""


class ProcessTimeoutError(ProcessFailedError, TimeoutError):
    """Another process didn't do its part in time."""


class MissingDependencyError(SavaxError, ImportError):
    """An optional package isn't installed."""
