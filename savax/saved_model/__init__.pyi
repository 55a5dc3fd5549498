"""The public names of savax.saved_model, for type checkers; ``__init__.py`` imports them lazily."""

from savax.function.evaluation._custom_gradients import (
    MissingGradientWarning as MissingGradientWarning,
)
from savax.saved_model import builder as builder
from savax.saved_model import constants as constants
from savax.saved_model import experimental as experimental
from savax.saved_model import loader as loader
from savax.saved_model import main_op as main_op
from savax.saved_model import signature_constants as signature_constants
from savax.saved_model import signature_def_utils as signature_def_utils
from savax.saved_model import tag_constants as tag_constants
from savax.saved_model import utils as utils
from savax.saved_model._load import load as load
from savax.saved_model._load import load_partial as load_partial
from savax.saved_model._options import LoadOptions as LoadOptions
from savax.saved_model._options import SaveOptions as SaveOptions
from savax.saved_model._publish import publish as publish
from savax.saved_model._reader import TagsMismatchError as TagsMismatchError
from savax.saved_model._reader import contains_saved_model as contains_saved_model
from savax.saved_model._save import save as save
from savax.saved_model._stored_fingerprint import ModelChangedWarning as ModelChangedWarning
from savax.saved_model._versions import latest_version as latest_version
from savax.saved_model.constants import ASSETS_DIRECTORY as ASSETS_DIRECTORY
from savax.saved_model.constants import ASSETS_KEY as ASSETS_KEY
from savax.saved_model.constants import DEBUG_DIRECTORY as DEBUG_DIRECTORY
from savax.saved_model.constants import DEBUG_INFO_FILENAME_PB as DEBUG_INFO_FILENAME_PB
from savax.saved_model.constants import SAVED_MODEL_FILENAME_PB as SAVED_MODEL_FILENAME_PB
from savax.saved_model.constants import SAVED_MODEL_FILENAME_PBTXT as SAVED_MODEL_FILENAME_PBTXT
from savax.saved_model.constants import SAVED_MODEL_SCHEMA_VERSION as SAVED_MODEL_SCHEMA_VERSION
from savax.saved_model.constants import VARIABLES_DIRECTORY as VARIABLES_DIRECTORY
from savax.saved_model.constants import VARIABLES_FILENAME as VARIABLES_FILENAME
from savax.saved_model.signature_constants import CLASSIFY_INPUTS as CLASSIFY_INPUTS
from savax.saved_model.signature_constants import CLASSIFY_METHOD_NAME as CLASSIFY_METHOD_NAME
from savax.saved_model.signature_constants import CLASSIFY_OUTPUT_CLASSES as CLASSIFY_OUTPUT_CLASSES
from savax.saved_model.signature_constants import CLASSIFY_OUTPUT_SCORES as CLASSIFY_OUTPUT_SCORES
from savax.saved_model.signature_constants import (
    DEFAULT_SERVING_SIGNATURE_DEF_KEY as DEFAULT_SERVING_SIGNATURE_DEF_KEY,
)
from savax.saved_model.signature_constants import PREDICT_INPUTS as PREDICT_INPUTS
from savax.saved_model.signature_constants import PREDICT_METHOD_NAME as PREDICT_METHOD_NAME
from savax.saved_model.signature_constants import PREDICT_OUTPUTS as PREDICT_OUTPUTS
from savax.saved_model.signature_constants import REGRESS_INPUTS as REGRESS_INPUTS
from savax.saved_model.signature_constants import REGRESS_METHOD_NAME as REGRESS_METHOD_NAME
from savax.saved_model.signature_constants import REGRESS_OUTPUTS as REGRESS_OUTPUTS
from savax.saved_model.tag_constants import GPU as GPU
from savax.saved_model.tag_constants import SERVING as SERVING
from savax.saved_model.tag_constants import TPU as TPU
from savax.saved_model.tag_constants import TRAINING as TRAINING
from savax.trackable import Asset as Asset

__all__: list[str]
