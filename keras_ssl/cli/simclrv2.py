"""`keras-ssl simclrv2`: pretrains, fine-tunes with few labels and distills, with a table at the end."""

import pathlib
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from keras_ssl.cli.checks import check_data, check_strategy, check_value_range
from keras_ssl.cli.export import load_value_range
from keras_ssl.cli.finetune import default_out
from keras_ssl.cli.finetune_classifier import print_label_counts
from keras_ssl.cli.finetune_length import MIN_STEPS
from keras_ssl.cli.recipes import recipe_run
from keras_ssl.cli.simclrv2_options import SimCLRv2Options
from keras_ssl.cli.simclrv2_stages import Stages, label_share
from keras_ssl.cli.simclrv2_table import show
from keras_ssl.presets.batch_size import default_batch_size
from keras_ssl.runs.paths import absolute_path, read_config
from keras_ssl.runs.settings import check_unchanged, read_settings

if TYPE_CHECKING:
    from keras_ssl.data.scaled import Range
    from keras_ssl.runs import Run

_WITH_WIDTH = ("resnet", "small-resnet", "tiny")  # networks whose number of filters can change


@dataclass(frozen=True)
class SimCLRv2(SimCLRv2Options):
    """Pretrain, fine-tune with few labels, and distill into a small student.

    Source: Chen et al. 2020, "Big Self-Supervised Models are Strong Semi-Supervised Learners",
    figure 3.
    """

    def check(self):
        """Checks the options without importing TensorFlow; raises an error that names the wrong one."""
        check_strategy(self.strategy)
        if self.resume:
            self._resume()
        elif not self.smoke:
            check_data(self._complete().data)
            self.preset().check()

    def execute(self) -> int:
        """Runs the stages that are not done yet, and prints the table; returns the exit status."""
        from keras_ssl import callbacks, distribute
        from keras_ssl.cli.smoke import noise
        from keras_ssl.data.image_folder import RULES
        from keras_ssl.data.open_source import open_labeled
        from keras_ssl.data.scaled import scale
        from keras_ssl.runs.console import describe_stop, open_console
        from keras_ssl.runs.directory import Run

        command = self._shrink() if self.smoke else self
        if self.recipe is not None and self.resume is None:  # a recipe starts or continues its run
            out = self.out or recipe_run(self.recipe, self.smoke)
            command = replace(command, out=out, resume=out if Run(out).exists else None)
        settings = command._resume() if command.resume else command._complete()
        run = Run(str(settings.out))
        if not command.resume:
            run.check_new()
        strategy = distribute.strategy(settings.strategy)
        console = open_console(quiet=not distribute.is_chief(strategy))
        source = (str(settings.data), settings.data_dir, settings.channels, settings.seed)
        # A run that goes on finds and reads its images as when it started.
        rules = run.config.get("data_rules", 1) if command.resume else RULES
        pixels = settings._pixels(run)
        if self.smoke:
            train, test = (scale(images, pixels) for images in noise())
        else:
            train, test = open_labeled(
                *source,
                console,
                verify=settings.verify,
                strict=True,
                value_range=pixels,
                rules=rules,
            )
        for share in settings.labels:  # fails before the pretraining
            label_share(train, share, settings.seed)
        print_label_counts(train, settings.labels, console)
        if settings.batch_size is None:
            batch_size = default_batch_size(len(train), strategy.num_replicas_in_sync)
            settings = replace(settings, batch_size=batch_size)
            console.print(f"Batch size: {settings.batch_size}, the default for {len(train)} images")
        stages = Stages(settings, train, test, run, console, strategy, rules)
        measured = train.value_range and train.value_range.to_json()
        images = {"measured_range": measured, "data_rules": rules}
        stages.create(run, {**asdict(settings), **images})
        try:
            pretrained = stages.pretrain()
            rows = [row for share in settings.labels for row in stages.train(pretrained, share)]
        except callbacks.Interrupted as stop:
            console.print(describe_stop(stop.step, f"keras-ssl simclrv2 --resume {run.path}"))
            return 128 + stop.signal
        if distribute.is_chief(strategy):
            run.add_metrics({"rows": rows})
            show(rows, console)
            console.print(f"Written: {run.path / 'metrics.json'}")
        return 0

    def _pixels(self, run: "Run") -> "Range":
        """Returns the pixel values that become 0 and 1: the run's own, if it has started."""
        if run.exists:  # runs of earlier versions read the range of the type
            return run.value_range or "full"
        if self.pretrained is not None:
            return load_value_range(self.pretrained) or "full"
        return self.value_range

    def _complete(self) -> "SimCLRv2":
        if self.data is None and not self.smoke:
            raise ValueError("`simclrv2` needs images. Expected: --data DATA. Received: none")
        if not self.labels:
            raise ValueError("--labels must list at least one share. Received: none")
        if self.pretrained is None and not 0 <= self.from_layer <= self.head_layers:
            raise ValueError(
                "--from-layer must lie in [0, --head-layers]. Received: "
                f"--from-layer {self.from_layer}, --head-layers {self.head_layers}"
            )
        if self.pretrained is not None and self.value_range != "full":
            raise ValueError(
                "The images are read with the value range of the pretrained run. Expected: "
                f"--pretrained without --value-range. Received: --value-range {self.value_range}"
            )
        check_value_range(self.value_range)
        if self.finetune_steps is not None and self.finetune_steps < 0:
            raise ValueError(
                f"--finetune-steps must be at least 0. Received: {self.finetune_steps}"
            )
        return replace(
            self._with_student_width(),
            data=absolute_path(self.data),
            data_dir=self.data_dir and self.data_dir.absolute(),
            pretrained=self.pretrained and self.pretrained.absolute(),
            out=default_out("simclrv2", self.data, self.out),
            finetune_steps=MIN_STEPS if self.finetune_steps is None else self.finetune_steps,
        )

    def _with_student_width(self) -> "SimCLRv2":
        """Returns a copy whose `student_width` is the factor on the student's own filters."""
        width = self.student_width
        if width is not None and width <= 0:
            raise ValueError(f"--student-width must be positive. Received: {width}")
        if self.student is None:
            width = (0.5 if width is None else width) * self.width
        network = self.student or self.backbone
        if width not in (None, 1.0) and not network.lower().startswith(_WITH_WIDTH):
            raise ValueError(
                "The small student needs a network of its own, because keras.applications have a fixed "
                "width. Expected: --student NAME, without --student-width. "
                f"Received: --backbone {self.backbone}, --student {self.student}, a width of {width:g}"
            )
        return replace(self, student_width=1.0 if width is None else width)

    def _resume(self) -> "SimCLRv2":
        path = pathlib.Path(str(self.resume))
        saved = self.read(path)
        # Without a recipe, the run's settings are the defaults, see `defaults_of_run`.
        defaults = saved if self.recipe is None else SimCLRv2()._with_student_width()
        given = self if self.student_width == saved.student_width else self._with_student_width()
        unnamed = {"out": None}
        check_unchanged(asdict(saved), asdict(given) | unnamed, asdict(defaults) | unnamed)
        return replace(
            saved,
            data=absolute_path(self.data or saved.data),
            data_dir=self.data_dir or saved.data_dir,
            out=path,
            strategy=self.strategy,
        )

    @classmethod
    def read(cls, path: pathlib.Path) -> "SimCLRv2":
        """Returns the settings of a run.

        Raises:
            FileNotFoundError: if there is no run.
            ValueError: if it is a run of another command.
        """
        required = ("labels", "student_width", "distill_epochs")
        expected = "--resume takes the run directory of `keras-ssl simclrv2`."
        return read_settings(cls, read_config(path), path, required, expected)

    def _shrink(self) -> "SimCLRv2":
        small: dict[str, Any] = {
            "batch_size": 16,
            "finetune_batch_size": 8,
            "chunks": 1,
            "image_size": 32,
        }
        small |= {"backbone": "tiny", "student": "tiny", "width": 0.25, "student_width": 0.125}
        small |= {"epochs": 2, "finetune_epochs": 1, "distill_epochs": 1, "warmup_epochs": 0}
        small |= {"finetune_steps": 0}
        queue_size = min(self.queue_size, 24)
        return replace(self, labels=(0.5,), queue_size=queue_size, **small)
