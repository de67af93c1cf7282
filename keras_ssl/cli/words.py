"""Looks at the words of a command line before they are parsed."""

from collections.abc import Sequence


def option_value(words: Sequence[str], name: str) -> str | None:
    """Returns the value of an option, "" if it has none, or `None` if it is not given.

    If it is given more than once, the last value counts.

    Example:
        >>> option_value(["pretrain", "--method", "byol"], "method")
        'byol'
    """
    option = f"--{name}"
    value = None
    for number, word in enumerate(words):
        if word.startswith(f"{option}="):
            value = word.removeprefix(f"{option}=")
        elif word == option:
            following = words[number + 1 : number + 2]
            value = following[0] if following and not following[0].startswith("-") else ""
    return value
