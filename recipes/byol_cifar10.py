"""BYOL on CIFAR-10 with ResNet-18, as reported by lightly.

    keras-ssl pretrain --recipe byol_cifar10 --data-dir ~/tensorflow_datasets
    keras-ssl pretrain --recipe byol_cifar10 --smoke

Hardware: one GPU.
Time:
Measured (linear / kNN):
Published: lightly, 200 / 800 epochs, kNN .868 / .910; solo-learn, 1,000 epochs, linear 92.58.

The heads, the constant momentum and SGD are lightly's. lightly's loss is the mean of two cosines, a
quarter of BYOL's 2 (2 - 2 cos), which is used here. For equal steps, its learning rate of 0.06 per
128 images is divided by four, and its weight decay of 5e-4 (an L2 penalty) is multiplied by four.
The views are BYOL's without blur.
"""

from keras_ssl.cli.pretrain import Pretrain
from keras_ssl.cli.program import run_recipe
from keras_ssl.presets import BYOL

RECIPE = Pretrain(
    preset=BYOL(
        epochs=200,
        batch_size=512,
        backbone="resnet18",
        policy="byol-small",
        optimizer="sgd",
        learning_rate=0.03,
        scaling="linear",
        weight_decay=2e-3,
        warmup_epochs=0,
        hidden_units=1024,
        momentum=0.99,
        final_momentum=0.99,
    ),
    data="tfds:cifar10",
    knn_every=10,
    evaluate=True,
    baselines=True,
)

if __name__ == "__main__":
    run_recipe(__file__)
