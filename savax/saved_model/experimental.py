"""What TensorFlow has under ``saved_model.experimental``; this much of it exists here."""

from __future__ import annotations

from savax.saved_model._stored_fingerprint import Fingerprint, read_fingerprint
from savax.saved_model._variable_policy import VariablePolicy
from savax.trackable import register_serializable

__all__ = ["Fingerprint", "VariablePolicy", "read_fingerprint", "register_serializable"]
