"""SimCLR on CIFAR-10 with ResNet-18, as reported by lightly and solo-learn.

    keras-ssl pretrain --recipe simclr_cifar10 --data-dir ~/tensorflow_datasets
    keras-ssl pretrain --recipe simclr_cifar10 --smoke

Hardware: one GPU.
Time:
Measured (linear / kNN):
Published: lightly, 200 / 800 epochs, kNN .848 / .879; solo-learn, 1,000 epochs, linear 90.74.

The optimizer, its learning rate (0.06 per 128 images), its weight decay (an L2 penalty, as in
PyTorch) and the temperature are lightly's. The views are the SimCLR paper's for CIFAR-10: crop,
flip, and half the color jitter, without blur.
"""

from keras_ssl.cli.pretrain import Pretrain
from keras_ssl.cli.program import run_recipe
from keras_ssl.presets import SimCLR

RECIPE = Pretrain(
    preset=SimCLR(
        epochs=200,
        batch_size=512,
        backbone="resnet18",
        policy="simclr-small",
        optimizer="sgd",
        learning_rate=0.12,
        scaling="linear",
        weight_decay=5e-4,
        warmup_epochs=10,
        temperature=0.5,
    ),
    data="tfds:cifar10",
    knn_every=10,
    evaluate=True,
    baselines=True,
)

if __name__ == "__main__":
    run_recipe(__file__)
