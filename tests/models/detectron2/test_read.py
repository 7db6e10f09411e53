"""Files of detectron2 without detectron2: names, pickles that run code, refusals, classes."""

from __future__ import annotations

import os
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml

from napari_fossiledit.errors import FossilError
from napari_fossiledit.models.detectron2.classes import parse_classes
from napari_fossiledit.models.detectron2.config import nested, read_config
from napari_fossiledit.models.detectron2.layers import theirs
from napari_fossiledit.models.detectron2.read import read_detectron2
from napari_fossiledit.models.detectron2.restricted_pickle import read_pickle
from napari_fossiledit.models.detectron2.write import to_detectron2, write_detectron2
from napari_fossiledit.models.inference.preprocessing import Preprocessing, Resize
from napari_fossiledit.models.inference.segmenter import MaskRcnnSegmenter
from napari_fossiledit.models.network.mask_rcnn import MaskRcnn
from napari_fossiledit.models.network.spec import default_spec
from napari_fossiledit.models.training.initial import initial_network
from napari_fossiledit.params.segment import TrainParams

SMALL = {"box_width": 16, "mask_channels": 8}
CLASSES = ("archaeocyathid", "calcimicrobe", "mud")


class Runs:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (os.mkdir, (self.path,))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    spec = default_spec("r50", CLASSES).model_copy(update=SMALL)
    return MaskRcnnSegmenter(MaskRcnn(spec), Preprocessing(scale=0.5))


@pytest.fixture(scope="module")
def state(model):
    return to_detectron2(model)[0]["model"]


def _saved(path, state):
    torch.save({"model": state, "iteration": 7}, path)
    return path


def _said(function, *arguments, **options):
    with pytest.raises(FossilError) as error:
        function(*arguments, **options)
    return str(error.value)


def _refused(tmp_path, state):
    return _said(read_detectron2, _saved(tmp_path / "m.pth", state))


def test_layers_have_detectron2_names(state):
    known = {
        "backbone.bottom_up.stem.conv1.norm.running_var": (64,),
        "backbone.bottom_up.res2.0.shortcut.weight": (256, 64, 1, 1),
        "backbone.bottom_up.res5.2.conv3.norm.bias": (2048,),
        "backbone.fpn_lateral2.weight": (256, 256, 1, 1),
        "backbone.fpn_output5.bias": (256,),
        "proposal_generator.rpn_head.anchor_deltas.weight": (12, 256, 1, 1),
        "roi_heads.box_head.fc1.weight": (16, 256 * 49),
        "roi_heads.box_predictor.cls_score.weight": (4, 16),
        "roi_heads.box_predictor.bbox_pred.weight": (12, 16),
        "roi_heads.mask_head.mask_fcn4.weight": (8, 8, 3, 3),
        "roi_heads.mask_head.deconv.weight": (8, 8, 2, 2),
        "roi_heads.mask_head.predictor.weight": (3, 8, 1, 1),
    }
    assert {name: tuple(state[name].shape) for name in known} == known


def test_names_do_not_collide(model, state):
    names = list(model.network.state_dict())
    assert len({theirs(name) for name in names}) == len(names) == len(state)
    with pytest.raises(KeyError):
        theirs("backbone.body.unknown.weight")


def test_round_trip_gives_the_very_same_model(model, tmp_path):
    notes = write_detectron2(model, tmp_path)
    again = read_detectron2(tmp_path / "model_final.pth").segmenter("cpu")
    assert again.model_hash == model.model_hash
    for name, value in model.network.state_dict().items():
        assert torch.equal(again.network.state_dict()[name], value), name
    assert any("scaled by 0.5" in note for note in notes)
    assert any("rounded" in note for note in notes)


def test_background_moves_from_last_to_first(model, state, tmp_path):
    found = read_detectron2(_saved(tmp_path / "m.pth", state), classes=CLASSES)
    assert found.spec.classes == CLASSES
    ours = model.network.state_dict()
    for name in ("weight", "bias"):
        score = f"roi_heads.box_predictor.cls_score.{name}"
        assert torch.equal(state[score][-1], ours[score][0])
        assert torch.equal(found.weights[score], ours[score])
    for layer, rows in (("box_predictor.bbox_pred", 4), ("mask_predictor.mask_fcn_logits", 1)):
        name = f"roi_heads.{layer}.weight"
        assert not found.weights[name][:rows].any()
        assert torch.equal(found.weights[name][rows:], ours[name][rows:])


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_model_zoo_pickles_are_read(state, tmp_path, protocol):
    path = tmp_path / "model_final.pkl"
    arrays = {name: value.numpy() for name, value in state.items()}
    content = {"model": arrays, "__author__": "Detectron2 Model Zoo"}
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    found = read_detectron2(path)
    name = "backbone.fpn.layer_blocks.0.0.weight"
    assert torch.equal(found.weights[name], state["backbone.fpn_output2.weight"])
    assert found.spec.stride_in_1x1
    assert found.spec.exact_anchors
    assert found.spec.aligned_roi
    assert found.preprocessing.bgr
    assert found.preprocessing.resize is Resize.SHORT_EDGE
    assert found.preprocessing.mean == (103.53, 116.28, 123.675)
    assert "No configuration was given" in found.notes[0]
    assert found.spec.classes == ("class 0", "class 1", "class 2")


def test_restricted_pickles_hold_tensors_and_scalars(tmp_path):
    path = tmp_path / "w.pkl"
    values = {"a": torch.arange(6.0).reshape(2, 3).T, "b": np.float32(2), "c": b"\xff", "d": [1]}
    for protocol in (2, 5):
        path.write_bytes(pickle.dumps(values, protocol=protocol))
        found = read_pickle(path)
        assert torch.equal(found["a"], values["a"])
        assert found["b"] == 2
        assert found["d"] == [1]


@pytest.mark.parametrize("name", ["m.pkl", "m.pth"])
def test_code_in_a_file_does_not_run(tmp_path, name):
    trap, path = tmp_path / "it ran", tmp_path / name
    if name.endswith("pkl"):
        path.write_bytes(pickle.dumps({"model": {"a": Runs(trap)}}))
    else:
        torch.save({"model": {"a": Runs(trap)}}, path)
    said = _said(read_detectron2, path)
    assert not trap.exists()
    assert str(path) in said
    assert "mkdir" in said


def test_code_hidden_in_a_tensor_does_not_run(tmp_path):
    trap, path = tmp_path / "it ran", tmp_path / "m.pkl"
    inner = pickle.dumps(Runs(trap))

    class Storage:
        def __reduce__(self):
            return (torch.storage._load_from_bytes, (inner,))

    path.write_bytes(pickle.dumps({"model": {"a": Storage()}}))
    assert str(path) in _said(read_detectron2, path)
    assert not trap.exists()


@pytest.mark.parametrize("name", ["m.pkl", "m.pth"])
@pytest.mark.parametrize("kept", [0, 40, 300])
def test_truncated_files_are_named(tmp_path, name, kept):
    path, values = tmp_path / name, {"model": {"a": np.zeros(99)}}
    if name.endswith("pkl"):
        path.write_bytes(pickle.dumps(values))
    else:
        torch.save({"model": {"a": torch.zeros(99)}}, path)
    path.write_bytes(path.read_bytes()[:kept])
    said = _said(read_detectron2, path)
    assert str(path) in said
    assert "cannot be read" in said


def test_a_file_that_is_not_there(tmp_path):
    for name in ("no.pth", "no.pkl"):
        assert name in _said(read_detectron2, tmp_path / name)


def test_folders_and_empty_files(tmp_path):
    assert "found a folder with no such file" in _said(read_detectron2, tmp_path)
    for name in ("empty.pth", "empty.pkl"):
        (tmp_path / name).touch()
        said = _said(read_detectron2, tmp_path / name)
        assert f"{tmp_path / name} cannot be read; expected a checkpoint file" in said
        assert "found 0 bytes" in said
    assert "found a folder with empty.pkl, empty.pth. Choose" in _said(read_detectron2, tmp_path)


def _without(state, *starts):
    return {n: v for n, v in state.items() if not n.startswith(starts)}


def test_other_networks_are_refused(state, tmp_path):
    one = torch.zeros(1)
    masks = _without(state, "roi_heads.mask_head")
    assert "Faster R-CNN: no masks" in _refused(tmp_path, masks)
    retina = _without(state, "roi_heads", "proposal_generator", "backbone.fpn_output2")
    assert "found RetinaNet" in _refused(tmp_path, {**retina, "head.cls_score.weight": one})
    no_pyramid = {n.replace("bottom_up.", ""): v for n, v in state.items() if "fpn" not in n}
    assert "without a feature pyramid (C4" in _refused(tmp_path, no_pyramid)
    cascade = {n.replace("box_head.", "box_head.0."): v for n, v in state.items()}
    assert "found Cascade R-CNN" in _refused(tmp_path, cascade)
    assert "ImageNet backbone" in _refused(tmp_path, {"res2_0_branch2a_w": one})
    more = {**state, "sem_seg_head.predictor.weight": one}
    assert "found Panoptic FPN" in _refused(tmp_path, more)
    fewer = _without(state, "backbone.bottom_up.res4.5.")
    said = _refused(tmp_path, fewer)
    assert "expected a Mask R-CNN on a ResNet-50" in said
    assert "(3, 4, 5, 3) blocks" in said
    assert "holds no state dictionary" in _refused(tmp_path, {"a": "text"})
    unknown = {**state, "backbone.attention.weight": one}
    assert "1 more layers, e.g. backbone.attention.weight" in _refused(tmp_path, unknown)
    lacking = _without(state, "backbone.bottom_up.res3.1.conv2.weight")
    assert "no layer backbone.bottom_up.res3.1.conv2.weight" in _refused(tmp_path, lacking)


def test_another_pyramid_width_is_refused(state, tmp_path):
    narrow = {**state, "backbone.fpn_output2.weight": torch.zeros(128, 128, 3, 3)}
    said = _refused(tmp_path, narrow)
    assert "expected 256 channels" in said
    assert "found 128 channels" in said


def test_class_agnostic_heads_are_refused(state, tmp_path):
    name = "roi_heads.box_predictor.bbox_pred"
    both = {f"{name}.{k}": state[f"{name}.{k}"][:4] for k in ("weight", "bias")}
    assert "CLS_AGNOSTIC" in _refused(tmp_path, {**state, **both})


def test_old_checkpoints_with_pixel_mean_and_without_statistics(state, tmp_path):
    old = {n: v for n, v in state.items() if "running" not in n}
    old["pixel_mean"] = torch.tensor([1.0, 2.0, 3.0])[:, None, None]
    old["proposal_generator.anchor_generator.cell_anchors.0"] = torch.zeros(3, 4)
    found = read_detectron2(_saved(tmp_path / "m.pth", old))
    assert found.preprocessing.mean == (1.0, 2.0, 3.0)
    assert any("statistics were not saved" in note for note in found.notes)
    assert float(found.weights["backbone.body.bn1.running_var"].min()) == 1.0


def _config(path, **values):
    said = {key.replace("__", "."): value for key, value in values.items()}
    path.write_text(yaml.safe_dump({**nested(said), "VERSION": 2}))
    return path


@pytest.fixture
def files(state, tmp_path):
    usual = {"MODEL__ROI_HEADS__NUM_CLASSES": 3, "MODEL__ROI_BOX_HEAD__FC_DIM": 16}
    usual |= {"MODEL__ROI_MASK_HEAD__CONV_DIM": 8}

    def write(**values):
        return _config(tmp_path / "c.yaml", **{**usual, **values})

    return _saved(tmp_path / "m.pth", state), write


def test_configuration_rules(files):
    path, write = files
    config = write(
        INPUT__FORMAT="RGB",
        INPUT__MIN_SIZE_TEST=640,
        MODEL__PIXEL_STD=[57.0, 58.0, 59.0],
        MODEL__RESNETS__STRIDE_IN_1X1=False,
        MODEL__RESNETS__NORM="SyncBN",
        MODEL__RPN__PRE_NMS_TOPK_TEST=321,
        MODEL__ROI_HEADS__SCORE_THRESH_TEST=0.3,
        TEST__DETECTIONS_PER_IMAGE=300,
    )
    found = read_detectron2(path, config=config, classes=CLASSES)
    assert not found.preprocessing.bgr
    assert found.preprocessing.std == (57.0, 58.0, 59.0)
    assert (found.preprocessing.short_edge, found.preprocessing.long_edge) == (640, 1333)
    assert not found.spec.stride_in_1x1
    assert found.spec.proposals_predict == (321, 1000)
    assert (found.score_threshold, found.max_detections) == (0.3, 300)
    assert found.notes == ()


@pytest.mark.parametrize(
    ("values", "expected", "found"),
    [
        ({"MODEL__RESNETS__DEPTH": 101}, "DEPTH = 50", "DEPTH = 101"),
        ({"MODEL__ROI_HEADS__NUM_CLASSES": 80}, "NUM_CLASSES = 3", "NUM_CLASSES = 80"),
        ({"MODEL__META_ARCHITECTURE": "RetinaNet"}, "GeneralizedRCNN", "RetinaNet"),
        ({"MODEL__MASK_ON": False}, "MASK_ON = True", "MASK_ON = False"),
        ({"MODEL__FPN__NORM": "GN"}, "FPN.NORM = ''", "'GN'"),
        ({"MODEL__RESNETS__NORM": "GN"}, "RESNETS.NORM = 'FrozenBN'", "'GN'"),
        ({"MODEL__BACKBONE__NAME": "build_resnet_backbone"}, "fpn_backbone", "_resnet_backbone"),
        ({"INPUT__FORMAT": "YUV-BT.601"}, "values of a Mask R-CNN", "YUV"),
        ({"MODEL__ANCHOR_GENERATOR__SIZES": [[8, 16]]}, "values of a Mask", "SIZES is [[8, 16]]"),
        ({"MODEL__PIXEL_MEAN": [1.0]}, "values of a Mask", "mean"),
    ],
)
def test_configurations_of_other_networks_are_refused(files, values, expected, found):
    path, write = files
    config = write(**values)
    said = _said(read_detectron2, path, config=config)
    assert str(config) in said
    assert expected in said.split("expected", 1)[1]
    assert found in said.split("found", 1)[1]


def test_configurations_build_on_others_and_run_nothing(tmp_path):
    base = tmp_path / "Base.yaml"
    base.write_text("MODEL:\n  MASK_ON: true\n  PIXEL_STD: !!python/tuple [2.0, 2.0, 2.0]\n")
    (tmp_path / "c.yaml").write_text("_BASE_: Base.yaml\nMODEL:\n  MASK_ON: false\n")
    found, missing = read_config(tmp_path / "c.yaml")
    assert found == {"MODEL.MASK_ON": False, "MODEL.PIXEL_STD": [2.0, 2.0, 2.0]}
    assert missing == ()
    base.unlink()
    assert read_config(tmp_path / "c.yaml") == ({"MODEL.MASK_ON": False}, ("Base.yaml",))
    trap = tmp_path / "it ran"
    for text in (f"MODEL: !!python/object/apply:os.mkdir ['{trap}']", "MODEL: [", "a: 1", "- 1"):
        base.write_text(text)
        assert str(base) in _said(read_config, base)
    assert not trap.exists()


def test_classes_are_named_or_chosen(model, state, tmp_path):
    path = _saved(tmp_path / "m.pth", state)
    said = _said(read_detectron2, path, classes=("archaeocyathid",))
    assert "expected 3 names" in said
    assert "e.g. 0=archaeocyathid" in said
    assert "from 0 to 2" in _said(read_detectron2, path, classes={3: "a"})
    assert "same name" in _said(read_detectron2, path, classes=("a", "b", "a"))
    assert "or some, e.g. 0=name" in _said(read_detectron2, path, classes=("-", "-", "-"))
    kept = read_detectron2(path, classes={2: "mud", 0: "archaeocyathid"})
    assert kept.spec.classes == ("archaeocyathid", "-", "mud")
    assert read_detectron2(path, classes=("archaeocyathid", "-", "mud")).spec == kept.spec


def test_classes_that_are_left_out_keep_their_share_of_the_scores(files):
    torch.manual_seed(1)
    image = torch.randint(0, 255, (96, 128, 3), dtype=torch.uint8).numpy()
    path, write = files
    config = write(INPUT__MIN_SIZE_TEST=192)  # 800 pixels, as usual, take ten times as long
    whole = read_detectron2(path, config=config, classes=CLASSES).segmenter("cpu")
    part = read_detectron2(path, config=config, classes={2: "mud"}).segmenter("cpu")
    found = part.predict(image, max_detections=1000)
    wanted = [i for i in whole.predict(image, max_detections=2000) if i.class_name == "mud"]
    assert found
    assert {i.class_name for i in found} == {"mud"}
    assert [i.score for i in found] == [i.score for i in wanted[: len(found)]]
    for ours, other in zip(found, wanted, strict=False):
        assert (ours.mask.to_array() == other.mask.to_array()).all()


def test_classes_as_text():
    assert parse_classes(" ") is None
    assert parse_classes("a, b") == ("a", "b")
    assert parse_classes("0 = a,3=b") == {0: "a", 3: "b"}
    for text in ("0=a,b", "x=a", "0=a,0=b", "1="):
        assert text in _said(parse_classes, text)


@pytest.mark.parametrize("suffix", ["pth", "pkl"])
def test_training_starts_from_a_detectron2_file(state, tmp_path, suffix):
    path = tmp_path / f"model_final.{suffix}"
    if suffix == "pth":
        _saved(path, state)
    else:
        path.write_bytes(pickle.dumps({"model": {n: v.numpy() for n, v in state.items()}}))
    params = TrainParams(architecture="r50", classes=("a", "b"), init=str(path))
    network, preprocessing, notes = initial_network(params)
    assert network.spec.classes == ("a", "b")
    assert network.spec.stride_in_1x1
    assert preprocessing is not None
    assert preprocessing.bgr
    weight = network.backbone.fpn.layer_blocks[1][0].weight
    assert torch.equal(weight, state["backbone.fpn_output3.weight"])
    assert network.roi_heads.box_predictor.cls_score.weight.shape == (3, 16)
    assert "No configuration was given" in notes[0]
    assert "start anew for a, b" in notes[-1]
    same = initial_network(params.model_copy(update={"classes": ("a", "b", "c")}))
    scores = same.network.roi_heads.box_predictor.cls_score.weight
    assert torch.equal(scores[1:], state["roi_heads.box_predictor.cls_score.weight"][:-1])
    assert "go on from those" in same.notes[-1]
    other = TrainParams(architecture="r101", classes=("a",), init=str(path))
    said = _said(initial_network, other)
    assert "expected r101" in said
    assert "found r50. Train with --architecture r50" in said


def test_lite_has_no_place_in_detectron2(tmp_path):
    small = {"channels": 16, "box_width": 16, "mask_channels": 8}
    spec = default_spec("lite", ("a",)).model_copy(update=small)
    model = MaskRcnnSegmenter(MaskRcnn(spec), Preprocessing())
    said = _said(write_detectron2, model, tmp_path / "out")
    assert "found lite" in said
    assert "expected a model of architecture r50, r101 or x101" in said
    assert not (tmp_path / "out").exists()


def test_an_edit_of_the_masks_alone_has_no_place_in_detectron2(tmp_path):
    spec = default_spec("r50", ("a",)).model_copy(update={"mask_levels": (0, 1)})
    model = SimpleNamespace(spec=spec)
    said = _said(write_detectron2, model, tmp_path / "out")
    assert "holds an edit of the masks alone" in said
    assert "on levels (0, 1)" in said
    assert "--scope all" in said
    assert not (tmp_path / "out").exists()


def test_a_file_that_does_not_fit_is_told_and_leaves_nothing(tmp_path, model):
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
    try:
        with pytest.raises(FossilError, match=r"Writing .*model_final\.pth failed"):
            write_detectron2(model, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []
