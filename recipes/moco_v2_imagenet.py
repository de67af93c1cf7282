"""MoCo v2 on ImageNet with ResNet-50, as in the reference: 200 epochs.

    keras-ssl pretrain --recipe moco_v2_imagenet --data-dir ~/tensorflow_datasets
    keras-ssl pretrain --recipe moco_v2_imagenet --data ~/imagenet  # train/CLASS/*.jpg, val/CLASS/*.jpg
    keras-ssl pretrain --recipe moco_v2_imagenet --smoke --strategy mirrored

Hardware: 8 GPUs, or 1, 2 or 4.
Time:
Measured (linear / kNN):
Published: facebookresearch/moco, 200 epochs, linear 67.5; 800 epochs 71.1.

The reference trains on 8 GPUs with 32 images each, normalizes the images of each GPU separately,
and shuffles the keys between GPUs. Batch normalization in 8 groups does the same on any number of
devices that divides 8, with the same result. The learning rate is per 256 images; weight decay is
an L2 penalty on all weights, as in PyTorch. Differences from the reference: the learning rate falls
at each step, not at each epoch; pixels stay in [0, 1], without subtracting ImageNet's mean; the
linear classifier learns from the features of one view per image, without random crops and flips.
"""

from keras_ssl.cli.pretrain import Pretrain
from keras_ssl.cli.program import run_recipe
from keras_ssl.presets import MoCo

RECIPE = Pretrain(
    preset=MoCo(
        epochs=200,
        batch_size=256,
        backbone="resnet50",
        image_size=224,
        policy="moco-v2",
        learning_rate=0.03,
        scaling="linear",
        weight_decay=1e-4,
        warmup_epochs=0,
        temperature=0.2,
        momentum=0.999,
        queue_size=65536,
        groups=8,
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
