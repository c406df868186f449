"""Sources of frames: what they hand out, how they end, and how they fail."""

import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import cv2
import numpy as np
import pytest

from yolotrt_lab.detector.scene import SyntheticScene
from yolotrt_lab.errors import DtypeError, FrameSourceError, SettingsError, ShapeError
from yolotrt_lab.frames import Camera, ImageFolder, VideoFile, VideoPlanes, open_frames, read_images
from yolotrt_lab.types import Pixels

SIZE = (160, 120)
ABSENT = 63  # no machine has that many cameras


def picture(number: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    image = np.random.default_rng(number).integers(0, 256, (size[1] // 8, size[0] // 8, 3), np.uint8)
    return cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 30, SIZE)
    assert writer.isOpened()
    for number in range(40):
        writer.write(picture(number))
    writer.release()
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in (3, 1, 2):
        (tmp_path / f"bild-ü{number}.PNG").write_bytes(cv2.imencode(".png", picture(number))[1].tobytes())
    (tmp_path / "notes.txt").write_text("no image", encoding="utf-8")
    return tmp_path


def blank() -> np.ndarray:
    return np.zeros((SIZE[1], SIZE[0], 3), np.uint8)


def test_a_video_gives_its_frames_and_ends(video):
    with open_frames(video) as frames:
        assert isinstance(frames, VideoFile)
        assert frames.size == SIZE
        images = list(frames)
        assert frames.read() is None
    assert len(images) == 40
    for number in (0, 17, 39):
        assert np.abs(images[number].astype(int) - picture(number)).mean() < 8  # JPEG is not exact
    assert images[0] is not images[1]


def test_a_video_is_decoded_into_given_memory(video):
    memory, frames = np.zeros((3, *blank().shape), np.uint8), VideoFile(video)
    assert frames.read_into(memory[1])
    np.testing.assert_array_equal(memory[1], VideoFile(video).read())
    assert not memory[[0, 2]].any()
    assert sum(1 for _ in frames) == 39
    before = memory.copy()
    assert not frames.read_into(memory[1])
    np.testing.assert_array_equal(memory, before)


def test_a_video_that_breaks_off_is_no_clean_end(video):
    content = video.read_bytes()
    video.write_bytes(content[: len(content) // 2])
    frames = VideoFile(video)
    with pytest.raises(FrameSourceError, match=r"clip\.avi cannot be read at frame (1\d|2\d); it announces 40 frames"):
        for _ in frames:
            pass
    assert 10 <= frames.index < 30


def test_a_reader_that_fails_is_a_frame_that_cannot_be_read(video, monkeypatch):
    frames = VideoFile(video)
    monkeypatch.setattr(frames, "_capture", Mock(read=Mock(side_effect=cv2.error("chunk.m_size <= 67108864"))))
    with pytest.raises(FrameSourceError, match=r"clip\.avi cannot be read at frame 0"):
        frames.read()


def test_nothing_of_a_file_is_printed(video, capfd):
    content = video.read_bytes()
    video.write_bytes(content.replace(b"LIST", b"V\x1bc\x07", 1))
    with pytest.raises(FrameSourceError, match="cannot be read as a video"):
        VideoFile(video)
    assert "".join(capfd.readouterr()) == ""


def test_what_is_no_source_is_refused(tmp_path):
    (tmp_path / "text.mp4").write_text("these are words", encoding="utf-8")
    for what, message in (
        (tmp_path / "text.mp4", r"text\.mp4 cannot be read as a video"),
        (tmp_path / "absent.mp4", r"there is no .*absent\.mp4"),
        (tmp_path, "there are no images in"),
        (ABSENT, f"camera {ABSENT} cannot be opened"),
        (str(ABSENT), f"camera {ABSENT} cannot be opened"),
    ):
        with pytest.raises(FrameSourceError, match=message):
            open_frames(what)
    with pytest.raises(FrameSourceError, match="no video file"):
        VideoFile(tmp_path)


def test_a_closed_source_has_ended(video, folder):
    for frames in (VideoFile(video), ImageFolder(folder)):
        assert frames.read() is not None
        frames.close()
        assert frames.read() is None


def test_a_folder_gives_its_images_by_name(folder):
    with open_frames(str(folder)) as frames:
        assert isinstance(frames, ImageFolder)
        assert frames.size == SIZE
        images = list(frames)
    assert len(images) == 3
    for number, image in enumerate(images, 1):
        np.testing.assert_array_equal(image, picture(number))


def test_one_image_is_a_source_too_and_the_number_of_images_counts_from_none(folder):
    path = folder / "bild-ü2.PNG"
    np.testing.assert_array_equal(read_images(path, 5), [picture(2)])
    assert read_images(folder, 0) == []
    with pytest.raises(SettingsError, match="got -1"):
        read_images(folder, -1)


def test_frames_of_other_sizes_can_be_read_but_not_into_one_memory(folder, video, monkeypatch):
    (folder / "other.png").write_bytes(cv2.imencode(".png", picture(9, (80, 60)))[1].tobytes())
    assert [image.shape for image in ImageFolder(folder)][-2:] == [(120, 160, 3), (60, 80, 3)]
    frames, out = ImageFolder(folder), blank()
    for number in (1, 2, 3):
        assert frames.read_into(out)
        np.testing.assert_array_equal(out, picture(number))
    changing = VideoFile(video)
    monkeypatch.setattr(changing, "_next", lambda out: picture(9, (80, 60)))
    for source in (frames, changing):
        with pytest.raises(ShapeError, match=r"\(60, 80, 3\)"):
            source.read_into(out)
    assert not frames.read_into(out)


@pytest.mark.parametrize("content", [b"", b"no image", cv2.imencode(".png", picture(0))[1].tobytes()[:900]])
def test_a_damaged_image_is_named(folder, content):
    (folder / "zz.png").write_bytes(content)
    frames = open_frames(folder)
    assert len([frames.read() for _ in range(3)]) == 3
    with pytest.raises(FrameSourceError, match=r"zz\.png is no readable image"):
        frames.read()


def test_a_camera_that_stops_is_an_error(video, monkeypatch):
    """A video file stands in for the camera: OpenCV reads both in the same way."""
    capture = cv2.VideoCapture(str(video))
    monkeypatch.setattr(cv2, "VideoCapture", lambda number, _: capture)
    camera = Camera(0)
    assert sum(1 for _ in zip(range(40), camera, strict=False)) == 40
    with pytest.raises(FrameSourceError, match="camera 0 stopped after 40 frames"):
        camera.read()
    camera.close()
    assert camera.read() is None


def test_memory_that_does_not_fit_is_refused(video, folder):
    for frames in (VideoFile(video), ImageFolder(folder), SyntheticScene(0, SIZE, objects=1)):
        for out, error in (
            (np.zeros((120, 160, 3), np.float32), DtypeError),
            (np.zeros((160, 120, 3), np.uint8), ShapeError),
            (np.zeros((120, 160), np.uint8), ShapeError),
            (np.zeros((120, 320, 3), np.uint8)[:, ::2], ShapeError),
        ):
            with pytest.raises(error) as caught:
                frames.read_into(out)
            assert caught.value.fix
            assert frames.index == 0


def test_failures_are_raised_and_not_printed(video):
    content = video.read_bytes()
    video.write_bytes(content[: len(content) // 2])
    damaged = video.with_name("damaged.png")
    damaged.write_bytes(b"no image")
    text = video.with_name("text.mp4")
    text.write_bytes(b"no video" * 100)
    code = f"""
from yolotrt_lab.errors import FrameSourceError
from yolotrt_lab.frames import open_frames
for what in ({str(video)!r}, {str(damaged)!r}, {str(text)!r}, {ABSENT}):
    try:
        list(open_frames(what))
    except FrameSourceError:
        print("raised")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.cwd())
    assert done.stdout.split() == ["raised"] * 4
    assert done.stderr == ""


def encode(path, size=SIZE, *, pix_fmt="yuv420p", colorspace=None, color_range=None, count=12):
    """A video by PyAV."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1" if path.suffix == ".mkv" else "mpeg4", 30)
        (stream.width, stream.height), stream.pix_fmt = size, pix_fmt
        if colorspace is not None:
            stream.codec_context.colorspace = colorspace
        if color_range is not None:
            stream.codec_context.color_range = color_range
        for number in range(count):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number, size), "bgr24")))
        container.mux(stream.encode())


def decoded(path):
    """The planes that a video's decoder gives, in NV12 by FFmpeg's own conversion."""
    with pytest.importorskip("av").open(str(path)) as container:
        return [frame.reformat(format="nv12").to_ndarray() for frame in container.decode(video=0)]


@pytest.mark.parametrize("size", [SIZE, (162, 118)])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_planes_of_a_video_are_its_decoders(tmp_path, suffix, size):
    encode(tmp_path / f"clip{suffix}", size)
    expected = decoded(tmp_path / f"clip{suffix}")
    memory = np.zeros((3, size[1] * 3 // 2, size[0]), np.uint8)
    with VideoPlanes(tmp_path / f"clip{suffix}") as frames:
        assert (frames.size, frames.pixels) == (size, Pixels.NV12)
        assert frames.read_into(memory[1])
        rest = list(frames)
        assert frames.read() is None
        assert frames.index == len(expected) == 12
    assert frames.read() is None
    assert not memory[[0, 2]].any()
    for found, planes in zip([memory[1], *rest], expected, strict=True):
        np.testing.assert_array_equal(found, planes)


def test_planes_of_a_video_say_whose_colours_they_are(tmp_path):
    encode(tmp_path / "clip.mkv", colorspace=1)
    assert VideoPlanes(tmp_path / "clip.mkv").pixels is Pixels.NV12_709


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pix_fmt": "yuv444p"}, "must be 8 bits 4:2:0 in limited range, got yuv444p"),
        ({"color_range": 2}, "got yuv420p in full range"),
    ],
)
def test_planes_that_are_not_nv12_are_refused(tmp_path, options, words):
    encode(tmp_path / "clip.mkv", **options)
    with pytest.raises(FrameSourceError, match=words):
        VideoPlanes(tmp_path / "clip.mkv").read()


def test_planes_of_what_is_no_video_or_breaks_off_are_an_error(tmp_path):
    pytest.importorskip("av")
    with pytest.raises(FrameSourceError, match="there is no video file"):
        VideoPlanes(tmp_path / "absent.mp4")
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(FrameSourceError, match="cannot be read as a video"):
        VideoPlanes(tmp_path / "text.mp4")
    encode(tmp_path / "odd.mkv", (161, 120))
    with pytest.raises(ShapeError, match=r"even height and width, got \(120, 161\)"):
        VideoPlanes(tmp_path / "odd.mkv")
    encode(tmp_path / "clip.mp4", count=100)
    content = (tmp_path / "clip.mp4").read_bytes()
    start = content.index(b"mdat") + len(content) // 3
    (tmp_path / "clip.mp4").write_bytes(
        content[:start] + bytes(len(content) // 2) + content[start + len(content) // 2 :]
    )
    with pytest.raises(FrameSourceError, match=r"clip\.mp4 cannot be read at frame \d+"):
        list(VideoPlanes(tmp_path / "clip.mp4"))
