"""MoCo v2 on CIFAR-10, small network, for two CPU cores: about 25 minutes.

    keras-ssl pretrain --recipe moco_v2_cifar10_cpu --data-dir ~/tensorflow_datasets
    keras-ssl pretrain --recipe moco_v2_cifar10_cpu --smoke

Hardware: two CPU cores (Intel Xeon with AVX-512 and AMX).
Time: 37 minutes of pretraining beside other programs, 25 minutes of processor time. Evaluation: 8
minutes.
Measured (linear / kNN), commit ba80841, 2026-11-22: untrained 35.8 / 30.2, trained 61.2 / 56.9.
docs/results.md has the results with few labels.

The network has 0.65 million parameters, and its first convolution has stride 2. The views are MoCo
v2's without blur, because the images have 32 pixels. The queue of 4,096 keys, the split batch
normalization and the momentum of 0.99 come from the reference's CIFAR-10 notebook. The learning
rate is higher, for a short run on a small network.
"""

from keras_ssl.cli.pretrain import Pretrain
from keras_ssl.cli.program import run_recipe
from keras_ssl.presets import MoCo

RECIPE = Pretrain(
    preset=MoCo(
        epochs=15,
        backbone="small-resnet",
        policy="moco-v2-no-blur",
        learning_rate=0.4,
        weight_decay=5e-4,
        warmup_epochs=0.5,
        temperature=0.2,
        momentum=0.99,
        queue_size=4096,
        groups=8,
    ),
    data="tfds:cifar10",
    knn_every=5,
    evaluate=True,
    baselines=True,
)

if __name__ == "__main__":
    run_recipe(__file__)
