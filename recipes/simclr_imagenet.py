"""SimCLR on ImageNet with ResNet-50, as in the paper: batches of 4,096 images, 100 epochs.

    keras-ssl pretrain --recipe simclr_imagenet --data-dir ~/tensorflow_datasets
    keras-ssl pretrain --recipe simclr_imagenet --data ~/imagenet  # train/CLASS/*.jpg, val/CLASS/*.jpg
    keras-ssl pretrain --recipe simclr_imagenet --smoke --strategy mirrored

Hardware: a TPU slice or 8 GPUs.
Time:
Measured (linear / kNN):
Published: Chen et al. 2020, 100 epochs, linear 64.5.

The paper used a TPU v3 with 128 cores. If a device cannot hold its part of the batch, `--chunks 4`
gives the same loss with less memory. The learning rate grows linearly with the batch (0.3 per 256
images); for small batches the reference recommends `--scaling sqrt --learning-rate 0.075`. Weight
decay is the paper's; the reference's README has 1e-4. The paper's linear classifier learns from
random crops and flips; here it learns from the features of one view per image.
"""

from keras_ssl.cli.pretrain import Pretrain
from keras_ssl.cli.program import run_recipe
from keras_ssl.presets import SimCLR

RECIPE = Pretrain(
    preset=SimCLR(
        epochs=100,
        batch_size=4096,
        backbone="resnet50",
        image_size=224,
        policy="simclr",
        optimizer="lars",
        learning_rate=0.3,
        scaling="linear",
        weight_decay=1e-6,
        warmup_epochs=10,
        temperature=0.1,
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
