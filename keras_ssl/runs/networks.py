"""Loads the networks of a run directory; `Run` has the methods that users call."""

from typing import Any

import keras

from keras_ssl import callbacks, export
from keras_ssl.evaluate.classifier_parts import encoder_of_classifier
from keras_ssl.methods import SelfSupervised
from keras_ssl.runs import network_file

_OF_CLASSIFIERS = {"teacher", "from_layer"}  # settings of distillations and fine-tunings

# In all functions, `run` is a `Run`, whose module imports this one.


def load_encoder(run: Any) -> keras.Model:
    """Does what `Run.encoder` says."""
    if "method" not in run.config:
        network = run.network()
        encoder = encoder_of_classifier(network)
        return network if encoder is None else encoder
    settings, images = run.pretrain_settings
    # Batch normalization is split for pretraining only; the encoder takes batches of any size.
    encoder = settings.preset.build_encoder(images)
    encoder.set_weights(run.method().backbone.get_weights())
    return encoder


def load_network(run: Any) -> keras.Model:
    """Does what `Run.network` says."""
    if "method" in run.config:
        return run.encoder()
    if network_file.is_kept(run.path):
        return network_file.load_kept(run.path)
    if run.export_path.is_dir():
        return export.load(run.export_path)
    if _OF_CLASSIFIERS & run.config.keys():
        raise FileNotFoundError(
            "The run must have finished: its network is not exported yet. "
            f"Received: {str(run.path)!r}"
        )
    return run.method()  # explains which runs have networks


def build_untrained_encoder(run: Any) -> keras.Model:
    """Does what `Run.untrained_encoder` says."""
    if "method" not in run.config:
        keras.utils.set_random_seed(int(run.config.get("seed", 0)))
        return keras.models.clone_model(run.encoder())
    settings, images = run.pretrain_settings
    keras.utils.set_random_seed(settings.preset.seed)
    return settings.preset.build_encoder(images)


def load_method(run: Any) -> SelfSupervised:
    """Does what `Run.method` says."""
    settings, images = run.pretrain_settings
    preset = settings.preset.resolve(images)  # an old run lacks options that are newer
    model = preset.build_model(preset.build_backbone(images), images)
    if callbacks.restore(model, run.checkpoints) == 0:
        raise FileNotFoundError(
            "The run must have a checkpoint: train for at least one epoch first. "
            f"Received: {str(run.path)!r}"
        )
    return model
