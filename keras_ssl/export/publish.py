"""An artefact comes to its place whole, or not at all."""

import ctypes
import os
import pathlib
import sys

from keras_ssl.export import model_card

KERAS_FILE = "backbone.keras"
MANIFEST = "manifest.json"
FILES = {"saved_model.pb", KERAS_FILE, MANIFEST, *model_card.FILES}
_FILES_OF_TENSORFLOW = {"assets", "variables", "fingerprint.pb"}


def refuse_to_destroy(target: pathlib.Path, overwrite: bool) -> None:
    """Raises FileExistsError unless `target` is free, or an artefact that may be replaced."""
    if not target.exists():
        return
    if not overwrite:
        raise FileExistsError(
            f"`path` is there already. Expected: a new path, or overwrite=True. Received: {target}"
        )
    found = {entry.name for entry in target.iterdir()} if target.is_dir() else set()
    others = found - FILES - _FILES_OF_TENSORFLOW
    needed = FILES - {MANIFEST}  # artefacts from before there was one may go
    if others or not found >= needed:
        raise FileExistsError(
            "`overwrite=True` replaces nothing but an artefact of keras_ssl.export.saved_model. "
            f"Expected in it: {listed(FILES)}. Found: {listed(found)}. Received: {target}"
        )


def publish(draft: pathlib.Path, target: pathlib.Path) -> None:
    """Moves a finished draft to its place; an artefact that was there ends where the draft was."""
    if not target.exists():
        os.rename(draft, target)
    elif not exchange(draft, target):
        # The system has no exchange. If the process dies between these lines, the old artefact lies
        # whole beside `target`.
        aside = draft.with_name(f"{draft.name}.replaced")
        os.rename(target, aside)
        try:
            os.rename(draft, target)
        except BaseException:
            os.rename(aside, target)
            raise
        os.rename(aside, draft)


def exchange(first: pathlib.Path, second: pathlib.Path) -> bool:
    """Exchanges two directories in one step; returns False where the system cannot."""
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None) if sys.platform == "linux" else None
    if renameat2 is None:
        return False
    here, exchange = -100, ctypes.c_uint(2)  # AT_FDCWD and RENAME_EXCHANGE of Linux
    return renameat2(here, os.fsencode(first), here, os.fsencode(second), exchange) == 0


def listed(names: set[str], most: int = 20) -> str:
    """Returns names in their order, for a message."""
    listed = sorted(names)
    return ", ".join(listed[:most]) + (", ..." if len(listed) > most else "") or "nothing"
