"""SimCLRv2 on ImageNet with ResNet-50 and selective kernels, with 1% and 10% of the labels.

    keras-ssl simclrv2 --recipe simclrv2_imagenet --data-dir ~/tensorflow_datasets
    keras-ssl simclrv2 --recipe simclrv2_imagenet --data ~/imagenet --backbone resnet152-sk --width 3
    keras-ssl simclrv2 --recipe simclrv2_imagenet --smoke --strategy mirrored

Hardware: a TPU slice or 8 GPUs.
Time:
Measured (fine-tuned / self-distilled / ResNet-50 student, 1% then 10% of the labels):
Published: Chen et al. 2020. ResNet-50 with selective kernels (the default here): linear 74.6, fine-
tuned 64.5 / 72.1. ResNet-152, three times as wide: linear 79.8, fine-tuned 74.9 / 80.1; its
ResNet-50 student 73.9 / 77.5.

The paper used a TPU v3 with 128 cores. Its numbers are with the momentum memory; `--queue-size 0`
leaves it out, as the reference's code does. If a device cannot hold its part of the batch,
`--chunks 4` gives the same loss with less memory. The learning rate of pretraining and distillation
follows the reference's rule, 0.075 * sqrt(batch size). Fine-tuning keeps the first layer of the
head. The first student has the teacher's architecture and weights; the second is a plain ResNet-50
that learns from the first.
"""

from keras_ssl.cli.program import run_recipe
from keras_ssl.cli.simclrv2 import SimCLRv2

RECIPE = SimCLRv2(
    data="tfds:imagenet2012",
    verify=False,  # each start would decode all files of a folder
    labels=(0.01, 0.1),
    backbone="resnet50-sk",
    student="resnet50",
    student_width=1.0,
    image_size=224,
    policy="simclr",
    queue_size=65536,
    momentum=0.999,
    temperature=0.1,
    epochs=800,
    batch_size=4096,
    optimizer="lars",
    learning_rate=0.075,
    scaling="sqrt",
    weight_decay=1e-4,
    warmup_epochs=10,
    finetune_batch_size=1024,
    finetune_optimizer="lars",
    distill_epochs=400,
    distill_optimizer="lars",
    distill_learning_rate=4.8,  # 0.075 * sqrt(4096)
    distill_weight_decay=1e-4,
    precision="auto",
)

if __name__ == "__main__":
    run_recipe(__file__)
