"""A rig of other cameras than nuScenes' goes through every verb, and what its root does not say is
not scored.
"""

import json
import math
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from sparsevit3d.errors import InputError
from tests.support.console import SMALL, run_here
from tests.support.own_frames import car, write_frames

TINY = [
    word
    for option in (
        "image_size=[128,64]",
        "train_dataloader.batch_size=2",
        "train_dataloader.num_workers=0",
        "test_dataloader.num_workers=0",
        "model.test_cfg.score_thr=0.0",
        'classes=["car","truck"]',
    )
    for word in ("--set", option)
]


def imported(folder, headings, change=None):
    document = write_frames(folder, headings)
    if change:
        change(document)
        (folder / "frames.json").write_text(json.dumps(document))
    root = folder / "root"
    run_here("data", "import", "frames", folder / "frames.json", root)
    run_here("data", "infos", root, "--workers", 1)
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A root of two cameras that look ahead and back, with cars of unknown velocity."""
    return imported(tmp_path_factory.mktemp("rig"), {"rear": 180, "ahead": 0})


@pytest.fixture(scope="module")
def weights(root, tmp_path_factory):
    """A fresh detector's weights, sealed as a checkpoint."""
    from mmdet3d.registry import MODELS

    from sparsevit3d.stages.checkpoints import seal
    from sparsevit3d.stages.config import load_config

    torch.manual_seed(0)
    config = load_config(SMALL, root, None, TINY[1::2])
    content = {"state_dict": MODELS.build(config.model).state_dict()}
    seal(content)
    path = tmp_path_factory.mktemp("weights") / "fresh.pth"
    torch.save(content, path)
    return path


def last_line(done):
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_a_score_that_the_truth_does_not_define_is_none(root, weights, tmp_path):
    done = run_here("eval", SMALL, weights, "--data", root, "--work-dir", tmp_path, *TINY)
    score = last_line(done)
    assert 0 <= score["mAP"] <= 1
    assert score["NDS"] is None
    assert score["mAVE"] is None
    assert score["mAAE"] is None
    assert score["AP/truck"] is None  # no truck is in the split
    assert "AP/bus" not in score  # this detector looks for no bus
    text = " ".join(done.stdout.split())
    assert "NDS is not defined: the truth has no velocities and no attributes." in text
    submission = json.loads((tmp_path / "results_nusc.json").read_text())["results"]
    found = [box for boxes in submission.values() for box in boxes]
    assert {box["detection_name"] for box in found} <= {"car", "truck"}
    again = run_here(*("score", tmp_path / "results_nusc.json", "--data", root, "--split", "val"))
    assert last_line(again)["AP/car"] == pytest.approx(score["AP/car"])


@pytest.mark.slow
def test_a_split_without_truth_is_not_scored_and_not_searched_on(tmp_path, weights):
    def no_objects(document):
        for frame in document["frames"][2:]:
            frame["objects"] = []

    bare = imported(tmp_path, {"ahead": 0}, no_objects)
    folder = tmp_path / "eval"
    done = run_here("eval", SMALL, weights, "--data", bare, "--work-dir", folder, *TINY)
    assert last_line(done)["mAP"] is None
    assert "Not scored: the split has no truth." in " ".join(done.stdout.split())
    assert (folder / "results_nusc.json").is_file()
    scored = run_here("score", folder / "results_nusc.json", "--data", bare, "--split", "val")
    assert last_line(scored)["mAP"] is None
    for score, words in (("mAP", "has no truth to judge plans by"), ("loss", "shows an object")):
        refused = run_here(
            *("search", SMALL, "--from", weights, "--data", bare, "--score", score, *TINY),
            *("--work-dir", tmp_path / score),
            check=False,
        )
        assert refused.returncode == 1
        assert words in " ".join(refused.stdout.split())


@pytest.mark.slow
def test_a_search_by_an_undefined_score_is_refused(root, weights, tmp_path):
    arguments = ("--from", weights, "--data", root, "--work-dir", tmp_path, *TINY)
    refused = run_here("search", SMALL, *arguments, "--score", "NDS", check=False)
    assert "defines no mAVE and mAAE" in " ".join(refused.stdout.split())


def train_set(root, **options):
    from mmdet3d.registry import DATASETS

    from sparsevit3d.stages.config import load_config

    part = load_config(SMALL, root, None, TINY[1::2]).train_dataloader.dataset
    part.update(options)
    return DATASETS.build(part)


def test_an_image_without_objects_can_be_trained_on(tmp_path):
    def empty_first(document):
        document["frames"][0]["objects"] = []

    dataset = train_set(imported(tmp_path, {"ahead": 0}, empty_first), filter_empty_gt=False)
    sample = dataset[0]["data_samples"].gt_instances_3d
    assert len(sample.labels_3d) == 0
    assert sample.centers_2d.shape == (0, 2)


def test_training_without_any_object_is_refused(tmp_path):
    def none(document):
        for frame in document["frames"]:
            frame["objects"] = []

    with pytest.raises(InputError, match="no image shows an object of car, truck"):
        train_set(imported(tmp_path, {"ahead": 0}, none))


def test_what_is_unknown_costs_nothing_and_what_is_known_does(tmp_path):
    """Neither velocity nor attribute is known of the first car, both are of the second."""
    from mmdet3d.registry import MODELS
    from mmengine.dataset import pseudo_collate

    from sparsevit3d.stages.config import load_config

    def half_known(document):
        known = {"velocity": [0.0, 20.0], "attribute": "vehicle.moving"}
        document["frames"][1]["objects"] = [car(**known)]

    root = imported(tmp_path, {"ahead": 0}, half_known)
    config = load_config(SMALL, root, None, TINY[1::2])
    torch.manual_seed(0)
    model = MODELS.build(config.model)
    dataset = train_set(root)
    losses = []
    for number in (0, 1):
        batch = model.data_preprocessor(pseudo_collate([dataset[number]]), training=True)
        model.zero_grad()
        found = model(**batch, mode="loss")
        model.parse_losses(found)[0].backward()
        weights = model.bbox_head.conv_regs[4].parameters()
        moved = sum(float(weight.grad.abs().sum()) for weight in weights)
        losses.append((float(found["loss_velo"]), float(found["loss_attr"]), moved))
    assert losses[0] == (0.0, 0.0, 0.0)
    assert min(losses[1]) > 0
    assert all(map(math.isfinite, losses[1]))


def test_a_detector_of_all_classes_starts_one_of_some(root, tmp_path):
    from mmdet3d.registry import MODELS

    from data_tools.schema import CLASSES
    from sparsevit3d.stages.checkpoints import load_weights, seal
    from sparsevit3d.stages.config import load_config

    options = [option for option in TINY[1::2] if not option.startswith("classes")]
    content = {
        "state_dict": MODELS.build(load_config(SMALL, root, None, options).model).state_dict()
    }
    seal(content)
    torch.save(content, tmp_path / "all.pth")
    config = load_config(SMALL, root, None, [*options, 'classes=["bus","car"]'])
    assert config.model.bbox_head.bbox_coder.base_dims[1][0] == 4.7  # a car's length
    model = MODELS.build(config.model)
    with pytest.raises(InputError, match="does not fit"):
        load_weights(model, tmp_path / "all.pth")
    load_weights(model, tmp_path / "all.pth", config.classes)
    name = "bbox_head.conv_cls.weight"
    rows = [CLASSES.index("bus"), CLASSES.index("car")]
    assert torch.equal(model.state_dict()[name], content["state_dict"][name][rows])


def test_pictures_name_true_objects_as_the_root_does(tmp_path, weights):
    """The detector numbers its two classes otherwise than the info file numbers all ten."""
    from sparsevit3d.stages.config import load_config
    from sparsevit3d.stages.look import open_keyframes

    def of_three_classes(document):
        document["frames"][3]["objects"] = [
            car(x=x) | {"class": name} for x, name in ((-3.0, "truck"), (0.0, "bus"), (3.0, "car"))
        ]

    root = imported(tmp_path, {"ahead": 0}, of_three_classes)
    config = load_config(SMALL, root, None, [*TINY[1:-2:2], 'classes=["truck","car"]'])
    moment = open_keyframes(config, weights, "val").look(0)
    assert moment.views[0].truth.names == ["truck", "car"]
    assert moment.views[0].truth.centres[:, 0] == pytest.approx([-3.0, 3.0], abs=1e-5)
    assert moment.truth.names == ["truck", "car"]


@pytest.mark.parametrize("classes", ['["tram"]', "[]", '["car","car"]'])
def test_classes_that_do_not_exist_are_refused(root, classes):
    from sparsevit3d.stages.config import load_config

    with pytest.raises(InputError, match=r"classes is .*\. Name one or more of car, truck"):
        load_config(SMALL, root, None, [f"classes={classes}"])


@pytest.mark.slow
@pytest.mark.parametrize("headings", [{"only": 0}, {"rear": 180, "ahead": 0, "left": 90}])
def test_every_verb_works_on_any_rig(headings, tmp_path):
    from sparsevit3d.stages.benchmark import trained_subject
    from sparsevit3d.stages.config import load_config

    root = imported(tmp_path / "data", headings)
    data = ("--data", root, *TINY)
    once = ("--set", "train_cfg.max_epochs=1")
    run_here("data", "check", root)
    run_here("data", "stats", root, "--out", tmp_path / "stats.png")
    run_here("data", "sheet", root, "--count", 3, "--out", tmp_path / "sheet.png")
    run_here("train", SMALL, "--work-dir", tmp_path / "trained", *data, *once)
    trained = tmp_path / "trained" / "epoch_0001.pth"
    run_here("adapt", SMALL, "--from", trained, "--work-dir", tmp_path / "adapted", *data, *once)
    adapted = tmp_path / "adapted" / "epoch_0001.pth"
    run_here(
        *("search", SMALL, "--from", adapted, "--work-dir", tmp_path / "search", *data),
        *("--population", 2, "--parents", 2, "--generations", 1, "--workers", 1),
    )
    plan = tmp_path / "search" / "plan.json"
    sparse = ("--plan", plan, "--work-dir", tmp_path / "sparse")
    run_here("finetune", SMALL, "--from", adapted, *sparse, *data, *once)
    checkpoint = tmp_path / "sparse" / "epoch_0001.pth"
    score = last_line(run_here("eval", SMALL, checkpoint, *data))
    assert score["mAP"] is not None
    # What 'benchmark' times; compiling its rivals would take minutes.
    subject = trained_subject(load_config(SMALL, root, None, TINY[1::2]), checkpoint, "val")
    assert subject.images.shape[0] == len(headings)
    for verb in ("masks", "boxes", "recall"):
        run_here("visualize", verb, SMALL, checkpoint, *data, "--out", tmp_path / "pictures")
    recording = ["rerun drive.rrd"] if find_spec("rerun") else []
    for words in ("scene scene.png", "video drive.mp4", "report report.html", *recording):
        verb, name = words.split()
        run_here("visualize", verb, SMALL, checkpoint, *data, "--out", tmp_path / name)
        assert (tmp_path / name).stat().st_size > 10_000
    page = (tmp_path / "report.html").read_text()
    assert all(f'"{name}"' in page for name in headings)
    calibration = tmp_path / "calibration.json"
    camera = json.loads((tmp_path / "data" / "frames.json").read_text())["cameras"]
    lens = camera[next(iter(headings))]["intrinsic"]
    calibration.write_text(
        json.dumps({"mine": {"intrinsic": lens, "width": 320, "height": 180, "images": "*"}})
    )
    image = tmp_path / "data" / f"{next(iter(headings))}_0.jpg"
    run_here(
        *("predict", image, "--calibration", calibration, "--checkpoint", checkpoint),
        *("--out", tmp_path / "predictions"),
    )
    _, line = (tmp_path / "predictions" / "predictions.jsonl").read_text().splitlines()
    predicted = json.loads(line)
    assert predicted["camera"] == "mine"
    assert np.isfinite([box["score"] for box in predicted["detections"]]).all()
    assert Path(tmp_path / "predictions" / predicted["picture"]).is_file()
