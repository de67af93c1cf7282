"""SimCLR on CIFAR-10, small network, for two CPU cores: about 25 minutes.

    keras-ssl pretrain --recipe simclr_cifar10_cpu --data-dir ~/tensorflow_datasets
    keras-ssl pretrain --recipe simclr_cifar10_cpu --smoke

Hardware: two CPU cores (Intel Xeon with AVX-512 and AMX).
Time: 38 minutes of pretraining beside other programs; undisturbed epochs took 67 s each (22
minutes).
Evaluation: 3 minutes.
Measured (linear / kNN), commit e456b70, 2026-11-22: raw pixels 40.3 / 31.0, untrained 35.8 / 30.2,
trained 68.1 / 62.9. docs/results.md has the results with few labels.

The network has 0.65 million parameters, and its first convolution has stride 2. The views are the
SimCLR paper's for CIFAR-10. For a short run on a small network, the learning rate is four times
lightly's, and the warm-up takes half an epoch.
"""

from keras_ssl.cli.pretrain import Pretrain
from keras_ssl.cli.program import run_recipe
from keras_ssl.presets import SimCLR

RECIPE = Pretrain(
    preset=SimCLR(
        epochs=20,
        backbone="small-resnet",
        policy="simclr-small",
        optimizer="sgd",
        learning_rate=0.5,
        weight_decay=5e-4,
        warmup_epochs=0.5,
        temperature=0.5,
    ),
    data="tfds:cifar10",
    knn_every=5,
    evaluate=True,
    baselines=True,
)

if __name__ == "__main__":
    run_recipe(__file__)
