"""The program `keras-ssl`: reads a command line and runs its command."""

import contextlib
import functools
import importlib
import operator
import os
import pathlib
import select
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import tyro

from keras_ssl.cli.error_message import describe_error
from keras_ssl.cli.help_text import joined_lines
from keras_ssl.cli.recipes import list_recipes, load_recipe, read_recipe
from keras_ssl.cli.resumed import defaults_of_run
from keras_ssl.cli.type_checks import quick_type_checks
from keras_ssl.cli.words import option_value

_PLACES = {
    "pretrain": ("keras_ssl.cli.pretrain", "Pretrain"),
    "evaluate": ("keras_ssl.cli.evaluate", "Evaluate"),
    "finetune": ("keras_ssl.cli.finetune", "Finetune"),
    "distill": ("keras_ssl.cli.distill", "Distill"),
    "simclrv2": ("keras_ssl.cli.simclrv2", "SimCLRv2"),
    "export": ("keras_ssl.cli.export", "Export"),
    "import": ("keras_ssl.cli.import_weights", "ImportWeights"),
    "embed": ("keras_ssl.cli.embed", "Embed"),
    "predict": ("keras_ssl.cli.predict", "Predict"),
    "search": ("keras_ssl.cli.search", "Search"),
    "pictures": ("keras_ssl.cli.pictures", "Pictures"),
    "demo": ("keras_ssl.cli.demo", "Demo"),
}


class _Commands(Mapping[str, type]):
    """The class of each command; its module is imported when the command is looked up."""

    def __getitem__(self, name: str) -> type:
        module, kind = _PLACES[name]
        return getattr(importlib.import_module(module), kind)

    def __iter__(self) -> Iterator[str]:
        return iter(_PLACES)

    def __len__(self) -> int:
        return len(_PLACES)


COMMANDS: Mapping[str, type] = _Commands()
_DESCRIPTION = (
    "Self-supervised pretraining for Keras: pretrain, evaluate, distill, export. "
    "keras-ssl --version prints the version."
)

_OUTPUT_CLOSED = 141  # the shell's convention: 128 + SIGPIPE


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command and exits: 0 if it succeeded, 1 on an error, 130 or 143 if a signal stopped it.

    Args:
        arguments: the words after the program's name; by default those of `sys.argv`.

    Example:
        >>> main(["pretrain", "--data", "digits", "--epochs", "2"])
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    with _closed_output():
        raise SystemExit(_run(words))


def _run(words: Sequence[str]) -> int:
    """Returns the exit status of a command."""
    try:
        command = parse(words)
        command.check()  # before TensorFlow is imported, which takes seconds
        with _quiet_start():
            import tensorflow as tf

            # Not the logical ones: with several workers, these must not exist before the workers meet.
            tf.config.list_physical_devices()
        return command.execute()
    except Exception as error:
        message = describe_error(error)
        if message is None or os.environ.get("KERAS_SSL_TRACEBACK"):
            raise
        if isinstance(error, BrokenPipeError) and _is_reader_gone():
            raise
        print(f"keras-ssl: error: {message}", file=sys.stderr)
        print("(KERAS_SSL_TRACEBACK=1 shows the traceback)", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("keras-ssl: stopped", file=sys.stderr)
        return 130


def _is_reader_gone() -> bool:
    """Returns whether the reader of the output, such as `head`, has ended."""
    # An output that is no file, or a system without `poll`.
    with contextlib.suppress(OSError, ValueError, AttributeError):
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
        return any(event & select.POLLERR for _, event in poll.poll(0))
    return False


@contextlib.contextmanager
def _closed_output() -> Iterator[None]:
    """Exits without a message if the reader of the output has ended."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        if not _is_reader_gone():
            raise
        with open(os.devnull, "w") as nowhere:  # Python writes the rest when it exits
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        raise SystemExit(_OUTPUT_CLOSED) from None


def run_recipe(path: str) -> None:
    """Runs a recipe with the options of the command line: `python recipes/<name>.py --epochs 5`."""
    recipe = read_recipe(pathlib.Path(path))["RECIPE"]
    command = next(name for name, kind in COMMANDS.items() if isinstance(recipe, kind))
    main([command, "--recipe", path, *sys.argv[1:]])


def parse(words: Sequence[str]) -> Any:
    """Returns the command that the words of a command line describe.

    Raises:
        ValueError: if a method or recipe is unknown, or an option belongs to another method.
        SystemExit: with status 0 after `--help`, `--version` or a list of recipes; with 2 if the words
            are invalid.
    """
    if list(words) in (["--version"], ["-V"]):
        import importlib.metadata

        print(f"keras_ssl {importlib.metadata.version('keras_ssl')}")
        raise SystemExit(0)
    name = words[0] if words else ""
    if name not in COMMANDS:
        commands = [Annotated[COMMANDS[each], tyro.conf.subcommand(each)] for each in COMMANDS]
        any_command: Any = functools.reduce(operator.or_, commands)
        return tyro.cli(
            any_command,
            prog="keras-ssl",
            description=_DESCRIPTION,
            args=list(words),
        )
    kind, default = COMMANDS[name], None
    if name in ("pretrain", "simclrv2") and (recipe := option_value(words, "recipe")) is not None:
        if not recipe:
            print(list_recipes(name, kind))
            raise SystemExit(0)
        default = load_recipe(recipe, name, kind)
    if name == "pretrain":
        from keras_ssl.cli.pretrain import with_options_of_method

        default = with_options_of_method(words, default or kind())
        kind = type(default)
    resumed = option_value(words, "resume")
    if resumed and default is None and hasattr(kind, "read"):
        default = defaults_of_run(kind, resumed)
    options: dict[str, Any] = {} if default is None else {"default": default}
    with quick_type_checks(), joined_lines():
        return tyro.cli(
            kind,
            prog=f"keras-ssl {name}",
            description=kind.__doc__,
            args=list(words[1:]),
            config=(tyro.conf.OmitArgPrefixes,),
            **options,
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
