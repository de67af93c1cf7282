"""`keras-ssl pretrain`: trains an encoder on images without labels, or resumes a run."""

import json
import pathlib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, make_dataclass
from typing import Annotated, Any

import tyro

from keras_ssl.cli.recipes import recipe_run
from keras_ssl.cli.words import option_value
from keras_ssl.presets import PRESETS, find_preset, option_owners
from keras_ssl.runs.settings import PretrainSettings


@dataclass(frozen=True)
class Pretrain(PretrainSettings):
    """Train an encoder on images without labels, into a run directory."""

    method: str = "simclr"
    """Self-supervised method; see above. --method NAME --help shows its options and
    defaults."""
    out: pathlib.Path | None = None
    """Run directory to create. Default: runs/<method>-<data>-<date and time>."""
    resume: pathlib.Path | None = None
    """Run directory to continue; its own settings apply. With --data, a run starts
    there if there is none: one command line for the first start and every restart."""
    recipe: str | None = None
    """Name of a recipe, or path of a recipe file: its settings become the defaults.
    --recipe alone lists them."""
    evaluate: bool = False
    """When training has finished, evaluate and export the encoder as `keras-ssl
    evaluate` and `export` do."""
    baselines: bool = False
    """With --evaluate: also measure raw pixels and the untrained encoder."""
    labels_per_class: tuple[int, ...] = (1, 5, 10)
    """With --evaluate: numbers of labeled images per class."""
    smoke: bool = False
    """Train for a few steps on noise with a small network, to check that everything
    runs."""

    def execute(self) -> int:
        """Trains, and returns the exit status."""
        from keras_ssl import callbacks, distribute
        from keras_ssl.cli.smoke import noise
        from keras_ssl.runs.pretrain import pretrain

        strategy = distribute.strategy(self.strategy)
        images: Any = noise() if self.smoke else self.data
        preset = self.preset.shrink() if self.smoke else self.preset
        out, resume = self.out, self.resume
        if self.recipe is not None and resume is None:  # a recipe starts or continues its run
            out, resume = None, out or recipe_run(self.recipe, self.smoke)
        try:
            run = pretrain(
                images,
                preset,
                out,
                resume,
                strategy,
                data_dir=self.data_dir,
                channels=self.channels,
                verify=self.verify,
                knn_every=self.knn_every,
                knn_data=self.knn_data,
            )
        except callbacks.Interrupted as stop:
            return 128 + stop.signal  # the shell's convention
        if distribute.is_chief(strategy):
            if self.evaluate:
                settings, _ = run.pretrain_settings  # also if it was resumed without them
                run.evaluate(
                    images if self.smoke else str(settings.data),
                    self.labels_per_class,
                    baselines=self.baselines,
                    data_dir=settings.data_dir,
                    verify=settings.verify,
                )
                print(f"SavedModel: {run.export()}")
            print(f"  keras-ssl evaluate {run.path} --data DATA\n  keras-ssl export {run.path}")
        distribute.gather(strategy, 0)  # the other workers wait until it is done
        return 0


def with_options_of_method(words: Sequence[str], default: Pretrain) -> Pretrain:
    """Returns the default settings for a command line, with the options of its method.

    The method is that of `--method`, else that of the run to `--resume`, else that of the recipe.

    Args:
        words: words of the command line.
        default: settings of a recipe, or the defaults.

    Raises:
        ValueError: if the method is unknown or not that of the recipe, or an option belongs to another
            method.
    """
    method = option_value(words, "method") or _method_of_run(option_value(words, "resume"))
    preset = default.preset
    if method and find_preset(method) is not type(preset):
        if recipe := option_value(words, "recipe"):
            raise ValueError(
                f"The settings of a recipe are for one method. Expected: --method {preset.method}, "
                f"or none. Received: --recipe {recipe} with {method}"
            )
        preset = find_preset(method)()
    for number, word in enumerate(words):
        option = word.removeprefix("--").partition("=")[0].removeprefix("no-")
        name = option.replace("-", "_")
        owners = option_owners(name) if word.startswith("--") else []
        if owners and name not in preset.options():
            value = [each for each in words[number + 1 : number + 2] if not each.startswith("--")]
            raise ValueError(
                f"--method {preset.method} has no --{option}: that is an option of "
                f"{', '.join(owners)}. Received: {' '.join([word, *value])}"
            )
    # `Pretrain` with the preset's own class, from which the options are made.
    values = {each.name: getattr(default, each.name) for each in fields(default)}
    values |= {"preset": preset, "method": preset.method}
    annotation: Any = Annotated[type(preset), tyro.conf.arg(name=preset.method)]  # type: ignore
    own = [("preset", annotation, field(default=preset))]
    kind = make_dataclass("Pretrain", own, bases=(Pretrain,), frozen=True)
    kind.__doc__ = f"{Pretrain.__doc__}\n\nMethods:\n\n{_list_methods()}"
    return kind(**values)


def _method_of_run(path: str | None) -> str | None:
    """Returns the method of a run, or `None` if there is no such run of `pretrain`."""
    try:
        return json.loads(pathlib.Path(path or "", "config.json").read_text())["settings"]["method"]
    except (OSError, ValueError, KeyError):
        return None


def _list_methods() -> str:
    lines = [str(preset.__doc__).splitlines()[0] for preset in PRESETS.values()]
    return "\n".join(f"- {name}: {line}" for name, line in zip(PRESETS, lines, strict=True))
