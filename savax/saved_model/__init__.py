"""SavedModels: directories that TensorFlow and its serving systems read.

Names are imported when they are first used: looking into a model needs no JAX.
"""

from __future__ import annotations

from savax._lazy import lazy_names

_LAZY = lazy_names(
    __name__,
    submodules=(
        *("builder", "constants", "experimental", "loader", "main_op", "signature_constants"),
        *("signature_def_utils", "tag_constants", "utils"),
    ),
    names={
        "savax.function.evaluation._custom_gradients": ("MissingGradientWarning",),
        "savax.saved_model._load": ("load", "load_partial"),
        "savax.saved_model._options": ("LoadOptions", "SaveOptions"),
        "savax.saved_model._publish": ("publish",),
        "savax.saved_model._reader": ("TagsMismatchError", "contains_saved_model"),
        "savax.saved_model._save": ("save",),
        "savax.saved_model._stored_fingerprint": ("ModelChangedWarning",),
        "savax.saved_model._versions": ("latest_version",),
        "savax.saved_model.constants": (
            "ASSETS_DIRECTORY",
            "ASSETS_KEY",
            "DEBUG_DIRECTORY",
            "DEBUG_INFO_FILENAME_PB",
            "SAVED_MODEL_FILENAME_PB",
            "SAVED_MODEL_FILENAME_PBTXT",
            "SAVED_MODEL_SCHEMA_VERSION",
            "VARIABLES_DIRECTORY",
            "VARIABLES_FILENAME",
        ),
        "savax.saved_model.signature_constants": (
            "CLASSIFY_INPUTS",
            "CLASSIFY_METHOD_NAME",
            "CLASSIFY_OUTPUT_CLASSES",
            "CLASSIFY_OUTPUT_SCORES",
            "DEFAULT_SERVING_SIGNATURE_DEF_KEY",
            "PREDICT_INPUTS",
            "PREDICT_METHOD_NAME",
            "PREDICT_OUTPUTS",
            "REGRESS_INPUTS",
            "REGRESS_METHOD_NAME",
            "REGRESS_OUTPUTS",
        ),
        "savax.saved_model.tag_constants": ("GPU", "SERVING", "TPU", "TRAINING"),
        "savax.trackable": ("Asset",),
    },
)
__getattr__ = _LAZY.getattr
__dir__ = _LAZY.dir
__all__ = _LAZY.all
