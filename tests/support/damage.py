"""Damage to a root: a way to make each kind on purpose, and, here, each kind of damage to tables
and to what links them.
"""

import json
import math

from data_tools.synthetic.dataset import VERSION

DAMAGE = {}


def damage(kind, table, warning=False):
    """Register a function that damages a root and returns the token that has to be named."""

    def register(function):
        DAMAGE[function.__name__] = (function, kind, table, warning)
        return function

    return register


def edit(root, table, change):
    """Let ``change`` alter a table's rows, and write them; returns what it returns."""
    path = root / VERSION / f"{table}.json"
    rows = json.loads(path.read_text())
    token = change(rows)
    path.write_text(json.dumps(rows))
    return token


def put(root, table, index, **fields):
    def change(rows):
        rows[index].update(fields)
        return rows[index]["token"]

    return edit(root, table, change)


def row_of(root, table, wanted):
    """Index of the first row that ``wanted`` accepts."""
    rows = json.loads((root / VERSION / f"{table}.json").read_text())
    return next(index for index, row in enumerate(rows) if wanted(row))


def keyframe_file(root, suffix, content):
    """Replace the first keyframe file that ends so; returns its row's token."""
    index = row_of(
        root, "sample_data", lambda row: row["is_key_frame"] and row["filename"].endswith(suffix)
    )
    row = json.loads((root / VERSION / "sample_data.json").read_text())[index]
    path = root / row["filename"]
    old = path.read_bytes()
    path.unlink()
    if content is not None:
        path.write_bytes(content(old))
    return row["token"]


def annotation_of(root, *categories):
    """Index of the first annotation of a category that begins so."""
    read = {
        name: json.loads((root / VERSION / f"{name}.json").read_text())
        for name in ("category", "instance")
    }
    chosen = {row["token"] for row in read["category"] if row["name"].startswith(categories)}
    instances = {row["token"] for row in read["instance"] if row["category_token"] in chosen}
    return row_of(root, "sample_annotation", lambda row: row["instance_token"] in instances)


@damage("missing table", "category")
def a_table_is_missing(root):
    (root / VERSION / "category.json").unlink()
    return "category.json"


@damage("unreadable table", "sample_annotation")
def a_table_is_cut_off(root):
    path = root / VERSION / "sample_annotation.json"
    path.write_bytes(path.read_bytes()[:-500])
    return path.name


@damage("unreadable table", "sample")
def a_table_is_in_another_encoding(root):
    path = root / VERSION / "sample.json"
    path.write_text(path.read_text(), encoding="utf-16")
    return path.name


@damage("unreadable table", "scene")
def a_table_is_no_list(root):
    (root / VERSION / "scene.json").write_text("{}")
    return "scene.json"


@damage("empty table", "sensor")
def a_table_is_empty(root):
    (root / VERSION / "sensor.json").write_text("[]")
    return "sensor.json"


@damage("no row", "visibility")
def an_entry_is_no_row(root):
    return edit(root, "visibility", lambda rows: rows.append(5) or "entry 4")


@damage("no token", "attribute")
def a_row_has_no_token(root):
    return edit(root, "attribute", lambda rows: rows[2].pop("token") and "entry 2")


@damage("missing field", "sample_annotation")
def a_row_lacks_a_field(root):
    return edit(root, "sample_annotation", lambda rows: rows[3].pop("size") and rows[3]["token"])


@damage("wrong kind of value", "sample")
def a_timestamp_is_text(root):
    return put(root, "sample", 0, timestamp="soon")


@damage("wrong kind of value", "ego_pose")
def a_vector_is_too_short(root):
    return put(root, "ego_pose", 0, translation=[1.0, 2.0])


@damage("not finite", "calibrated_sensor")
def a_quaternion_is_nan(root):
    return put(root, "calibrated_sensor", 0, rotation=[math.nan, 0.0, 0.0, 0.0])


@damage("not finite", "sample_annotation")
def a_box_is_infinite(root):
    return put(root, "sample_annotation", 0, size=[1.0, math.inf, 1.0])


@damage("duplicate token", "sample_annotation")
def a_token_stands_twice(root):
    return edit(
        root, "sample_annotation", lambda rows: rows.append(dict(rows[0])) or rows[0]["token"]
    )


@damage("duplicate scene", "scene")
def two_scenes_share_a_name(root):
    return edit(root, "scene", lambda rows: rows[1].update(name=rows[0]["name"]) or rows[0]["name"])


@damage("dangling reference", "sample_annotation")
def an_annotation_names_no_instance(root):
    return put(root, "sample_annotation", 0, instance_token="gone")


@damage("dangling reference", "sample_annotation")
def an_annotation_names_no_attribute(root):
    return put(root, "sample_annotation", 1, attribute_tokens=["gone"])


@damage("dangling reference", "sample_data")
def an_ego_pose_is_missing(root):
    pose = edit(root, "ego_pose", lambda rows: rows.pop(4)["token"])
    index = row_of(root, "sample_data", lambda row: row["ego_pose_token"] == pose)
    return json.loads((root / VERSION / "sample_data.json").read_text())[index]["token"]


@damage("broken chain", "sample")
def a_chain_is_broken(root):
    index = row_of(root, "sample", lambda row: row["prev"])
    before = json.loads((root / VERSION / "sample.json").read_text())[index]["prev"]
    put(root, "sample", index, prev="")
    return before


@damage("mixed chain", "sample_data")
def a_camera_follows_the_lidar(root):
    other = row_of(root, "sample_data", lambda row: "CAM_BACK/" in row["filename"] and row["prev"])
    token = json.loads((root / VERSION / "sample_data.json").read_text())[other]["token"]
    return put(
        root,
        "sample_data",
        row_of(root, "sample_data", lambda row: "LIDAR" in row["filename"] and row["next"]),
        next=token,
    )


@damage("timestamps out of order", "sample")
def time_runs_backwards(root):
    def swap(rows):
        one = next(row for row in rows if row["next"])
        other = next(row for row in rows if row["token"] == one["next"])
        earlier = one["timestamp"]
        one["timestamp"] = other["timestamp"]
        other["timestamp"] = earlier
        return one["token"]

    return edit(root, "sample", swap)


@damage("wrong count", "scene")
def a_scene_counts_its_samples_wrong(root):
    return put(root, "scene", 0, nbr_samples=99)


@damage("wrong count", "instance")
def an_instance_counts_its_boxes_wrong(root):
    return put(root, "instance", 0, nbr_annotations=99)


@damage("wrong end", "scene")
def a_scene_begins_with_its_second_sample(root):
    return edit(
        root,
        "scene",
        lambda rows: (
            rows[0].update(first_sample_token=rows[0]["last_sample_token"]) or rows[0]["token"]
        ),
    )


@damage("missing sensor", "sample")
def a_camera_has_no_keyframe(root):
    index = row_of(root, "sample_data", lambda row: "CAM_BACK/" in row["filename"])
    put(root, "sample_data", index, is_key_frame=False)
    return json.loads((root / VERSION / "sample_data.json").read_text())[index]["sample_token"]


@damage("sensor twice", "sample")
def the_lidar_has_two_keyframes(root):
    index = row_of(root, "sample_data", lambda row: not row["is_key_frame"])
    put(root, "sample_data", index, is_key_frame=True)
    return json.loads((root / VERSION / "sample_data.json").read_text())[index]["sample_token"]


@damage("object twice", "sample")
def an_object_is_annotated_twice(root):
    def add(rows):
        rows.append(rows[0] | {"token": "new", "prev": "", "next": ""})
        return rows[0]["sample_token"]

    return edit(root, "sample_annotation", add)


@damage("nothing belongs to it", "instance", warning=True)
def an_instance_is_nowhere(root):
    return edit(
        root,
        "instance",
        lambda rows: rows.append(rows[0] | {"token": "nobody", "nbr_annotations": 0}) or "nobody",
    )


@damage("unknown category", "category")
def a_category_is_misspelt(root):
    return put(root, "category", 3, name="vehicle.cra")


@damage("unknown attribute", "attribute")
def an_attribute_is_misspelt(root):
    return put(root, "attribute", 3, name="vehicle.mooving")


@damage("unknown modality", "sensor")
def a_sensor_is_of_no_known_kind(root):
    return put(root, "sensor", 6, modality="sonar")


@damage("unreadable splits", "splits")
def the_splits_are_no_json(root):
    (root / VERSION / "splits.json").write_text("{")
    return "splits.json"


def splits(root, change):
    path = root / VERSION / "splits.json"
    found = json.loads(path.read_text())
    token = change(found)
    path.write_text(json.dumps(found))
    return token


@damage("unknown scene", "splits")
def a_split_names_no_scene(root):
    return splits(root, lambda found: found["val"].append("scene-nowhere") or "scene-nowhere")


@damage("scene in two splits", "splits")
def a_scene_is_trained_on_and_judged_on(root):
    return splits(root, lambda found: found["train"].append(found["val"][0]) or found["val"][0])


@damage("scene twice", "splits")
def a_split_names_a_scene_twice(root):
    return splits(root, lambda found: found["val"].append(found["val"][0]) or found["val"][0])


@damage("scene in no split", "splits", warning=True)
def a_scene_is_in_no_split(root):
    return splits(root, lambda found: [found["synthetic_val"].clear(), found["val"].pop()][1])


@damage("wrong kind of value", "sample_annotation")
def a_count_is_beyond_any_integer(root):
    return put(root, "sample_annotation", 0, num_lidar_pts=10**20)


@damage("wrong kind of value", "log")
def a_text_cannot_be_written(root):
    return put(root, "log", 0, vehicle="\ud800")


@damage("wrong kind of value", "sample_data")
def a_file_name_has_a_null(root):
    return put(root, "sample_data", 0, filename="samples/CAM_FRONT/a\0.jpg")


@damage("timestamps out of order", "sample_annotation")
def an_object_goes_back_in_time(root):
    index = row_of(root, "sample_annotation", lambda row: row["next"])
    rows = json.loads((root / VERSION / "sample_annotation.json").read_text())
    other = next(number for number, row in enumerate(rows) if row["token"] == rows[index]["next"])
    put(root, "sample_annotation", other, sample_token=rows[index]["sample_token"])
    return put(root, "sample_annotation", index, sample_token=rows[other]["sample_token"])
