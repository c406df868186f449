"""Sources of frames: what they hand out, how they end, and how they fail. Then the synthetic scene and its truth."""

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from yolotrt_lab.detector import scene as scene_module
from yolotrt_lab.detector.scene import SyntheticScene
from yolotrt_lab.errors import DtypeError, FrameSourceError, SettingsError, ShapeError
from yolotrt_lab.frames import Camera, ImageFolder, VideoFile, open_frames, read_images

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


def blank(size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.zeros((size[1], size[0], 3), np.uint8)


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


def test_what_is_no_video_is_refused(tmp_path):
    path = tmp_path / "text.mp4"
    path.write_text("these are words", encoding="utf-8")
    with pytest.raises(FrameSourceError, match=r"text\.mp4 cannot be read as a video"):
        open_frames(path)
    with pytest.raises(FrameSourceError, match=r"there is no .*absent\.mp4"):
        open_frames(tmp_path / "absent.mp4")
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


def test_one_image_is_a_source_too(folder):
    path = folder / "bild-ü2.PNG"
    np.testing.assert_array_equal(read_images(path, 5), [picture(2)])


def test_images_of_other_sizes_can_be_read_but_not_into_one_memory(folder):
    (folder / "other.png").write_bytes(cv2.imencode(".png", picture(9, (80, 60)))[1].tobytes())
    assert [image.shape for image in open_frames(folder)][-2:] == [(120, 160, 3), (60, 80, 3)]
    frames, out = open_frames(folder), blank()
    for number in (1, 2, 3):
        assert frames.read_into(out)
        np.testing.assert_array_equal(out, picture(number))
    with pytest.raises(ShapeError, match=r"\(60, 80, 3\)"):
        frames.read_into(out)
    assert not frames.read_into(out)


def test_a_video_whose_frames_change_their_size_cannot_be_read_into_one_memory(video, monkeypatch):
    frames = VideoFile(video)
    monkeypatch.setattr(frames, "_next", lambda out: picture(9, (80, 60)))
    with pytest.raises(ShapeError, match=r"\(60, 80, 3\)"):
        frames.read_into(blank())


@pytest.mark.parametrize("content", [b"", b"no image", cv2.imencode(".png", picture(0))[1].tobytes()[:900]])
def test_a_damaged_image_is_named(folder, content):
    (folder / "zz.png").write_bytes(content)
    frames = open_frames(folder)
    assert len([frames.read() for _ in range(3)]) == 3
    with pytest.raises(FrameSourceError, match=r"zz\.png is no readable image"):
        frames.read()


def test_a_folder_without_images_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("no image", encoding="utf-8")
    with pytest.raises(FrameSourceError, match="there are no images in"):
        open_frames(tmp_path)


@pytest.mark.parametrize("what", [ABSENT, str(ABSENT)])
def test_an_absent_camera_is_an_error(what):
    with pytest.raises(FrameSourceError, match=f"camera {ABSENT} cannot be opened"):
        open_frames(what)


def test_a_camera_that_stops_is_an_error(video, monkeypatch):
    """A video file stands in for the camera: OpenCV reads both in the same way."""
    monkeypatch.setattr(Camera, "__init__", lambda self, number: (setattr(self, "number", number), None)[1])
    camera = Camera(0)
    super(Camera, camera).__init__(str(video))
    assert sum(1 for _ in zip(range(40), camera, strict=False)) == 40
    with pytest.raises(FrameSourceError, match="camera 0 stopped after 40 frames"):
        camera.read()
    camera.close()
    assert camera.read() is None


@pytest.mark.parametrize(
    ("out", "error"),
    [
        (np.zeros((120, 160, 3), np.float32), DtypeError),
        (np.zeros((160, 120, 3), np.uint8), ShapeError),
        (np.zeros((120, 160), np.uint8), ShapeError),
        (np.zeros((120, 320, 3), np.uint8)[:, ::2], ShapeError),
    ],
)
def test_memory_that_does_not_fit_is_refused(video, folder, out, error):
    for frames in (VideoFile(video), ImageFolder(folder), SyntheticScene(0, SIZE)):
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


@pytest.fixture(scope="module")
def scene() -> SyntheticScene:
    return SyntheticScene(7, (640, 480))


def test_a_frame_depends_on_seed_and_index_alone(scene):
    again = SyntheticScene(7, (640, 480))
    for index in (500, 3, 0):
        np.testing.assert_array_equal(again.render(index), scene.render(index))
        np.testing.assert_array_equal(again.truth(index).boxes, scene.truth(index).boxes)
    assert (SyntheticScene(8, (640, 480)).render(3) != scene.render(3)).mean() > 0.5
    assert (scene.render(4) != scene.render(3)).mean() > 0.5


def test_the_scene_is_a_source_like_any_other(scene):
    frames, out = SyntheticScene(7, (640, 480)), blank((640, 480))
    np.testing.assert_array_equal(frames.read(), scene.render(0))
    assert frames.read_into(out)
    np.testing.assert_array_equal(out, scene.render(1))
    np.testing.assert_array_equal(next(iter(frames)), scene.render(2))
    assert frames.index == 3
    assert scene.render(5, out) is out
    np.testing.assert_array_equal(out, scene.render(5))


def test_the_default_scene_is_full_hd_of_ten_classes():
    images = read_images("synthetic", 2)
    assert [image.shape for image in images] == [(1080, 1920, 3)] * 2
    scene = SyntheticScene()
    assert len(set(scene.names)) == 10
    truths = [scene.truth(index) for index in range(0, 3000, 100)]
    assert {int(kind) for truth in truths for kind in truth.classes} == set(range(10))
    assert min(len(truth) for truth in truths) >= 5
    boxes = np.concatenate([truth.boxes for truth in truths])
    longest = (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
    assert longest.min() < 32
    assert 400 <= longest.max() <= 600
    assert 40 < np.median(longest) < 160


def test_truth_has_the_form_of_detections_inside_the_frame(scene):
    for index in range(0, 1000, 40):
        truth = scene.truth(index)
        assert (truth.boxes.dtype, truth.scores.dtype, truth.classes.dtype) == (np.float32, np.float32, np.int64)
        assert (truth.scores == 1).all()
        assert (truth.boxes[:, :2] >= 0).all()
        assert (truth.boxes[:, 2:] <= (640, 480)).all()
        assert (truth.boxes[:, 2:] > truth.boxes[:, :2]).all()


def test_truth_is_where_the_part_is_drawn():
    """Against the same frame without its only part: inside the box it differs, outside there is only shadow."""
    scene, checked = SyntheticScene(1, (640, 480), objects=1), 0
    for index in range(0, 1500, 60):
        truth, frame = scene.truth(index), scene.render(index).astype(int)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(scene, "_placements", lambda index: [])
            empty = scene.render(index).astype(int)
        if not len(truth):
            continue
        changed = np.abs(frame - empty).max(axis=2) > 12
        left, top, right, bottom = truth.boxes[0].astype(int)
        for side in (changed[top:bottom, left], changed[top:bottom, right - 1]):
            assert side.any() or left == 0 or right == 640
        for side in (changed[top, left:right], changed[bottom - 1, left:right]):
            assert side.any() or top == 0 or bottom == 480
        brighter = frame - empty
        rim = 8  # of a part out of focus
        brighter[max(top - rim, 0) : bottom + rim, max(left - rim, 0) : right + rim] = 0
        assert brighter.max() <= 2
        checked += 1
    assert checked >= 10


def test_covered_and_cut_off_parts_follow_the_rule(scene, monkeypatch):
    sprite = scene_module.make_sprite(7, 200, np.random.default_rng(2))  # a chip
    rows, columns = (np.flatnonzero(sprite.mask.any(axis=axis)) for axis in (1, 0))
    box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
    width = box[2] - box[0]

    def truth(*places: tuple[int, int]):
        monkeypatch.setattr(scene, "_placements", lambda index: [(sprite, x, y) for x, y in places])
        return scene.truth(0)

    np.testing.assert_array_equal(truth((100, 50)).boxes, [box + np.tile([100, 50], 2)])
    np.testing.assert_array_equal(truth((100, 50)).classes, [7])
    assert len(truth((100, 50), (101, 50))) == 1
    assert len(truth((100, 50), (100 + width // 2, 50))) == 2
    half = truth((-box[0] - width // 2, 50)).boxes
    np.testing.assert_array_equal(half[:, [0, 2]], [[0, width - width // 2]])
    assert len(truth((-box[0] - width * 9 // 10, 50))) == 0
    assert len(truth()) == 0


@pytest.mark.parametrize("settings", [{"size": (640, 40)}, {"objects": 0}, {"objects": 256}, {"seed": -1}])
def test_a_scene_that_cannot_be_is_refused(settings):
    with pytest.raises(SettingsError, match="64 x 64"):
        SyntheticScene(**settings)


def test_number_of_images_counts_from_none(tmp_path):
    assert read_images("synthetic", 0) == []
    with pytest.raises(SettingsError, match="-1 images"):
        read_images("synthetic", -1)


def test_small_scenes_work():
    scene = SyntheticScene(0, (64, 65), objects=3)
    assert scene.render(0).shape == (65, 64, 3)
    assert scene.render(12_345).std() > 3


def test_the_noise_is_new_in_each_frame_and_the_light_changes():
    scene = SyntheticScene(0, (320, 240), objects=1)
    scene._placements = lambda index: []
    scene._belt[:] = 90
    frames = [scene.render(index)[20:-20].astype(float) for index in range(0, 140, 7)]
    steps = [np.std(after - before) for before, after in pairwise(frames)]
    assert min(steps) > 3
    means = [frame.mean() for frame in frames]
    assert max(means) - min(means) > 5
