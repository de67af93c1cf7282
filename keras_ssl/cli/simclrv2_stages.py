"""The stages of `keras-ssl simclrv2`."""

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from keras_ssl.cli.distill_options import DistillOptions
from keras_ssl.cli.distill_student import distill, teacher_class_names, write_student
from keras_ssl.cli.finetune_classifier import (
    prepare,
    settings_of_run,
    train_classifier,
    write_classifier,
)
from keras_ssl.cli.finetune_options import FinetuneOptions
from keras_ssl.cli.simclrv2_options import SimCLRv2Options
from keras_ssl.presets.batch_size import LARGEST_DEFAULT

if TYPE_CHECKING:
    from rich.console import Console

    from keras_ssl.data import Source
    from keras_ssl.distribute import Strategy
    from keras_ssl.runs import Run


class Stages:
    """The stages of a run, each in its own directory. A stage with a `metrics.json` is not repeated.

    Args:
        settings: complete settings.
        train: images for pretraining and distillation. A share of their labels is used.
        test: labeled test images.
        run: run directory that contains those of the stages.
        console: where to print.
        strategy: distribution of all stages.
        rules: rules by which the images were read; see `keras_ssl.data.image_folder`.
    """

    def __init__(
        self,
        settings: SimCLRv2Options,
        train: "Source",
        test: "Source",
        run: "Run",
        console: "Console",
        strategy: "Strategy",
        rules: int,
    ):
        self.settings = settings
        self.images = train
        self.test = test
        self.run = run
        self.console = console
        self.strategy = strategy
        self.rules = rules

    def create(self, run: "Run", settings: dict[str, Any]):
        """Creates a run directory if it does not exist: the first worker does, the others wait."""
        from keras_ssl import distribute
        from keras_ssl.runs.directory import Run

        if distribute.is_chief(self.strategy) and not run.exists:
            Run.create(run.path, settings)
        distribute.gather(self.strategy, 0)

    def pretrain(self) -> "Run":
        """Starts or continues the pretraining, and returns its run.

        Raises:
            keras_ssl.callbacks.Interrupted: if a signal stopped it.
        """
        from keras_ssl.runs.directory import Run
        from keras_ssl.runs.pretrain import pretrain

        s = self.settings
        if s.pretrained is not None:
            return Run(s.pretrained)
        path = self.run.path / "pretrain"
        self.console.print(f"pretraining, no labels: {self.images}")
        if Run(path).exists:
            return pretrain(self.images, resume=path, strategy=self.strategy)
        return pretrain(self.images, s.preset(), path, strategy=self.strategy, knn_every=0)

    def train(self, pretrained: "Run", share: float) -> list[dict[str, Any]]:
        """Runs all stages of one share of the labels, and returns the rows of the table."""
        s = self.settings
        few = FinetuneOptions(
            run=pretrained.path,
            data=str(s.data),
            labels=share,
            epochs=s.finetune_epochs,
            min_steps=s.finetune_steps or 0,  # runs of earlier versions had no floor
            batch_size=s.finetune_batch_size,
            every=20,
            seed=s.seed,
        )
        scratch = self._finetune("supervised", pretrained, replace(few, from_scratch=True))
        linear = self._linear(pretrained, share, scratch)
        few = replace(few, from_layer=s.from_layer, optimizer=s.finetune_optimizer)
        teacher = self._finetune("fine-tuned", pretrained, few)
        precision = s.precision
        if precision == "auto":  # resolved when the pretraining started
            precision = pretrained.pretrain_settings[0].preset.precision
        common = DistillOptions(
            data=s.data,
            epochs=s.distill_epochs,
            batch_size=s.batch_size or LARGEST_DEFAULT,  # a number once the images are open
            optimizer=s.distill_optimizer,
            input_scale=s.input_scale,
            learning_rate=s.distill_learning_rate,
            weight_decay=s.distill_weight_decay,
            seed=s.seed,
            strategy=s.strategy,
            precision=precision,
            steps_per_execution=s.steps_per_execution,
        )
        again = replace(common, teacher=teacher.path, temperature=0.1)
        again = self._distill("self-distilled", share, again)
        small = replace(
            common,
            teacher=again.path,
            student=s.student or s.backbone,
            student_width=s.student_width or 1.0,
            temperature=1.0,
        )
        small = self._distill("small student", share, small)
        stages = {
            "from scratch": scratch,
            "linear probe": linear,
            "fine-tuned": teacher,
            "self-distilled": again,
            "small student": small,
        }
        columns = ("accuracy", "parameters", "flops", "bytes", "images_per_second")
        return [
            {"labels": share, "network": name, **{key: run.metrics[key] for key in columns}}
            for name, run in stages.items()
        ]

    def _reading(self) -> dict[str, Any]:
        """Returns how the images are read, for the `config.json` of a stage."""
        pixels = self.images.value_range
        return {"value_range": pixels and pixels.to_json(), "data_rules": self.rules}

    def _stage(self, name: str, share: float) -> "Run":
        from keras_ssl.runs.directory import Run

        return Run(self.run.path / f"{name.replace(' ', '-')}-{share:g}")

    def _is_done(self, run: "Run") -> bool:
        """Returns whether a stage is finished, and writes its export if only that is missing."""
        from keras_ssl import distribute
        from keras_ssl.runs.network_file import is_kept

        if not run.metrics:
            return False
        if distribute.is_chief(self.strategy) and is_kept(run.path):
            run.export()
        distribute.gather(self.strategy, 0)
        return True

    def _finetune(self, name: str, pretrained: "Run", command: FinetuneOptions) -> "Run":
        from keras_ssl import distribute

        run = self._stage(name, command.labels)
        if self._is_done(run):
            return run
        self.console.print(f"{name}, {command.labels:.0%} of the labels")
        with self.strategy.scope():
            prepared = prepare(pretrained.method(), self.images, self.test, command, self.console)
        images = {"class_names": self.images.class_names, **self._reading()}
        self.create(run, settings_of_run(command, prepared, run, images))
        result = train_classifier(prepared, run)
        self.console.print(
            f"{name}: {100 * result.accuracy:.1f}% after {result.settings['steps']:,} steps "
            f"({result.settings['epochs']:,} epochs)"
        )
        if distribute.is_chief(self.strategy):
            write_classifier(result, run)
        distribute.gather(self.strategy, 0)
        return run

    def _linear(self, pretrained: "Run", share: float, scratch: "Run") -> "Run":
        from keras_ssl import distribute, evaluate

        run = self._stage("linear probe", share)
        if run.metrics:
            return run
        self.create(run, {"labels": share, "run": str(pretrained.path)})
        if distribute.is_chief(self.strategy):
            shown = label_share(self.images, share, self.settings.seed)
            result = evaluate.linear(pretrained.encoder(), shown, self.test, inverse_l2=1.0)
            # It costs what the network from scratch costs: both are the encoder and a linear layer.
            measured = {"accuracy": result.accuracy, "result": result.to_dict()}
            run.add_metrics({**scratch.metrics, **measured})
        distribute.gather(self.strategy, 0)
        return run

    def _distill(self, name: str, share: float, command: DistillOptions) -> "Run":
        from keras_ssl import distribute

        run = self._stage(name, share)
        if self._is_done(run):
            return run
        self.console.print(f"{name}, {share:.0%} of the labels")
        settings = replace(command, out=run.path)
        images = {**teacher_class_names(settings), **self._reading()}
        self.create(run, {**asdict(settings), **images})
        student = distill(settings, self.images, run, self.strategy)
        if distribute.is_chief(self.strategy):
            write_student(student, self.test, run)
        distribute.gather(self.strategy, 0)
        return run


def label_share(train: "Source", share: float, seed: int) -> "Source":
    """Returns the images of a share of the labels, the same that `evaluate.finetune` selects.

    Raises:
        ValueError: if there are no labels, or `share` is out of range.
    """
    from keras_ssl import evaluate

    if train.labels is None:
        raise ValueError(
            "`simclrv2` needs labels of some images: class sub-folders, or arrays with labels. "
            f"Received: {train.name!r}, without labels"
        )
    return train.subset(evaluate.label_subset(train.labels, share, seed))
