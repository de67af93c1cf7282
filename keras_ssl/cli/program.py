"""The program `keras-ssl`: reads a command line and runs its command."""

import contextlib
import functools
import operator
import os
import pathlib
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import tyro

from keras_ssl.cli.demo import Demo
from keras_ssl.cli.distill import Distill
from keras_ssl.cli.embed import Embed
from keras_ssl.cli.evaluate import Evaluate
from keras_ssl.cli.export import Export
from keras_ssl.cli.finetune import Finetune
from keras_ssl.cli.import_weights import ImportWeights
from keras_ssl.cli.pretrain import Pretrain, with_options_of_method
from keras_ssl.cli.recipes import list_recipes, load_recipe, read_recipe
from keras_ssl.cli.search import Search
from keras_ssl.cli.simclrv2 import SimCLRv2
from keras_ssl.cli.words import option_value

COMMANDS: dict[str, type] = {
    "pretrain": Pretrain,
    "evaluate": Evaluate,
    "finetune": Finetune,
    "distill": Distill,
    "simclrv2": SimCLRv2,
    "export": Export,
    "import": ImportWeights,
    "embed": Embed,
    "search": Search,
    "demo": Demo,
}

# Errors that a user can fix: shown as one message, without a traceback.
_USER_ERRORS = (ValueError, TypeError, OSError, ImportError, FloatingPointError)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command and exits: 0 if it succeeded, 1 on an error, 130 or 143 if a signal stopped it.

    Args:
        arguments: the words after the program's name; by default those of `sys.argv`.

    Example:
        >>> main(["pretrain", "--data", "digits", "--epochs", "2"])
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        command = parse(words)
        with _quiet_start():
            import tensorflow as tf

            # Not the logical ones: with several workers, these must not exist before the workers meet.
            tf.config.list_physical_devices()
        status = command.execute()
    except _USER_ERRORS as error:
        if os.environ.get("KERAS_SSL_TRACEBACK"):
            raise
        print(f"keras-ssl: error: {error}", file=sys.stderr)
        print("(KERAS_SSL_TRACEBACK=1 shows the traceback)", file=sys.stderr)
        status = 1
    except KeyboardInterrupt:
        print("keras-ssl: stopped", file=sys.stderr)
        status = 130
    raise SystemExit(status)


def run_recipe(path: str) -> None:
    """Runs a recipe with the options of the command line: `python recipes/<name>.py --epochs 5`."""
    recipe = read_recipe(pathlib.Path(path))["RECIPE"]
    command = next(name for name, kind in COMMANDS.items() if isinstance(recipe, kind))
    main([command, "--recipe", path, *sys.argv[1:]])


def parse(words: Sequence[str]) -> Any:
    """Returns the command that the words of a command line describe.

    Raises:
        ValueError: if a method or recipe is unknown, or an option belongs to another method.
        SystemExit: with status 0 after `--help` or a list of recipes; with 2 if the words are invalid.
    """
    kinds: dict[str, type] = dict(COMMANDS)
    defaults: dict[str, Any] = {}
    name = words[0] if words else ""
    if name in ("pretrain", "simclrv2") and (recipe := option_value(words, "recipe")) is not None:
        if not recipe:
            print(list_recipes(name, COMMANDS[name]))
            raise SystemExit(0)
        defaults[name] = load_recipe(recipe, name, COMMANDS[name])
    if name == "pretrain":
        defaults[name] = with_options_of_method(words, defaults.get(name, Pretrain()))
        kinds[name] = type(defaults[name])
    commands = [
        Annotated[kind, tyro.conf.subcommand(each, default=defaults[each])]
        if each in defaults
        else Annotated[kind, tyro.conf.subcommand(each)]
        for each, kind in kinds.items()
    ]
    kind: Any = functools.reduce(operator.or_, commands)
    return tyro.cli(
        kind,
        prog="keras-ssl",
        description="Self-supervised pretraining for Keras: pretrain, evaluate, distill, export.",
        args=list(words),
        config=(tyro.conf.OmitArgPrefixes,),
    )


@contextlib.contextmanager
def _quiet_start() -> Iterator[None]:
    """Holds back what TensorFlow's libraries print while they load, and shows it only if they fail."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as messages:
        os.dup2(messages.fileno(), 2)
        try:
            yield
        except BaseException:
            os.dup2(kept, 2)
            messages.seek(0)
            sys.stderr.write(messages.read().decode(errors="replace"))
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
