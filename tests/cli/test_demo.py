"""What the demo promises: pretraining is worth at least ten points where labels are few."""

import json

import pytest

from keras_ssl import cli


@pytest.mark.large
@pytest.mark.parametrize("seed", [0, 1])
def test_the_trained_encoder_wins_with_few_labels(tmp_path, seed):
    out = tmp_path / "run"
    with pytest.raises(SystemExit) as end:
        cli.main(["demo", "--out", str(out), "--seed", str(seed)])
    assert end.value.code == 0

    rows = json.loads((out / "metrics.json").read_text())["rows"]
    means = {
        name: {(r["protocol"], r["per_class"]): r["mean"] for r in row["few_labels"]}
        for name, row in rows.items()
    }
    for protocol in ("knn", "linear"):
        for count in (1, 5, 10):
            case = (protocol, count)
            assert means["trained"][case] >= means["untrained"][case] + 0.10, case
            if count > 1:
                assert means["trained"][case] > means["raw pixels"][case], case
