"""Names of a model's files and folders, under TensorFlow's names."""

from __future__ import annotations

from savax.saved_model._constants import SCHEMA_VERSION as SAVED_MODEL_SCHEMA_VERSION
from savax.types._paths import ASSETS_DIRECTORY, DEBUG_DIRECTORY, VARIABLES_DIRECTORY
from savax.types._paths import DEBUG_INFO_PB as DEBUG_INFO_FILENAME_PB
from savax.types._paths import SAVED_MODEL_PB as SAVED_MODEL_FILENAME_PB
from savax.types._paths import SAVED_MODEL_PBTXT as SAVED_MODEL_FILENAME_PBTXT
from savax.types._paths import VARIABLES_FILENAME as VARIABLES_FILENAME

# The collection of the main graph that lists a model's asset files.
ASSETS_KEY = "saved_model_assets"

__all__ = [
    "ASSETS_DIRECTORY",
    "ASSETS_KEY",
    "DEBUG_DIRECTORY",
    "DEBUG_INFO_FILENAME_PB",
    "SAVED_MODEL_FILENAME_PB",
    "SAVED_MODEL_FILENAME_PBTXT",
    "SAVED_MODEL_SCHEMA_VERSION",
    "VARIABLES_DIRECTORY",
    "VARIABLES_FILENAME",
]
