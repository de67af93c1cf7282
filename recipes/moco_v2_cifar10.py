"""MoCo v2 on CIFAR-10 with ResNet-18, as in the reference's CIFAR-10 notebook.

    keras-ssl pretrain --recipe moco_v2_cifar10 --data-dir ~/tensorflow_datasets
    keras-ssl pretrain --recipe moco_v2_cifar10 --smoke

Hardware: one GPU.
Time:
Measured (linear / kNN):
Published: facebookresearch/moco's notebook, kNN at 200 / 400 / 800 epochs: 82.6 / 86.3 / 88.7, and
85.3 / 88.5 / 89.7 with the symmetric loss.

The queue, the momentum, the temperature, the learning rate, the weight decay (an L2 penalty, as in
PyTorch), the crops and the batch normalization in 8 groups are the notebook's. The notebook has a
linear head and measures kNN on the output of the head; here the head has two layers, as in MoCo v2,
and kNN is measured on the features of the backbone. There is no warm-up. `--symmetric` gives the
symmetric loss.
"""

from keras_ssl.cli.pretrain import Pretrain
from keras_ssl.cli.program import run_recipe
from keras_ssl.presets import MoCo

RECIPE = Pretrain(
    preset=MoCo(
        epochs=200,
        batch_size=512,
        backbone="resnet18",
        policy="moco-v2-small",
        learning_rate=0.03,
        scaling="linear",
        weight_decay=5e-4,
        warmup_epochs=0,
        temperature=0.1,
        momentum=0.99,
        queue_size=4096,
        groups=8,
    ),
    data="tfds:cifar10",
    knn_every=10,
    evaluate=True,
    baselines=True,
)

if __name__ == "__main__":
    run_recipe(__file__)
