"""Distributed training. All uses of `tf.distribute` are in this package.

Example:

```python
from keras_ssl import distribute

with distribute.strategy("auto").scope():
    model = SimCLR(ResNet(18))
    model.compile(optimizer="sgd")
```
"""

import warnings

from keras_ssl.distribute.replicas import (
    all_gather,
    all_reduce_sum,
    own_part,
    replica_count,
    replica_id,
)
from keras_ssl.distribute.shares import (
    Share,
    Shares,
    check_batch_size,
    get_shares,
    set_shares,
    shard_by_element,
)
from keras_ssl.distribute.strategies import Strategy, strategy
from keras_ssl.distribute.training_loop import multi_step_function
from keras_ssl.distribute.workers import (
    WorkerLostError,
    check_equal,
    gather,
    is_chief,
    other_workers,
    worker_count,
    worker_id,
)

__all__ = [
    "Share",
    "Shares",
    "Strategy",
    "WorkerLostError",
    "all_gather",
    "all_reduce_sum",
    "check_batch_size",
    "check_equal",
    "gather",
    "get_shares",
    "is_chief",
    "multi_step_function",
    "other_workers",
    "own_part",
    "replica_count",
    "replica_id",
    "set_shares",
    "shard_by_element",
    "strategy",
    "worker_count",
    "worker_id",
]

_RENAMED = {"sharded_by_element": "shard_by_element", "shares_of": "get_shares"}


def __getattr__(name: str):
    if name not in _RENAMED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    new = _RENAMED[name]
    warnings.warn(f"`{name}` is deprecated: use `{new}`", DeprecationWarning, stacklevel=2)
    return globals()[new]
