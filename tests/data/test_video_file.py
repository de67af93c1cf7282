"""Videos, which PyAV decodes (extra `video`): times, frames after a seek, damaged files."""

import numpy as np
import pytest

from keras_ssl.data.video_file import read_frames, read_table
from tests.data.clip_files import levels, write_video

av = pytest.importorskip("av")

CONTAINERS = [
    ("a.mp4", "libx264"),
    ("a.mov", "mpeg4"),
    ("a.avi", "mpeg4"),
    ("a.webm", "libvpx-vp9"),
    ("a.mkv", "libx264"),
    ("a.mpg", "mpeg2video"),
]


@pytest.mark.parametrize(("name", "codec"), CONTAINERS)
def test_any_frame_is_found(name, codec, tmp_path):
    path = tmp_path / name
    write_video(path, 40, rate=25, codec=codec)
    table = read_table(str(path))
    assert (len(table.stamps), table.height, table.width) == (40, 48, 64)
    np.testing.assert_allclose(table.seconds, np.arange(40) / 25, atol=0.001)
    for chosen in ([0], [39], [11, 12, 13], [3, 17, 31, 38]):  # key frames are 0, 12, 24, 36
        frames = read_frames(str(path), table.stamps[chosen])
        assert frames.shape == (len(chosen), 48, 64, 3)
        assert frames.dtype == np.uint8
        assert levels(frames) == chosen
    red = frames[0, 2:5, 8:-8].mean(axis=(0, 1))
    np.testing.assert_allclose(red, (200, 40, 40), atol=12)


def test_frames_are_turned_as_the_file_says(tmp_path, monkeypatch):
    path = tmp_path / "a.mp4"
    write_video(path, 2)
    upright = read_frames(str(path), read_table(str(path)).stamps)

    class Turned:
        """A frame of a phone that was held upright: `rotation` cannot be set on frames of PyAV."""

        rotation = -90

        def __init__(self, frame):
            self.pts, self._frame = frame.pts, frame

        def to_ndarray(self, format):
            return self._frame.to_ndarray(format=format)

    from keras_ssl.data import video_file

    plain = video_file._upright
    monkeypatch.setattr(video_file, "_upright", lambda frame: plain(Turned(frame)))
    table = read_table(str(path))
    assert (table.height, table.width) == (64, 48)
    turned = read_frames(str(path), table.stamps)
    np.testing.assert_array_equal(turned, np.rot90(upright, -1, axes=(1, 2)))


def test_errors_name_the_file_and_what_is_wrong(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"no video at all")
    with pytest.raises(ValueError, match=r"a\.mp4: not a video that can be read \(its content is"):
        read_table(str(path))
    write_video(path, 12)
    table, content = read_table(str(path)), path.read_bytes()
    with pytest.raises(ValueError, match=r"a\.mp4: the 1 frames from \S+ seconds on cannot be"):
        read_frames(str(path), table.stamps[-1:] + 10**6)
    path.write_bytes(content[: len(content) // 2])  # the index is at the end
    with pytest.raises(ValueError, match=r"a\.mp4: (not a video that|a file without a video)"):
        read_table(str(path))


def test_a_playlist_opens_no_other_file(tmp_path):
    other = tmp_path / "other.ts"
    write_video(other, 4, codec="mpeg2video")
    path = tmp_path / "a.mp4"
    path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:9,\n{other}\n#EXT-X-ENDLIST\n")
    with pytest.raises(ValueError, match=r"a\.mp4: not a video that can be read"):
        read_table(str(path))
