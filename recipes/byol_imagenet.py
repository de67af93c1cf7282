"""BYOL on ImageNet with ResNet-50, as in the paper: batches of 4,096 images, 1,000 epochs.

    keras-ssl pretrain --recipe byol_imagenet --data-dir ~/tensorflow_datasets
    keras-ssl pretrain --recipe byol_imagenet --data ~/imagenet  # train/CLASS/*.jpg, val/CLASS/*.jpg
    keras-ssl pretrain --recipe byol_imagenet --smoke --strategy mirrored

Hardware: a TPU slice or 8 GPUs.
Time:
Measured (linear / kNN):
Published: Grill et al. 2020, 1,000 epochs, linear 74.3.

The paper used a TPU v3 with 512 cores. The reference's values for shorter runs:

    --epochs 300 --learning-rate 0.3 --weight-decay 1e-6 --momentum 0.99
    --epochs 100 --learning-rate 0.45 --weight-decay 1e-6 --momentum 0.99

The learning rates are per 256 images. If a device cannot hold its part of the batch, `--chunks 4`
gives the same loss with less memory. Differences from the reference: LARS applies the learning rate
inside its momentum; pixels stay in [0, 1], without subtracting ImageNet's mean; the linear
classifier learns from the features of one view per image, without random crops and flips.
"""

from keras_ssl.cli.pretrain import Pretrain
from keras_ssl.cli.program import run_recipe
from keras_ssl.presets import BYOL

RECIPE = Pretrain(
    preset=BYOL(
        epochs=1000,
        batch_size=4096,
        backbone="resnet50",
        image_size=224,
        policy="byol",
        optimizer="lars",
        learning_rate=0.2,
        scaling="linear",
        weight_decay=1.5e-6,
        warmup_epochs=10,
        hidden_units=4096,
        momentum=0.996,
        precision="auto",
    ),
    data="tfds:imagenet2012",
    verify=False,  # each start would decode all files of a folder
    knn_every=0,
    evaluate=True,
    labels_per_class=(),
)

if __name__ == "__main__":
    run_recipe(__file__)
