"""SimCLRv2 on CIFAR-10, small network, for two CPU cores, with 1% and 10% of the labels.

    keras-ssl simclrv2 --recipe simclrv2_cifar10_cpu --data-dir ~/tensorflow_datasets
    keras-ssl simclrv2 --recipe simclrv2_cifar10_cpu --smoke

Hardware: two CPU cores (Intel Xeon with AVX-512 and AMX).
Time:
Measured (accuracy with 1% / 10% of the labels; see docs/results.md): from scratch 39.9 / 67.0,
linear 53.7 / 63.2, fine-tuned 55.6 / 70.0, self-distilled 56.1 / 70.2, small student 55.5 / 67.1.

The network and the pretraining are those of simclr_cifar10_cpu.py, with a head of three layers and
a warm-up of one epoch. Fine-tuning and training from scratch use their defaults.
"""

from keras_ssl.cli.program import run_recipe
from keras_ssl.cli.simclrv2 import SimCLRv2

RECIPE = SimCLRv2(
    data="tfds:cifar10",
    labels=(0.01, 0.1),
    backbone="small-resnet",
    student_width=0.5,
    policy="simclr-small",
    temperature=0.5,
    epochs=20,
    optimizer="sgd",
    learning_rate=0.5,
    weight_decay=5e-4,
    warmup_epochs=1,
    distill_epochs=15,
)

if __name__ == "__main__":
    run_recipe(__file__)
