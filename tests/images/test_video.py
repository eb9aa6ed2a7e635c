"""Videos: what is written is read again, and what cannot be read is one line."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fishnet.errors import InputError
from fishnet.images import video
from fishnet.images.video import VideoWriter, frame_name, frame_of, frames, is_video, rate_of

av = pytest.importorskip("av")


def clip(path: Path, count: int = 6, size: tuple[int, int] = (64, 48), rate: Fraction = Fraction(10)) -> Path:
    """A video whose frame ``i`` is grey of 30 * i."""
    writer = VideoWriter(path, rate)
    for i in range(count):
        writer.add(Image.new("RGB", size, (30 * i,) * 3))
    writer.close()
    return path


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
@pytest.mark.parametrize("rate", [Fraction(10), Fraction(30000, 1001), Fraction(123456, 7919)])
def test_what_is_written_is_read(codec: str, rate: Fraction, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV has no {codec}")
    monkeypatch.setattr(video, "_CODECS", (codec,))
    path = clip(tmp_path / "a.mp4", rate=rate)
    shown = list(frames(path))
    assert [image.size for image in shown] == [(64, 48)] * 6
    # 8: both codecs lose a little, and black is 16 in their range of 219 values
    np.testing.assert_allclose([np.asarray(image).mean() for image in shown], range(0, 180, 30), atol=8)
    assert float(rate_of(path)) == pytest.approx(float(rate), rel=1e-3)
    assert [file.name for file in tmp_path.iterdir()] == ["a.mp4"]


def test_sizes_become_even_and_stay_the_first(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "a.mp4", Fraction(5))
    for size in ((63, 47), (90, 20), (20, 90)):
        writer.add(Image.new("RGB", size, "white"))
    writer.close()
    shown = list(frames(tmp_path / "a.mp4"))
    assert {image.size for image in shown} == {(64, 48)}
    assert np.asarray(shown[1])[:10].mean() > 230
    assert np.asarray(shown[1])[30:].mean() < 25


def test_no_image_no_video(tmp_path: Path) -> None:
    VideoWriter(tmp_path / "a.mp4", Fraction(5)).close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["missing", "text", "empty", "sound"])
def test_what_is_no_video(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    if kind == "sound":
        with av.open(str(path), "w", format="mp4") as container:
            stream = container.add_stream("aac", rate=8000)
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            frame.sample_rate = 8000
            container.mux(stream.encode(frame))
            container.mux(stream.encode())
    elif kind != "missing":
        path.write_text("no video" if kind == "text" else "")
    words = {"missing": "no such file", "sound": "holds no images"}.get(kind, "not a video that can be read")
    with pytest.raises(InputError, match=words) as caught:
        list(frames(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_video_that_breaks_off_gives_its_first_frames(tmp_path: Path) -> None:
    import av

    path = tmp_path / "a.mkv"  # its index is not at its end
    noise = np.random.default_rng(0).integers(0, 256, (40, 48, 64, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for pixels in noise:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels)))
        container.mux(stream.encode())
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert 5 < len(list(frames(path))) < 40


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.mp4#0", ("a.mp4", 0)), ("b/a#1.MOV#12", ("b/a#1.MOV", 12)), ("a.png#3", None), ("a.mp4", None)],
)
def test_names_of_frames(name: str, expected: tuple[str, int] | None) -> None:
    assert frame_of(name) == expected
    if expected is not None:
        assert frame_name(*expected) == name


@pytest.mark.parametrize(("name", "yes"), [("a.mp4", True), ("A.MKV", True), ("a.png", False), ("mp4", False)])
def test_videos_by_name(name: str, yes: bool) -> None:
    assert is_video(name) == yes
