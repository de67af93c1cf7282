"""Checks untrusted archives and models before they are opened; see docs/security.md."""

from keras_ssl.untrusted.archive import unpack
from keras_ssl.untrusted.keras_file import check_keras_file
from keras_ssl.untrusted.names import is_safe_name
from keras_ssl.untrusted.saved_model import check_saved_model

__all__ = ["check_keras_file", "check_saved_model", "is_safe_name", "unpack"]
