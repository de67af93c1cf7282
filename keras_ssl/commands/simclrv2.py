"""`keras-ssl simclrv2`: pretrain, fine-tune with few labels, distil; with a table at the end."""

import pathlib
import time
from dataclasses import asdict, replace
from typing import Any

from rich.console import Console
from rich.table import Table

from keras_ssl import callbacks, cli, distribute, evaluate, run_settings
from keras_ssl.commands import distill, finetune
from keras_ssl.commands import pretrain as pretraining
from keras_ssl.commands.console import open_console, report_skipped
from keras_ssl.commands.evaluate import set_aside
from keras_ssl.commands.export import load_backbone, load_method
from keras_ssl.data import Source
from keras_ssl.run import Run
from keras_ssl.saved_settings import refuse_others, saved_settings
from keras_ssl.sources import opened


def run(command: cli.SimCLRv2) -> int:
    """Runs the stages that are not done yet, each in a directory of its own, and shows the table.

    Source: Chen et al. 2020, "Big Self-Supervised Models are Strong Semi-Supervised Learners",
    figure 3.
    """
    settings = _resumed(command) if command.resume else _completed(command)
    whole = Run(str(settings.out))
    if not command.resume:
        finetune.refuse_existing(whole.path)
    console = open_console()
    train, test = opened(str(settings.data), settings.data_dir, settings.channels)
    report_skipped(console, train, test)
    if test is None:
        train, test = set_aside(train, settings.seed)
        console.print(f"No test images of their own: {len(test)} of the images were set aside.")
    for share in settings.labels:  # what cannot be fine-tuned on is refused before the pretraining
        labelled(train, share, settings.seed)
    if not command.resume:
        Run.create(whole.path, asdict(settings))
    stages = Stages(settings, train, test, whole, console)
    try:
        pretrained = stages.pretrained()
        rows = []
        for share in settings.labels:
            rows += stages.of_labels(pretrained, share)
    except callbacks.Interrupted as stop:
        console.print(f"Stopped after step {stop.step}; everything is saved. To go on:")
        console.print(f"  keras-ssl simclrv2 --resume {whole.path}")
        return pretraining.STOPPED + stop.signal
    whole.add_metrics({"rows": rows})
    show(rows, console)
    console.print(f"Written: {whole.path / 'metrics.json'}")
    return 0


class Stages:
    """The stages of a run; one whose metrics.json is there is done, and is not repeated.

    Args:
        settings: of the run, completed.
        train: images to pretrain and distil on, a share of whose labels is used.
        test: labelled images.
        run: directory of the whole; each stage has its own within.
        console: where to print.
    """

    def __init__(
        self, settings: cli.SimCLRv2, train: Source, test: Source, run: Run, console: Console
    ):
        self.settings = settings
        self.train = train
        self.test = test
        self.run = run
        self.console = console

    def pretrained(self) -> Run:
        """Returns the run directory of the pretraining, which it begins, or goes on with.

        Raises:
            keras_ssl.callbacks.Interrupted: if a signal stopped it.
        """
        if self.settings.pretrained is not None:
            return Run(self.settings.pretrained)
        own = Run(self.run.path / "pretrain")
        s = self.settings
        settings = cli.Pretrain(
            method="simclr",
            data=s.data,
            data_dir=s.data_dir,
            out=own.path,
            epochs=s.epochs,
            batch_size=s.batch_size,
            backbone=s.backbone,
            width=s.width,
            optimizer=s.optimizer,
            learning_rate=s.learning_rate,
            weight_decay=s.weight_decay,
            warmup_epochs=s.warmup_epochs,
            image_size=s.image_size,
            channels=s.channels,
            temperature=s.temperature,
            head_layers=s.head_layers,
            seed=s.seed,
            precision=s.precision,
            knn_every=0,
        )
        there = own if own.is_begun else None
        if there is not None:
            settings, _ = run_settings.of_run(own)
        strategy = distribute.strategy(s.strategy)
        begun = pretraining.begun(settings, there, self.train, None, strategy)
        model, settings, own, monitors = begun
        self.console.print(f"pretraining, no labels: {self.train}")
        pretraining.fitted(model, settings, own, self.train, monitors)
        return own

    def of_labels(self, pretrained: Run, share: float) -> list[dict[str, Any]]:
        """Returns the rows of one share of the labels."""
        s = self.settings
        few = cli.Finetune(
            run=pretrained.path,
            data=str(s.data),
            labels=share,
            epochs=s.finetune_epochs,
            every=20,
            seed=s.seed,
        )
        scratch = self._finetuned("supervised", pretrained, replace(few, from_scratch=True))
        linear = self._linear(pretrained, share, scratch)
        teacher = self._finetuned("fine-tuned", pretrained, replace(few, from_layer=s.from_layer))
        common = cli.Distill(
            data=s.data,
            epochs=s.distill_epochs,
            batch_size=s.batch_size,
            seed=s.seed,
            strategy=s.strategy,
            precision=s.precision,
        )
        again = self._distilled(
            "self-distilled", share, replace(common, teacher=teacher.path, temperature=0.1)
        )
        small = self._distilled(
            "small student",
            share,
            replace(
                common,
                teacher=again.path,
                student=s.student or s.backbone,
                student_width=s.student_width,
                temperature=1.0,
            ),
        )
        stages = {
            "from scratch": scratch,
            "linear probe": linear,
            "fine-tuned": teacher,
            "self-distilled": again,
            "small student": small,
        }
        return [{"labels": share, "network": name, **_numbers(run)} for name, run in stages.items()]

    def _stage(self, name: str, share: float) -> Run:
        return Run(self.run.path / f"{name.replace(' ', '-')}-{share:g}")

    def _finetuned(self, name: str, pretrained: Run, command: cli.Finetune) -> Run:
        own = self._stage(name, command.labels)
        if own.metrics:
            return own
        self.console.print(f"{name}, {command.labels:.0%} of the labels")
        result = finetune.finetuned(load_method(pretrained), self.train, self.test, command)
        if not own.is_begun:
            Run.create(own.path, asdict(replace(command, out=own.path)))
        finetune.write(result, own)
        return own

    def _linear(self, pretrained: Run, share: float, like: Run) -> Run:
        own = self._stage("linear probe", share)
        if own.metrics:
            return own
        shown = labelled(self.train, share, self.settings.seed)
        result = evaluate.linear(load_backbone(pretrained), shown, self.test, inverse_l2=1.0)
        if not own.is_begun:
            Run.create(own.path, {"labels": share, "run": str(pretrained.path)})
        # The same network with a linear layer behind it, as what was trained from scratch.
        own.add_metrics({**like.metrics, "accuracy": result.accuracy, "result": result.to_dict()})
        return own

    def _distilled(self, name: str, share: float, command: cli.Distill) -> Run:
        own = self._stage(name, share)
        if own.metrics:
            return own
        self.console.print(f"{name}, {share:.0%} of the labels")
        settings = replace(command, out=own.path)
        if not own.is_begun:
            Run.create(own.path, asdict(settings))
        strategy = distribute.strategy(settings.strategy)
        distill.write(distill.distilled(settings, self.train, own, strategy), self.test, own)
        return own


def labelled(train: Source, share: float, seed: int) -> Source:
    """Returns the images of a share of the labels, those that `evaluate.finetune` takes.

    Raises:
        ValueError: if there are no labels, or `share` is out of range.
    """
    if train.labels is None:
        raise ValueError(
            "`simclrv2` needs labels of some images: class sub-folders, or arrays with labels. "
            f"Received: {train.name!r}, without labels"
        )
    return train.subset(evaluate.label_subset(train.labels, share, seed))


def show(rows: list[dict[str, Any]], console: Console):
    """Prints the table of a run."""
    table = Table(title="SimCLRv2: accuracy in % with a share of the labels, and what each costs")
    for name in ("labels", "network"):
        table.add_column(name, no_wrap=True)
    for name in ("accuracy", "parameters", "MFLOPs", "MiB", "images/s"):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            f"{row['labels']:.4g}",
            row["network"],
            f"{100 * row['accuracy']:.1f}",
            f"{row['parameters']:,}",
            f"{row['flops'] / 1e6:,.1f}",
            f"{row['bytes'] / 2**20:.2f}",
            f"{row['images_per_second']:,.0f}",
        )
    console.print(table)


def _numbers(run: Run) -> dict[str, Any]:
    names = ("accuracy", "parameters", "flops", "bytes", "images_per_second")
    return {name: run.metrics[name] for name in names}


def _completed(command: cli.SimCLRv2) -> cli.SimCLRv2:
    if command.data is None:
        raise ValueError("`simclrv2` needs images. Expected: --data DATA. Received: none")
    if not command.labels:
        raise ValueError("--labels must name at least one share. Received: none")
    if command.pretrained is None and not 0 <= command.from_layer <= command.head_layers:
        raise ValueError(
            "--from-layer must lie in 0 to --head-layers. "
            f"Received: --from-layer {command.from_layer}, --head-layers {command.head_layers}"
        )
    word = pathlib.Path(command.data.removeprefix("tfds:")).stem
    out = pathlib.Path("runs", f"simclrv2-{word}-{time.strftime('%Y%m%d-%H%M%S')}")
    return replace(command, out=command.out or out)


def _resumed(command: cli.SimCLRv2) -> cli.SimCLRv2:
    run = Run(str(command.resume))
    settings = saved_settings(
        run, cli.SimCLRv2, "--resume takes the run directory of `keras-ssl simclrv2`."
    )
    refuse_others(settings, command)
    return replace(settings, out=run.path, strategy=command.strategy)
