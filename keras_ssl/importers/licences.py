"""Licences of published weights that are more restrictive than those of the code."""

import logging

_LOG = logging.getLogger("keras_ssl")

LICENCES = {
    "moco": (
        "facebookresearch/moco published its checkpoints under CC BY-NC 4.0: for non-commercial use, "
        "with attribution. Its newer files name the MIT licence; see its LICENSE."
    ),
    "byol": (
        "The checkpoints that DeepMind publishes for BYOL are licensed under CC BY-NC 4.0: for "
        "non-commercial use, with attribution."
    ),
    **{
        kind: (
            f"facebookresearch/{repository} was published under CC BY-NC 4.0: for non-commercial use, "
            "with attribution; see its LICENSE."
        )
        for kind, repository in (
            ("simsiam", "simsiam"),
            ("barlow-twins", "barlowtwins"),
            ("swav", "swav"),
            ("moco-v3", "moco-v3"),
            ("mae", "mae"),
        )
    },
}
"""Licence notices of published weights, by kind of checkpoint (such as `"moco"` and `"byol"`)."""


def show_licence(kind: str, origin: str) -> None:
    """Logs a warning with the licence of published weights and their origin."""
    _LOG.warning("%s Loaded: %s", LICENCES[kind], origin)
