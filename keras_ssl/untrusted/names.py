"""Names of files that others wrote: which of them stay below the directory they are meant for."""

import pathlib

_LONGEST = 1024


def is_safe_name(name: str) -> bool:
    """Returns whether a relative name, with forward slashes, leads below its directory everywhere.

    Absolute names, `..`, backslashes, colons (drives and streams of Windows) and control characters
    do not.

    Args:
        name: as an archive or a manifest has it.

    Example:
        >>> is_safe_name("variables/variables.index"), is_safe_name("../.bashrc")
        (True, False)
    """
    parts = pathlib.PurePosixPath(name).parts
    return (
        0 < len(name) <= _LONGEST
        and bool(parts)
        and not name.startswith("/")
        and ".." not in parts
        and not any(letter in "\\:" or ord(letter) < 32 for letter in name)
    )
