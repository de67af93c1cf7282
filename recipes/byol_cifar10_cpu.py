"""BYOL on CIFAR-10, small network, for two CPU cores: about 45 minutes.

    keras-ssl pretrain --recipe byol_cifar10_cpu --data-dir ~/tensorflow_datasets
    keras-ssl pretrain --recipe byol_cifar10_cpu --smoke

Hardware: two CPU cores (Intel Xeon with AVX-512 and AMX).
Time: 63 minutes of pretraining beside other programs, 41 minutes of processor time. Evaluation: 6
minutes.
Measured (linear / kNN), commit ba80841, 2026-11-22: untrained 35.8 / 30.2, trained 64.3 / 57.4.
docs/results.md has the results with few labels.

The network has 0.65 million parameters, and its first convolution has stride 2. The views are
BYOL's without blur, because the images have 32 pixels. For a short run on a small network, the
heads are narrower, the initial momentum is lower (as in the paper's shorter runs), and SGD replaces
LARS.
"""

from keras_ssl.cli.pretrain import Pretrain
from keras_ssl.cli.program import run_recipe
from keras_ssl.presets import BYOL

RECIPE = Pretrain(
    preset=BYOL(
        epochs=15,
        batch_size=128,
        backbone="small-resnet",
        policy="byol-small",
        optimizer="sgd",
        learning_rate=0.2,
        weight_decay=1e-3,
        warmup_epochs=0.5,
        hidden_units=1024,
        momentum=0.95,
    ),
    data="tfds:cifar10",
    knn_every=5,
    evaluate=True,
    baselines=True,
)

if __name__ == "__main__":
    run_recipe(__file__)
