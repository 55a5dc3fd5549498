"""What TensorFlow has under ``saved_model.experimental``; this much of it exists here."""

from __future__ import annotations

from savax.saved_model._stored_fingerprint import Fingerprint, read_fingerprint

__all__ = ["Fingerprint", "read_fingerprint"]
