"""Checks file names in untrusted archives and manifests."""

import pathlib

_MAX_LENGTH = 1024


def is_safe_name(name: str) -> bool:
    """Returns whether a relative file name stays inside its directory on every operating system.

    Names that are absolute, or contain `..`, backslashes, colons (drives and streams on Windows) or
    control characters, are not safe. Neither are empty names and names of more than 1,024 characters.

    Args:
        name: relative name with forward slashes, from an archive or a manifest.

    Example:
        >>> is_safe_name("variables/variables.index"), is_safe_name("../.bashrc")
        (True, False)
    """
    parts = pathlib.PurePosixPath(name).parts
    return (
        0 < len(name) <= _MAX_LENGTH
        and bool(parts)
        and not name.startswith("/")
        and ".." not in parts
        and not any(letter in "\\:" or ord(letter) < 32 for letter in name)
    )
