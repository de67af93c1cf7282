"""`keras-ssl pretrain`: trains an encoder on images without labels, or resumes a run."""

import pathlib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, make_dataclass, replace
from typing import Annotated, Any

import tyro

from keras_ssl.cli.checks import check_data, check_least, check_strategy
from keras_ssl.cli.recipes import recipe_run
from keras_ssl.cli.words import option_value
from keras_ssl.presets import PRESETS, Preset, find_preset, option_owners
from keras_ssl.runs.paths import check_new, is_run, read_config
from keras_ssl.runs.preset_of_run import preset_of_run
from keras_ssl.runs.settings import PretrainSettings, read_pretrain_settings, resume_settings


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
    there if there is none: one command line for the first start and every restart. A
    larger --epochs lengthens the run: learning rate and momentum then follow the
    schedule of the longer run from the next step on."""
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

    def check(self):
        """Checks the options without importing TensorFlow; raises an error that names the wrong one."""
        check_strategy(self.strategy)
        check_least(0, knn_every=self.knn_every)
        self.preset.check()
        if self.channels not in (1, 3):
            raise ValueError(f"`channels` must be 1 or 3. Received: channels={self.channels!r}")
        if self.evaluate and self.preset.clip_options() is not None:
            raise ValueError(
                "--evaluate needs labeled images, and videos have no labels. Expected, after training: "
                f"keras-ssl evaluate RUN --data LABELED. Received: --evaluate with {self.method}"
            )
        if self.knn_data is not None:
            check_data(self.knn_data, "--knn-data")
        if self.resume is not None and (is_run(self.resume) or self.data is None):
            resume_settings(read_config(self.resume), self.resume, self._given(), self._explicit())
        elif self.data is None and not self.smoke:
            raise ValueError(
                "`pretrain` needs images. Expected: `data` (--data DATA), or `resume` (--resume RUN). "
                "Received: neither"
            )
        elif self.resume is None and self.out is not None and self.recipe is None:
            check_new(self.out)
        if self.data is not None and not self.smoke:
            check_data(self.data)

    def _given(self) -> PretrainSettings:
        values = {each.name: getattr(self, each.name) for each in fields(PretrainSettings)}
        return PretrainSettings(**{**values, "preset": self._preset()})

    def _preset(self) -> Preset:
        return self.preset.shrink() if self.smoke else self.preset

    def _explicit(self) -> dict[str, Any]:
        """Returns the settings that the user gave: those that differ from the defaults.

        These are the settings of the run to resume, see `with_options_of_method`.
        """
        saved = None if self.recipe else settings_of_run(self.resume)
        default = saved or PretrainSettings()
        of_run = {each.name for each in fields(PretrainSettings)} - {"data", "strategy", "preset"}
        pairs = {name: (getattr(self, name), getattr(default, name)) for name in sorted(of_run)}
        if saved is not None and saved.preset.method == self.preset.method:
            preset = self._preset()
            pairs |= {
                name: (getattr(preset, name), getattr(saved.preset, name))
                for name in preset.options()
            }
        return {name: given for name, (given, own) in pairs.items() if given != own}

    def execute(self) -> int:
        """Trains, and returns the exit status."""
        from keras_ssl import callbacks, distribute
        from keras_ssl.cli.smoke import moving_noise, noise
        from keras_ssl.runs.pretrain import pretrain

        strategy = distribute.strategy(self.strategy)
        images: Any = self.data
        if self.smoke:
            images = noise() if self.preset.clip_options() is None else moving_noise()
        out, resume = self.out, self.resume
        if self.recipe is not None and resume is None:  # a recipe starts or continues its run
            out, resume = None, out or recipe_run(self.recipe, self.smoke)
        try:
            run = pretrain(images, self._preset(), out, resume, strategy, **self._explicit())
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
    resumed = option_value(words, "resume")
    saved = None if default.recipe or option_value(words, "recipe") else settings_of_run(resumed)
    if saved is not None:
        own = {each.name: getattr(saved, each.name) for each in fields(PretrainSettings)}
        kept = {"data": default.data, "strategy": default.strategy}  # these may differ each time
        default = replace(default, **{**own, **kept})
    kind = _preset_class(words, resumed)
    preset = default.preset
    if kind is not None and kind is not type(preset):
        if recipe := option_value(words, "recipe"):
            raise ValueError(
                f"The settings of a recipe are for one method. Expected: --method {preset.method}, "
                f"or none. Received: --recipe {recipe} with {kind.method}"
            )
        preset = kind()
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
    field_of_preset = [("preset", annotation, field(default=preset))]
    command = make_dataclass("Pretrain", field_of_preset, bases=(Pretrain,), frozen=True)
    command.__doc__ = f"{Pretrain.__doc__}\n\nMethods:\n\n{_list_methods()}"
    return command(**values)


def settings_of_run(path: str | pathlib.Path | None) -> PretrainSettings | None:
    """Returns the settings of a pretraining run, or `None` if there is no such run."""
    try:
        return read_pretrain_settings(read_config(path or ""), pathlib.Path(path or ""))[0]
    except (OSError, ValueError, KeyError):
        return None


def _preset_class(words: Sequence[str], resumed: str | None) -> type[Preset] | None:
    """Returns the preset class of `--method` or of the run to resume; `None` without either."""
    if method := option_value(words, "method"):
        return find_preset(method)
    try:
        config = read_config(resumed or "")
    except (OSError, ValueError, KeyError):
        return None
    return preset_of_run(config, pathlib.Path(resumed or "")) if "method" in config else None


def _list_methods() -> str:
    lines = [str(preset.__doc__).splitlines()[0] for preset in PRESETS.values()]
    return "\n".join(f"- {name}: {line}" for name, line in zip(PRESETS, lines, strict=True))
