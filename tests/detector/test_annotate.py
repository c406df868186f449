"""Boxes drawn and written for every kind of source."""

import json
import struct
import zlib
from pathlib import Path
from unittest import mock

import cv2
import numpy as np
import pytest
from tiny_detector import detector_model

from yolotrt_lab.cli import main
from yolotrt_lab.detector import detect
from yolotrt_lab.detector.detect import annotate, open_detector
from yolotrt_lab.detector.scene import SyntheticScene
from yolotrt_lab.errors import FrameSourceError, SettingsError
from yolotrt_lab.frames import ImageFolder, VideoFile

# 64 x 64 images go into the network as they are, 128 x 64 ones at scale 1/2 below 16 px of grey
MODEL = detector_model((10, 40, 8, 8, 0.5, 0), (32, 32, 20, 10, 0.75, 1), names=("nut", "bolt"))
SQUARE = [{"class": 1, "name": "bolt", "score": 0.75, "left": 22, "top": 27, "right": 42, "bottom": 37}]
WIDE = [{"class": 1, "name": "bolt", "score": 0.75, "left": 44, "top": 22, "right": 84, "bottom": 42}]


@pytest.fixture
def detector():
    return open_detector(MODEL, confidence=0.6)


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "Fotos äöü"
    folder.mkdir()
    for name, width in (("b.png", 64), ("a.jpg", 128)):
        (folder / name).write_bytes(cv2.imencode(f".{name[-3:]}", np.zeros((64, width, 3), np.uint8))[1].tobytes())
    return folder


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (128, 64))
    for _ in range(5):
        writer.write(np.zeros((64, 128, 3), np.uint8))
    writer.release()
    return path


def written(folder):
    return json.loads((folder / "boxes.json").read_text(encoding="utf-8"))


def test_a_folder_of_images(photos, detector, tmp_path):
    out = tmp_path / "new" / "Kästen"
    frames = annotate(ImageFolder(photos), detector, out)
    assert frames == [
        {"index": 0, "file": "000000-a.jpg", "width": 128, "height": 64, "source": "a.jpg", "boxes": WIDE},
        {"index": 1, "file": "000001-b.jpg", "width": 64, "height": 64, "source": "b.png", "boxes": SQUARE},
    ]
    assert written(out) == {
        "engine": detector.engine.label,
        "confidence": 0.6,
        "iou": 0.7,
        "max_detections": 300,
        "names": ["nut", "bolt"],
        "skipped": [],
        "frames": frames,
    }
    assert {path.name for path in out.iterdir()} == {"000000-a.jpg", "000001-b.jpg", "boxes.json"}
    drawn = cv2.imdecode(np.fromfile(out / "000000-a.jpg", np.uint8), cv2.IMREAD_COLOR)
    assert drawn.shape == (64, 128, 3)
    assert drawn[32, 44].max() > 100  # the left side of the box
    assert drawn[32, 64].max() < 60  # inside it


def test_a_source_that_was_read_from_before_goes_on_and_a_video_has_no_names(photos, video, detector, tmp_path):
    source = ImageFolder(photos)
    source.read()
    [frame] = annotate(source, detector, tmp_path / "rest")
    assert (frame["source"], frame["file"], frame["boxes"]) == ("b.png", "000000-b.jpg", SQUARE)
    frames = annotate(VideoFile(video), detector, tmp_path / "many")
    assert [frame["file"] for frame in frames] == [f"{index:06}.jpg" for index in range(5)]
    assert all(frame["boxes"] == WIDE and "source" not in frame for frame in frames)


def test_a_limit_ends_it_and_a_source_without_an_end_has_one(monkeypatch, video, detector, tmp_path):
    done = []
    assert len(annotate(VideoFile(video), detector, tmp_path / "two", limit=2, progress=done.append)) == 2
    assert done == [1, 2]
    monkeypatch.setattr(detect, "_ENDLESS_LIMIT", 3)
    assert len(annotate(SyntheticScene(size=(128, 64)), detector, tmp_path)) == 3


_HEAD = b"IHDR" + struct.pack(">IIBBBBB", 10**6, 10**6, 8, 2, 0, 0, 0)
HUGE = b"\x89PNG\r\n\x1a\n\0\0\0\r" + _HEAD + struct.pack(">I", zlib.crc32(_HEAD))  # it says so: a million pixels wide


def test_bad_and_hidden_files_of_a_folder_are_reported_and_the_others_go_on(photos, detector, tmp_path):
    for name in ("0.jpg", "aa.jpg", "z.png", "._a.jpg"):
        (photos / name).write_bytes(b"no image")
    cv2.imwrite(str(photos / "wide.png"), np.zeros((1, 65_501, 3), np.uint8))
    (photos / "zz.png").write_bytes(HUGE)
    for name in ("more", "yet more", ".cache"):
        (photos / name).mkdir()
    told = []
    frames = annotate(ImageFolder(photos), detector, tmp_path / "out", on_skip=told.append)
    assert [frame["source"] for frame in frames] == ["a.jpg", "b.png"]
    assert written(tmp_path / "out")["skipped"] == told
    ends = [
        "._a.jpg is hidden",
        f"{photos.name}: more, yet more",
        "0.jpg is no readable image",
        "aa.jpg is no readable image",
        "wide.png has a side of 65,501 px, and a JPEG 65,500 at most",
        "z.png is no readable image",
        "zz.png must hold at most 500 MB, got 3,000,000 MB",
    ]
    assert [each.rpartition("/")[2] for each in told] == ends


def test_a_folder_without_a_readable_image_is_an_error(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"no image")
    with pytest.raises(FrameSourceError, match=r"a\.jpg is no readable image"):
        ImageFolder(tmp_path)
    (tmp_path / "a.jpg").rename(tmp_path / ".a.jpg")
    (tmp_path / "below").mkdir()
    with pytest.raises(
        FrameSourceError, match=r"no images in .*; not read: .*\.a\.jpg is hidden; not read: 1 folder in "
    ):
        ImageFolder(tmp_path)


class _Breaks(ImageFolder):
    def read(self):
        if self.index:
            raise OSError(28, "No space left on device")
        return super().read()


def test_the_frames_before_an_error_are_kept(photos, video, detector, tmp_path):
    with pytest.raises(SettingsError, match="No space left"):
        annotate(_Breaks(photos), detector, tmp_path / "out")
    assert [frame["source"] for frame in written(tmp_path / "out")["frames"]] == ["a.jpg"]


def test_of_a_full_disk_no_half_image_stays(video, detector, tmp_path, monkeypatch):
    write = Path.write_bytes

    def full(path, data):
        if path.name == "000002.jpg":
            write(path, data[:10])
            raise OSError(28, "No space left on device")
        write(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(SettingsError, match="No space left on device") as caught:
        annotate(VideoFile(video), detector, tmp_path / "out", labels=True)
    assert caught.value.__notes__ == [f"2 frames were done before: {tmp_path / 'out' / 'boxes.json'}"]
    assert [frame["file"] for frame in written(tmp_path / "out")["frames"]] == ["000000.jpg", "000001.jpg"]
    names = {"000000.jpg", "000001.jpg", "000000.txt", "000001.txt", "boxes.json"}
    assert {path.name for path in (tmp_path / "out").rglob("*.*")} == names


@pytest.mark.parametrize("name", ["a\nb", "\udcff", "x" * 250, "ä" * 125, "\U0001f529"])
def test_images_of_any_name_are_drawn(name, photos, detector, tmp_path):
    try:
        (photos / "a.jpg").rename(photos / f"{name}.jpg")
    except OSError:
        pytest.skip("this file system has no such names")
    frames = annotate(ImageFolder(photos), detector, tmp_path / "out", labels=True)
    assert f"{name}.jpg" in [frame["source"] for frame in frames]
    assert all((tmp_path / "out" / frame[kind]).exists() for frame in frames for kind in ("file", "labels"))
    annotate(ImageFolder(photos), detector, tmp_path / "out")  # knows its own files


def test_what_an_earlier_run_wrote_goes_and_nothing_else(photos, video, detector, tmp_path):
    out = tmp_path / "out"
    annotate(VideoFile(video), detector, out, labels=True)
    (out / "mine.jpg").write_bytes(b"kept")
    assert len(list((out / "labels").iterdir())) == 5
    annotate(ImageFolder(photos), detector, out)
    assert {path.name for path in out.glob("*.*")} == {"000000-a.jpg", "000001-b.jpg", "boxes.json", "mine.jpg"}
    assert list((out / "labels").iterdir()) == []
    with pytest.raises(OSError, match="lost"), mock.patch.object(detector, "_run", side_effect=OSError("lost")):
        detector(np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(SettingsError), mock.patch.object(detector, "_run", side_effect=OSError("lost")):
        annotate(ImageFolder(photos), detector, out)  # fails before its first frame
    assert len(written(out)["frames"]) == 2
    stray = tmp_path / "stray.jpg"
    stray.write_bytes(b"kept")
    (out / "boxes.json").write_text(
        json.dumps(written(out) | {"frames": [{"file": "../stray.jpg", "labels": "../../x.txt"}]})
    )
    for path in out.glob("0*.jpg"):
        path.unlink()
    annotate(ImageFolder(photos), detector, out)
    assert stray.exists()


def test_labels_are_fractions_of_the_frame(photos, detector, tmp_path):
    [wide, square] = annotate(ImageFolder(photos), detector, tmp_path / "out", labels=True)
    assert (tmp_path / "out" / wide["labels"]).read_text() == "1 0.500000 0.500000 0.312500 0.312500\n"
    assert (tmp_path / "out" / square["labels"]).read_text() == "1 0.500000 0.500000 0.312500 0.156250\n"


@pytest.mark.parametrize(("classes", "found"), [(["nut"], [0]), ([1], [1]), (["1", "nut"], [1, 0]), (None, [1, 0])])
def test_only_the_classes_that_are_asked_for(classes, found):
    model = detector_model((10, 40, 8, 8, 0.5, 0), (32, 32, 20, 10, 0.75, 1), names=("nut", "bolt"))
    frame = np.full((64, 64, 3), 255, np.uint8)
    assert open_detector(model, classes=classes)(frame).classes.tolist() == found


@pytest.mark.parametrize("unknown", ["screw", "2", 2, -1])
def test_a_class_that_the_model_does_not_know_is_refused(unknown):
    with pytest.raises(SettingsError, match=f"that the model knows, got {unknown!r}\nFix: use some of nut, bolt"):
        open_detector(MODEL, classes=[unknown])


def test_a_folder_that_is_read_or_cannot_be_written_is_refused(photos, detector, tmp_path):
    with pytest.raises(SettingsError, match="must not be the one to read"):
        annotate(ImageFolder(photos), detector, photos / ".." / photos.name)
    assert {path.name for path in photos.iterdir()} == {"a.jpg", "b.png"}
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SettingsError, match="must be one that can be written"):
        annotate(ImageFolder(photos), detector, tmp_path / "file")


@pytest.mark.parametrize("name", ["boxes.json", "000007.jpg", "labels/000000.txt"])
def test_what_no_earlier_run_wrote_is_not_overwritten(name, photos, detector, tmp_path):
    mine = tmp_path / "out" / name
    mine.parent.mkdir(parents=True)
    mine.write_text('{"frames": []}')
    with pytest.raises(SettingsError, match=f"{mine.name} is not what an earlier run wrote"):
        annotate(ImageFolder(photos), detector, tmp_path / "out", labels=True)
    assert list((tmp_path / "out").rglob("*.*")) == [mine]
    assert mine.read_text() == '{"frames": []}'


def test_the_command(photos, tmp_path, capsys):
    model, out = tmp_path / "model.onnx", tmp_path / "out"
    model.write_bytes(MODEL)
    command = ["detect", str(photos), "--model", str(model), "--out", str(out), "--confidence", "0.3", "--limit", "1"]
    assert main(command) == 0
    [line] = capsys.readouterr().out.splitlines()
    assert line.startswith("1 box in 1 frame by ONNX Runtime ")
    assert "machine parts alone" not in capsys.readouterr().err
    result = written(out)
    assert (result["source"], result["model"], result["confidence"]) == (str(photos), "model.onnx", 0.3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.mp4"], "there is no nowhere.mp4\nFix: name a video file"),
        (["{photos}", "--model", "nowhere.onnx"], "nowhere.onnx cannot be read"),
        (["{photos}", "--model", "{photos}/a.jpg"], "a.jpg must be an ONNX model"),
        (["{photos}", "--model", "{model}", "--confidence", "nan"], "confidence and iou must be from 0 to 1"),
        (["{photos}", "--model", "{model}", "--limit", "0"], "limit must be 1 frame or more, got 0"),
        (["{photos}", "--model", "{model}", "--max-detections", "0"], "max_detections 1 or more"),
        (["{photos}", "--model", "{model}", "--classes", "dog"], "got 'dog'\nFix: use some of nut, bolt"),
        (["{photos}", "--model", "{model}", "--imgsz", "640"], "image_size must be (64, 64), the one that model has"),
        (["{photos}", "--model", "{model}", "--imgsz", "1", "2", "3"], "--imgsz must be one or two numbers, got 3"),
        (["{photos}", "--classes", "dog"], "the lab's own model knows machine parts alone"),
    ],
)
def test_the_command_says_what_is_wrong(arguments, message, photos, tmp_path, capsys):
    (tmp_path / "model.onnx").write_bytes(MODEL)
    filled = [argument.format(photos=photos, model=tmp_path / "model.onnx") for argument in arguments]
    assert main(["detect", *filled, "--out", str(tmp_path / "out")]) == 2
    assert not (tmp_path / "out").exists()
    assert message in capsys.readouterr().err
