"""Distributed training. All uses of `tf.distribute` are in this package.

Example:

```python
from keras_ssl import distribute

with distribute.strategy("auto").scope():
    model = SimCLR(ResNet(18))
    model.compile(optimizer="sgd")
```
"""

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
    set_shares,
    sharded_by_element,
    shares_of,
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
    "is_chief",
    "multi_step_function",
    "other_workers",
    "own_part",
    "replica_count",
    "replica_id",
    "set_shares",
    "sharded_by_element",
    "shares_of",
    "strategy",
    "worker_count",
    "worker_id",
]
