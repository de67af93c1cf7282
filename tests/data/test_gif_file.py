"""GIFs: times of the frames, and frames that hold changes only."""

import numpy as np
import pytest

from keras_ssl.data.gif_file import read_frames, read_table
from tests.data.clip_files import BLUE, GREEN, PALETTE, RED, YELLOW, gif, moving_gif, still


def write(tmp_path, content):
    path = tmp_path / "a.gif"
    path.write_bytes(content)
    return str(path)


def test_times_follow_from_the_delays(tmp_path):
    # Browsers show frames with a delay of 0 or 1 for a tenth of a second.
    delays = [4, 0, 1, 2, 50, 7]
    table = read_table(write(tmp_path, gif([still(RED, delay) for delay in delays])))
    np.testing.assert_allclose(table.seconds, [0, 0.04, 0.14, 0.24, 0.26, 0.76])
    assert table.stamps.tolist() == list(range(6))
    assert (table.height, table.width) == (4, 4)


def test_frames_that_hold_changes_only_are_completed(tmp_path):
    keep, background, previous = 1, 2, 3
    one = [[GREEN]]
    content = gif(
        [
            still(RED),
            ([[BLUE, BLUE]], (1, 1), 10, keep),
            (one, (0, 0), 10, background),
            (one, (3, 3), 10, previous),
            (one, (2, 0), 10, keep),
        ]
    )
    expected = np.full((5, 4, 4), RED)
    expected[1:, 1, 1:3] = BLUE
    expected[2, 0, 0] = GREEN
    expected[3:, 0, 0] = YELLOW  # the background of the file
    expected[3, 3, 3] = GREEN  # and afterwards what was there before
    expected[4, 2, 0] = GREEN
    frames = read_frames(write(tmp_path, content), range(5))
    assert frames.dtype == np.uint8
    np.testing.assert_array_equal(frames, np.array(PALETTE)[expected])


@pytest.mark.parametrize("stamps", [[0], [5], [2, 3, 4, 5], [1, 4]])
def test_frames_are_found_by_position(stamps, tmp_path):
    frames = read_frames(write(tmp_path, moving_gif(6)), stamps)
    blue = (frames == PALETTE[BLUE]).all(axis=-1).reshape(len(stamps), -1)
    assert blue.sum(axis=1).tolist() == [1] * len(stamps)
    assert blue.argmax(axis=1).tolist() == stamps


def test_a_truncated_file_has_the_frames_before_the_damage(tmp_path):
    content = moving_gif(6)
    table = read_table(write(tmp_path, content[:-60]))
    assert 1 < len(table.stamps) < 6
    last = read_frames(write(tmp_path, content[:-60]), table.stamps[-1:])
    assert (last[0].reshape(16, 3)[table.stamps[-1]] == PALETTE[BLUE]).all()


def test_errors_name_the_file(tmp_path):
    path = write(tmp_path, b"no GIF at all")
    with pytest.raises(ValueError, match=r"a\.gif: not the content of a GIF file"):
        read_table(path)
    with pytest.raises(ValueError, match=r"a\.gif: not a GIF that can be read"):
        read_frames(path, [0])
    with pytest.raises(ValueError, match=r"a\.gif: a GIF without a complete frame"):
        read_table(write(tmp_path, gif([])))
    huge = gif([still(RED)], (60_000, 60_000))
    with pytest.raises(ValueError, match=r"frames of 3600000000 pixels, more than 89478485"):
        read_table(write(tmp_path, huge))
