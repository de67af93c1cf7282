"""Moves a complete export to its place without ever leaving an incomplete one there."""

import ctypes
import os
import pathlib
import sys

from keras_ssl.export import model_card

KERAS_FILE = "backbone.keras"
MANIFEST = "manifest.json"
FILES = {"saved_model.pb", KERAS_FILE, MANIFEST, *model_card.FILES}
_FILES_OF_TENSORFLOW = {"assets", "variables", "fingerprint.pb"}


def check_replaceable(target: pathlib.Path, overwrite: bool) -> None:
    """Raises FileExistsError if `target` exists, unless it is an export that may be replaced."""
    if not target.exists():
        return
    if not overwrite:
        raise FileExistsError(
            f"`path` already exists. Expected: a new path, or overwrite=True. Received: {target}"
        )
    found = {entry.name for entry in target.iterdir()} if target.is_dir() else set()
    others = found - FILES - _FILES_OF_TENSORFLOW
    needed = FILES - {MANIFEST}  # the first exports had no manifest
    if others or not found >= needed:
        raise FileExistsError(
            "`overwrite=True` replaces only exports of keras_ssl.export.saved_model, without further "
            f"files. Expected: {join_names(FILES)}. Found: {join_names(found)}. Received: {target}"
        )


def publish(draft: pathlib.Path, target: pathlib.Path) -> None:
    """Moves a complete draft to `target`; an export that was there is then at `draft`."""
    if not target.exists():
        os.rename(draft, target)
    elif not exchange(draft, target):
        # The system cannot exchange directories. If the process dies between these lines, the old
        # export is complete, next to `target`.
        aside = draft.with_name(f"{draft.name}.replaced")
        os.rename(target, aside)
        try:
            os.rename(draft, target)
        except BaseException:
            os.rename(aside, target)
            raise
        os.rename(aside, draft)


def exchange(first: pathlib.Path, second: pathlib.Path) -> bool:
    """Exchanges two directories atomically; returns False if the system cannot."""
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None) if sys.platform == "linux" else None
    if renameat2 is None:
        return False
    here, exchange = -100, ctypes.c_uint(2)  # AT_FDCWD and RENAME_EXCHANGE of Linux
    return renameat2(here, os.fsencode(first), here, os.fsencode(second), exchange) == 0


def join_names(names: set[str], most: int = 20) -> str:
    """Returns sorted names as text for a message, at most `most` of them."""
    ordered = sorted(names)
    return ", ".join(ordered[:most]) + (", ..." if len(ordered) > most else "") or "nothing"
