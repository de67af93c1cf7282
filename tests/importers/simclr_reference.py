"""SimCLR's networks as google-research/simclr computes them, and the files that it writes.

An independent implementation in plain TensorFlow operations, without keras_ssl, written from the
reference's `resnet.py` and `tf2/`. Weights are random. They are created in the same order as in the
reference, because this order determines their names.
"""

import numpy as np
import tensorflow as tf

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


class Reference:
    """A network with random weights, which the constructor creates by calling it once.

    Attributes:
        tensors: weights by their names in TensorFlow 1.
        model: the same weights as the objects that TensorFlow 2 saves.
    """

    def __init__(self, depth, filters, sk_ratio=0.0, small=False, head=(), seed=0):
        self.depth = depth
        self.filters = filters
        self.sk_ratio = sk_ratio
        self.small = small
        self.head_units = head
        self.random = np.random.default_rng(seed)
        self.tensors = {}
        self.counts = {}
        self.model = tf.Module()
        self.model.resnet_model = tf.Module()
        self.stages = self.forward(tf.ones((1, 64, 64, 3)))
        self.model._projection_head = tf.Module()
        self.model._projection_head.linear_layers = self.head()
        self.is_built = True

    # --- layers: the first call creates their weights, in order ------------------------------------

    def weight(self, layer, place, name, shape, low, high):
        value = self.random.uniform(low, high, shape).astype("float32")
        self.tensors[f"{place}/{name}"] = value
        setattr(layer, name, tf.Variable(value))

    def numbered(self, kind):
        number = self.counts[kind] = self.counts.get(kind, -1) + 1
        return f"base_model/{kind}_{number}" if number else f"base_model/{kind}"

    def plain_conv(self, shape):
        layer = tf.Module()
        scale = (3 / np.prod(shape[:3])) ** 0.5
        self.weight(layer, self.numbered("conv2d"), "kernel", shape, -scale, scale)
        return layer

    def conv(self, layers, x, filters, size, stride):
        layer = tf.Module()
        layer.conv2d = self.plain_conv((size, size, x.shape[-1], filters))
        layers.append(layer)
        return self.apply_conv(layer, x, size, stride)

    def apply_conv(self, layer, x, size, stride):
        if stride > 1:
            before = (size - 1) // 2
            x = tf.pad(x, [[0, 0], *[[before, size - 1 - before]] * 2, [0, 0]])
        padding = "SAME" if stride == 1 else "VALID"
        return tf.nn.conv2d(x, layer.conv2d.kernel, stride, padding)

    def plain_norm(self, units, place, center=True):
        layer = tf.Module()
        layer.bn = tf.Module()
        self.weight(layer.bn, place, "gamma", (units,), 0.5, 1.5)
        if center:
            self.weight(layer.bn, place, "beta", (units,), -0.3, 0.3)
        self.weight(layer.bn, place, "moving_mean", (units,), -0.3, 0.3)
        self.weight(layer.bn, place, "moving_variance", (units,), 0.5, 2)
        return layer

    def norm(self, layers, x, relu=True):
        layers.append(self.plain_norm(x.shape[-1], self.numbered("batch_normalization")))
        return self.apply_norm(layers[-1], x, relu)

    def apply_norm(self, layer, x, relu=True):
        bn = layer.bn
        x = (x - bn.moving_mean) / tf.sqrt(bn.moving_variance + 1e-5) * bn.gamma
        x = x + bn.beta if hasattr(bn, "beta") else x
        return tf.nn.relu(x) if relu else x

    def selective_kernel(self, layers, x, filters, stride):
        sk = tf.Module()
        parts = []
        x = self.conv(parts, x, 2 * filters, 3, stride)
        x = self.norm(parts, x)
        streams = tf.split(x, 2, axis=-1)
        units = max(int(filters * self.sk_ratio), 32)
        sk.conv2d_fixed_padding, sk.batch_norm_relu = parts
        sk.conv2d_0 = self.plain_conv((1, 1, filters, units))
        pooled = tf.reduce_mean(streams[0] + streams[1], (1, 2), keepdims=True)
        hidden = tf.nn.conv2d(pooled, sk.conv2d_0.kernel, 1, "SAME")
        hidden = self.norm(parts, hidden)
        sk.batch_norm_relu_1 = parts[-1]
        sk.conv2d_1 = self.plain_conv((1, 1, units, 2 * filters))
        mixing = tf.nn.conv2d(hidden, sk.conv2d_1.kernel, 1, "SAME")
        mixing = tf.nn.softmax(tf.stack(tf.split(mixing, 2, axis=-1)), axis=0)
        layers.append(sk)
        return streams[0] * mixing[0] + streams[1] * mixing[1]

    # --- the network -------------------------------------------------------------------------------

    def shortcut(self, layers, x, filters, stride):
        if self.sk_ratio > 0:
            if stride > 1:
                x = tf.pad(x, [[0, 0], [0, 1], [0, 1], [0, 0]])
                layers.append(tf.Module())
            x = tf.nn.avg_pool2d(x, 2, stride, "SAME" if stride == 1 else "VALID")
            layers.append(tf.Module())
            stride = 1
        return self.norm(layers, self.conv(layers, x, filters, 1, stride), relu=False)

    def block(self, x, filters, stride, first):
        block, shortcut_layers, layers = tf.Module(), [], []
        bottleneck = self.depth >= 50
        shortcut = x
        if first:
            shortcut = self.shortcut(shortcut_layers, x, filters * (4 if bottleneck else 1), stride)
        if not bottleneck:
            x = self.norm(layers, self.conv(layers, x, filters, 3, stride))
            x = self.norm(layers, self.conv(layers, x, filters, 3, 1), relu=False)
            block.shortcut_layers, block.conv2d_bn_layers = shortcut_layers, layers
        else:
            x = self.norm(layers, self.conv(layers, x, filters, 1, 1))
            layers.append(tf.Module())  # DropBlock
            if self.sk_ratio > 0:
                x = self.selective_kernel(layers, x, filters, stride)
            else:
                x = self.norm(layers, self.conv(layers, x, filters, 3, stride))
            layers.append(tf.Module())
            x = self.norm(layers, self.conv(layers, x, 4 * filters, 1, 1), relu=False)
            block.projection_layers, block.conv_relu_dropblock_layers = shortcut_layers, layers
        return block, tf.nn.relu(x + shortcut)

    def forward(self, x):
        """Returns the feature maps of all stages; creates the weights if there are none."""
        if hasattr(self, "is_built"):
            return Replay(self).forward(x)
        stem, filters = [], self.filters
        if self.small:
            x = self.norm(stem, self.conv(stem, x, filters, 3, 1))
        elif self.sk_ratio > 0:
            x = self.norm(stem, self.conv(stem, x, filters // 2, 3, 2))
            x = self.norm(stem, self.conv(stem, x, filters // 2, 3, 1))
            x = self.norm(stem, self.conv(stem, x, filters, 3, 1))
        else:
            x = self.norm(stem, self.conv(stem, x, filters, 7, 2))
        if not self.small:
            x = tf.nn.max_pool2d(x, 3, 2, "SAME")
            stem.append(tf.Module())
        self.model.resnet_model.initial_conv_relu_max_pool = stem
        stages, groups = {"stem": x}, []
        for stage, count in enumerate(BLOCKS[self.depth]):
            group = tf.Module()
            group.layers = []
            for number in range(count):
                stride = 2 if stage and not number else 1
                block, x = self.block(x, filters * 2**stage, stride, first=number == 0)
                group.layers.append(block)
            groups.append(group)
            stages[f"block{stage + 1}"] = x
        self.model.resnet_model.block_groups = groups
        return {**stages, "features": tf.reduce_mean(x, (1, 2))}

    def head(self):
        features, layers = self.stages["features"].shape[-1], []
        for number, units in enumerate(self.head_units):
            last = number == len(self.head_units) - 1
            place = f"head_contrastive/nl_{number}"
            layer = tf.Module()
            layer.dense = tf.Module()
            self.weight(layer.dense, f"{place}/dense", "kernel", (features, units), -0.3, 0.3)
            layer.bn_relu = self.plain_norm(units, f"{place}/batch_normalization", center=not last)
            layers.append(layer)
            features = units
        return layers

    def project(self, features):
        layers = self.model._projection_head.linear_layers
        for number, layer in enumerate(layers):
            is_last = number == len(layers) - 1
            features = self.apply_norm(
                layer.bn_relu, features @ layer.dense.kernel, relu=not is_last
            )
        return features

    # --- files -------------------------------------------------------------------------------------

    def write_tf1(self, prefix, **more):
        """Writes a checkpoint of TensorFlow 1, with momenta and the step, as the Estimator does."""
        kernels = {k: v for k, v in self.tensors.items() if k.endswith(("kernel", "gamma", "beta"))}
        tensors = {
            **self.tensors,
            **{f"{name}/Momentum": np.zeros_like(value) for name, value in kernels.items()},
            "global_step": np.int64(250228),
            **more,
        }
        tf.raw_ops.SaveV2(
            prefix=str(prefix),
            tensor_names=list(tensors),
            shape_and_slices=[""] * len(tensors),
            tensors=list(tensors.values()),
        )

    def write_tf2(self, prefix):
        """Writes a checkpoint of `tf2/run.py`."""
        step = tf.Variable(7, dtype=tf.int64)
        tf.train.Checkpoint(model=self.model, global_step=step).write(str(prefix))

    def write_saved_model(self, path, writes):
        """Writes a SavedModel of `tf2/run.py`, with a list of the variables next to the model.

        Running its graph writes a file, `writes`.
        """
        module = WritingModule(str(writes))
        module.trainable_variables_list = list(self.model.trainable_variables)
        module.model = self.model
        tf.saved_model.save(module, str(path))


class WritingModule(tf.Module):
    """A module whose graph writes a file."""

    def __init__(self, path):
        super().__init__()
        self.path = path

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3))])
    def __call__(self, images):
        tf.io.write_file(self.path, "written by the graph")
        return images


class Replay(Reference):
    """Calls a network again, with its existing weights in the same order."""

    def __init__(self, network):
        self.__dict__.update(network.__dict__)
        del self.is_built
        self.counts = {}
        self.model = tf.Module()
        self.model.resnet_model = tf.Module()

    def weight(self, layer, place, name, shape, low, high):
        setattr(layer, name, self.tensors[f"{place}/{name}"])
