"""`keras-ssl simclrv2`: pretrains, fine-tunes with few labels and distills, with a table at the end."""

import pathlib
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from keras_ssl.cli.checks import check_data, check_strategy
from keras_ssl.cli.distill import Distill, distill, teacher_class_names, write_student
from keras_ssl.cli.finetune import (
    Finetune,
    default_out,
    finetune,
    print_label_counts,
    write_classifier,
)
from keras_ssl.cli.finetune_length import MIN_STEPS
from keras_ssl.cli.recipes import recipe_run
from keras_ssl.cli.simclrv2_table import show
from keras_ssl.presets import Preset, SimCLR, SimCLRMemory
from keras_ssl.presets.batch_size import LARGEST_DEFAULT, default_batch_size
from keras_ssl.runs.paths import absolute_path, read_config
from keras_ssl.runs.settings import check_unchanged, read_settings

if TYPE_CHECKING:
    from rich.console import Console

    from keras_ssl.data import Source
    from keras_ssl.distribute import Strategy
    from keras_ssl.runs import Run

_WITH_WIDTH = ("resnet", "small-resnet", "tiny")  # networks whose number of filters can change


@dataclass(frozen=True)
class SimCLRv2:
    """Pretrain, fine-tune with few labels, and distill into a small student.

    Source: Chen et al. 2020, "Big Self-Supervised Models are Strong Semi-Supervised Learners",
    figure 3.
    """

    data: str | None = None
    """Labeled images, as for pretrain. Only a share of the labels is used."""
    data_dir: pathlib.Path | None = None
    """Directory of TensorFlow Datasets."""
    channels: int = 3
    """Channels of the images of a folder: 3, or 1 for grayscale."""
    verify: bool = True
    """Decode all files of a folder before training, and leave out those that are
    damaged."""
    out: pathlib.Path | None = None
    """Run directory to create. Default: runs/simclrv2-<data>-<date and time>."""
    resume: pathlib.Path | None = None
    """Run directory of an interrupted run to continue; its own settings apply."""
    recipe: str | None = None
    """Name of a recipe, or path of a recipe file: its settings become the defaults.
    --recipe alone lists them."""
    pretrained: pathlib.Path | None = None
    """Run directory of a pretraining to use instead of a new one."""
    labels: tuple[float, ...] = (0.01, 0.1)
    """Shares of the labels. Each is fine-tuned and distilled separately."""
    backbone: str = "resnet18"
    """Network that is pretrained and becomes the teacher, as for pretrain."""
    width: float = 1.0
    """Factor on its number of filters."""
    student: str | None = None
    """The small student. Default: the same architecture as the teacher."""
    student_width: float | None = None
    """Factor on the number of filters of the student: relative to the teacher's, 0.5 by
    default; with --student, on those of that network, 1 by default."""
    input_scale: float = 255
    """Factor on pixels before some networks, as for pretrain. Runs of earlier versions
    keep 1."""
    image_size: int | None = None
    """Side of the views in pixels. Default: as for pretrain."""
    policy: str | None = None
    """How the views of pretraining are made. Default: as for pretrain."""
    head_layers: int = 3
    """Layers of the projection head; 0 for none."""
    from_layer: int = 1
    """Layers of the projection head that fine-tuning keeps."""
    queue_size: int = 0
    """Keys of a momentum memory (--method simclr-memory of pretrain); 0 for plain
    SimCLR."""
    momentum: float = 0.999
    """With --queue-size: momentum of the target network."""
    temperature: float | None = None
    """Temperature of the contrastive loss. Default: 0.5."""
    epochs: int = 100
    """Passes over the data in pretraining."""
    optimizer: str | None = None
    """Optimizer of pretraining, as for pretrain. Default: auto."""
    learning_rate: float | None = None
    """Pretraining: peak of the learning-rate schedule. Default: the reference's."""
    scaling: str = "none"
    """Factor on --learning-rate, as for pretrain."""
    weight_decay: float | None = None
    """Weight decay of pretraining. Default: the reference's for the optimizer."""
    warmup_epochs: float = 10
    """Pretraining: epochs of linear warm-up, at most a tenth of all epochs."""
    finetune_epochs: int | None = None
    """Passes over the labeled images in fine-tuning and in training from scratch.
    Default: as for finetune."""
    finetune_steps: int | None = None
    """Fewest steps of fine-tuning: more epochs than --finetune-epochs are trained if
    they would be fewer steps; twice as many from scratch; 0 for no floor. Default:
    1000."""
    finetune_batch_size: int = 128
    """Images per step in fine-tuning and in training from scratch."""
    finetune_optimizer: str | None = None
    """Optimizer of fine-tuning. Default: as for finetune."""
    distill_epochs: int = 100
    """Passes over the data in each distillation."""
    distill_optimizer: str = "sgd"
    """Optimizer of distillation: lars, sgd or adam."""
    distill_learning_rate: float | None = None
    """Distillation: peak of the learning-rate schedule. Default: as for distill."""
    distill_weight_decay: float | None = None
    """Weight decay of distillation. Default: as for distill."""
    batch_size: int | None = None
    """Global batch size of pretraining and distillation. Default: as for pretrain."""
    chunks: int = 1
    """Parts of each device's batch in pretraining, as for pretrain."""
    seed: int = 0
    """Random seed."""
    strategy: str = "auto"
    """Distribution of pretraining and distillation, as for pretrain."""
    precision: str = "float32"
    """float32, mixed_bfloat16, mixed_float16, or auto, as for pretrain."""
    steps_per_execution: int = 1
    """Training steps per call of the compiled function."""
    smoke: bool = False
    """Train for a few steps on noise with a small network, to check that everything
    runs."""

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
        train, test = (
            noise()
            if self.smoke
            else open_labeled(*source, console, verify=settings.verify, strict=True, rules=rules)
        )
        for share in settings.labels:  # fails before the pretraining
            label_share(train, share, settings.seed)
        print_label_counts(train, settings.labels, console)
        if settings.batch_size is None:
            batch_size = default_batch_size(len(train), strategy.num_replicas_in_sync)
            settings = replace(settings, batch_size=batch_size)
            console.print(f"Batch size: {settings.batch_size}, the default for {len(train)} images")
        stages = Stages(settings, train, test, run, console, strategy)
        stages.create(run, {**asdict(settings), "data_rules": rules})
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
        expected = "--resume takes the run directory of `keras-ssl simclrv2`."
        required = ("labels", "student_width", "distill_epochs")
        saved = read_settings(SimCLRv2, read_config(path), path, required, expected)
        given = asdict(self._with_student_width())
        defaults = asdict(SimCLRv2()._with_student_width())
        check_unchanged(asdict(saved), {**given, "out": None}, {**defaults, "out": None})
        data, data_dir = self.data or saved.data, self.data_dir or saved.data_dir
        return replace(saved, data=data, data_dir=data_dir, out=path, strategy=self.strategy)

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

    def preset(self) -> Preset:
        """Returns the preset of the pretraining."""
        shared: dict[str, Any] = {
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "backbone": self.backbone,
            "width": self.width,
            "image_size": self.image_size,
            "policy": self.policy,
            "optimizer": self.optimizer or "auto",
            "input_scale": self.input_scale,
            "learning_rate": self.learning_rate,
            "scaling": self.scaling,
            "weight_decay": self.weight_decay,
            "warmup_epochs": self.warmup_epochs,
            "head_layers": self.head_layers,
            "seed": self.seed,
            "precision": self.precision,
            "chunks": self.chunks,
            "steps_per_execution": self.steps_per_execution,
        }
        if self.temperature is not None:
            shared["temperature"] = self.temperature
        if self.queue_size:
            shared |= {"queue_size": self.queue_size, "momentum": self.momentum}
            return SimCLRMemory(**shared)
        return SimCLR(**shared)


class Stages:
    """The stages of a run, each in its own directory. A stage with a `metrics.json` is not repeated.

    Args:
        settings: complete settings.
        train: images for pretraining and distillation. A share of their labels is used.
        test: labeled test images.
        run: run directory that contains those of the stages.
        console: where to print.
        strategy: distribution of all stages.
    """

    def __init__(
        self,
        settings: SimCLRv2,
        train: "Source",
        test: "Source",
        run: "Run",
        console: "Console",
        strategy: "Strategy",
    ):
        self.settings = settings
        self.images = train
        self.test = test
        self.run = run
        self.console = console
        self.strategy = strategy

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
        few = Finetune(
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
        common = Distill(
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

    def _finetune(self, name: str, pretrained: "Run", command: Finetune) -> "Run":
        from keras_ssl import distribute

        run = self._stage(name, command.labels)
        if self._is_done(run):
            return run
        self.console.print(f"{name}, {command.labels:.0%} of the labels")
        names = {"class_names": self.images.class_names}
        self.create(run, {**asdict(replace(command, out=run.path)), **names})
        with self.strategy.scope():
            result = finetune(pretrained.method(), self.images, self.test, command, self.console)
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

    def _distill(self, name: str, share: float, command: Distill) -> "Run":
        from keras_ssl import distribute

        run = self._stage(name, share)
        if self._is_done(run):
            return run
        self.console.print(f"{name}, {share:.0%} of the labels")
        settings = replace(command, out=run.path)
        self.create(run, {**asdict(settings), **teacher_class_names(settings)})
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
