"""The command line: `keras-ssl pretrain | evaluate | finetune | distill | simclrv2 | export`...

Only settings are here, one file for each command, so that `--help` answers at once; what a command does
is in `keras_ssl.commands`, which imports TensorFlow.
"""

from keras_ssl.cli.demo import Demo
from keras_ssl.cli.distill import Distill
from keras_ssl.cli.embed import Embed
from keras_ssl.cli.evaluate import Evaluate
from keras_ssl.cli.export import Export
from keras_ssl.cli.finetune import Finetune
from keras_ssl.cli.importweights import ImportWeights
from keras_ssl.cli.pretrain import Pretrain
from keras_ssl.cli.program import Command, main
from keras_ssl.cli.search import Search
from keras_ssl.cli.simclrv2 import SimCLRv2

__all__ = [
    "Command",
    "Demo",
    "Distill",
    "Embed",
    "Evaluate",
    "Export",
    "Finetune",
    "ImportWeights",
    "Pretrain",
    "Search",
    "SimCLRv2",
    "main",
]
