"""A table of latencies on disk: kept whole, or measured again."""

import json

import pytest

from sparsevit3d.cost.latency_table import Machine, MeasuredTable, table_for
from sparsevit3d.swin.sparse_swin import SparseSwin


@pytest.fixture
def net():
    return SparseSwin(
        embed_dims=16, depths=(2,), num_heads=(1,), window_size=4, out_indices=(0,)
    ).eval()


def test_a_damaged_table_in_the_cache_is_dropped_and_measured_again(net, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    machine = Machine.here("cpu", "float32", (1, 3, 32, 32), 1)
    found = table_for(net, machine)
    (path,) = (tmp_path / "sparsevit3d/latency").iterdir()
    whole = path.read_bytes()
    document = json.loads(whole)
    for damaged in damages(document):
        path.write_bytes(damaged)
        with pytest.warns(UserWarning, match=rf"{path.name}: is damaged .*measured again"):
            assert MeasuredTable.load(path) is None
    with pytest.warns(UserWarning, match=rf"{path.name}: is damaged .*measured again"):
        again = table_for(net, machine)
    assert MeasuredTable.load(path) == again == table_for(net, machine)
    path.write_bytes(whole)
    assert table_for(net, machine) == found


def damages(document):
    """What may become of a table's file."""
    yield b""
    whole = json.dumps(document).encode()
    yield whole[: len(whole) // 2]
    yield b"[]"
    yield b"null"
    yield b'{"other": "keys"}'
    yield b"\x80\x02}q\x00."
    for value in ("text", float("nan"), -1.0, None):
        table = document["table"] | {"rest": value}
        yield json.dumps(document | {"table": table}).encode()
    without_seal = {name: value for name, value in document.items() if name != "seal"}
    yield json.dumps(without_seal).encode()
