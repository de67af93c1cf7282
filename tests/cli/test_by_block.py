"""Blocks on the command line: measured, and exported."""

from tests.command_line import call


def test_blocks_of_a_run_and_of_its_export_are_printed(run, photos, tmp_path):
    path, _ = run
    words = ["--data", photos, "--draws", 1, "--labels-per-class", 1]
    status, out, err = call("evaluate", path, *words, "--by-block")
    assert status == 0, err
    table = out[out.index("Accuracy by block") :]
    assert [line.split()[0] for line in table.splitlines()[4:7]] == ["block1", "block2", "block3"]
    assert "untrained" in table
    assert (path / "by_block.png").stat().st_size > 5_000
    assert call("export", path, "--out", tmp_path / "export")[0] == 0
    status, of_export, err = call("evaluate", tmp_path / "export", *words, "--by-block")
    assert status == 0, err
    trained = [line.split()[2] for line in table.splitlines()[4:7]]  # kNN of the trained encoder
    lines = of_export[of_export.index("Accuracy by block") :].splitlines()[4:7]
    assert [line.split()[1] for line in lines] == trained


def test_a_block_is_exported_and_evaluated(run, photos):
    path, _ = run
    status, out, err = call("export", path, "--block", "block2")
    assert status == 0, err
    assert f"Written and checked: {path / 'export-block2'}" in out
    words = ["--data", photos, "--draws", 1, "--labels-per-class", 1, "--by-block"]
    status, out, err = call("evaluate", path / "export-block2", *words)
    assert status == 0, err
    assert "block2" in out
    assert "block3" not in out
    status, _, err = call("export", path, "--block", "block9")
    assert status == 1
    assert "Expected: block1, block2, block3. Received: block='block9'" in err
