"""The program `keras-ssl`: reads the words of a command line and runs the command."""

import contextlib
import importlib
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import Annotated

import tyro

from keras_ssl.cli.demo import Demo
from keras_ssl.cli.distill import Distill
from keras_ssl.cli.embed import Embed
from keras_ssl.cli.evaluate import Evaluate
from keras_ssl.cli.export import Export
from keras_ssl.cli.finetune import Finetune
from keras_ssl.cli.importweights import ImportWeights
from keras_ssl.cli.pretrain import Pretrain
from keras_ssl.cli.search import Search
from keras_ssl.cli.simclrv2 import SimCLRv2

Command = (
    Annotated[Pretrain, tyro.conf.subcommand("pretrain")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Finetune, tyro.conf.subcommand("finetune")]
    | Annotated[Distill, tyro.conf.subcommand("distill")]
    | Annotated[SimCLRv2, tyro.conf.subcommand("simclrv2")]
    | Annotated[Export, tyro.conf.subcommand("export")]
    | Annotated[ImportWeights, tyro.conf.subcommand("import")]
    | Annotated[Embed, tyro.conf.subcommand("embed")]
    | Annotated[Search, tyro.conf.subcommand("search")]
    | Annotated[Demo, tyro.conf.subcommand("demo")]
)

# What a user can mend: shown as one message, without the lines of code that found it.
_USER_ERRORS = (ValueError, TypeError, OSError, ImportError, FloatingPointError)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command and exits: 0 when done, 1 on an error, 130 or 143 if a signal stopped it.

    Args:
        arguments: words after the program's name; `sys.argv` unless given.

    Example:
        >>> main(["pretrain", "--data", "digits", "--epochs", "2"])
    """
    command = tyro.cli(
        Command,  # type: ignore[arg-type]
        prog="keras-ssl",
        description="Self-supervised pretraining for Keras: pretrain, evaluate, distil, export.",
        args=arguments,
        config=(tyro.conf.OmitArgPrefixes,),
    )
    try:
        with _quiet_start():
            name = type(command).__name__.lower()
            module = importlib.import_module(f"keras_ssl.commands.{name}")
            # Not the logical ones: several workers must meet before those exist.
            importlib.import_module("tensorflow").config.list_physical_devices()
        status = module.run(command)
    except _USER_ERRORS as error:
        if os.environ.get("KERAS_SSL_TRACEBACK"):
            raise
        print(f"keras-ssl: error: {error}", file=sys.stderr)
        print("(KERAS_SSL_TRACEBACK=1 shows where it was raised)", file=sys.stderr)
        status = 1
    except KeyboardInterrupt:
        print("keras-ssl: stopped", file=sys.stderr)
        status = 130
    raise SystemExit(status)


@contextlib.contextmanager
def _quiet_start() -> Iterator[None]:
    """Keeps what TensorFlow's libraries print while they load, and shows it only if they fail."""
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
