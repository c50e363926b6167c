import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from sparsevit3d.swin.importance import rank_windows, score_windows
from sparsevit3d.swin.windows import FOREIGN, window_table, window_tokens

sizes = st.tuples(st.integers(1, 23), st.integers(1, 23), st.integers(1, 8), st.booleans())


def swin_windows(grid, window, shift, padding):
    """Pad, roll, partition, as Swin does it: (H, W) to (windows, window ** 2)."""
    height, width = grid.shape
    grid = F.pad(grid, (0, -width % window, 0, -height % window), value=padding)
    grid = grid.roll((-shift, -shift), (0, 1))
    return torch.cat(
        [tile.reshape(1, -1) for band in grid.split(window, 0) for tile in band.split(window, 1)]
    )


@given(sizes)
def test_table_is_pad_roll_and_partition(size):
    height, width, window, shifted = size
    shift = window // 2 if shifted else 0
    table = window_table(height, width, window, shift)
    index = torch.arange(height * width).view(height, width)
    assert torch.equal(table.tokens, swin_windows(index, window, shift, height * width))
    assert table.grid[0] * table.grid[1] == len(table.tokens)
    assert table.padded == bool((table.tokens == height * width).any())


@given(sizes)
def test_mask_parts_what_only_the_shift_joined(size):
    height, width, window, _ = size
    shift = window // 2
    table = window_table(height, width, window, shift)
    if not shift:
        assert table.mask is None
        return
    # Two places belong together if, on the padded map, the roll left them where a plain shift by as
    # much would.
    down, across = table.grid
    row, column = (torch.arange(count * window) for count in (down, across))
    wrapped = (row >= down * window - shift)[:, None] * 2 + (column >= across * window - shift)
    wrapped = swin_windows(wrapped, window, 0, 0)
    together = wrapped[:, :, None] == wrapped[:, None, :]
    assert torch.equal(table.mask, torch.where(together, 0.0, FOREIGN))


@given(sizes, st.integers(1, 3), st.randoms(use_true_random=False))
def test_rows_lead_to_the_chosen_windows_tokens(size, batch, rng):
    height, width, window, shifted = size
    table = window_table(height, width, window, window // 2 if shifted else 0)
    tokens = height * width
    count = len(table.tokens)
    kept = rng.randint(1, count)
    windows = torch.tensor([rng.sample(range(count), kept) for _ in range(batch)])
    total, mask, offsets, rows, places, image = window_tokens(table, windows, batch, tokens)
    assert total == batch * kept
    assert offsets is table.offsets
    assert mask is None if table.mask is None else torch.equal(mask, table.mask[windows.flatten()])
    expected = [
        int(token) + number * tokens
        for number in range(batch)
        for one in windows[number]
        for token in table.tokens[one]
        if token < tokens
    ]
    assert rows.tolist() == expected
    assert image.tolist() == [row // tokens for row in expected]
    flat = torch.full((batch * kept * window**2,), -1)
    flat[places if places is not None else slice(None)] = rows
    padding = (table.tokens[windows] == tokens).flatten()
    assert torch.equal(flat == -1, padding)


@pytest.mark.parametrize(
    ("importance", "pooled"),
    [
        ("l2", lambda values: sum(value**2 for value in values) ** 0.5),
        ("mean", lambda values: sum(values) / len(values)),
        ("max", max),
    ],
)
def test_scores_pool_the_magnitudes_of_a_windows_tokens(importance, pooled):
    x = torch.randn(2, 5 * 9, 8)
    tables = [window_table(5, 9, 4, shift) for shift in (0, 2)]
    for table, scores in zip(tables, score_windows(x, tables, importance), strict=True):
        for image in range(2):
            for number, members in enumerate(table.tokens):
                expected = pooled(
                    [float(x[image, token].abs().mean()) for token in members if token < 45]
                )
                assert float(scores[image, number]) == pytest.approx(expected, rel=1e-5)


def test_random_scores_follow_from_the_seed_alone():
    tables = [window_table(20, 30, 4, shift) for shift in (0, 2)]
    first = score_windows(torch.randn(3, 600, 8), tables, "random", seed=1)
    again = score_windows(torch.randn(1, 600, 8), tables, "random", seed=1)
    other = score_windows(torch.randn(1, 600, 8), tables, "random", seed=2)
    for one, same, different in zip(first, again, other, strict=True):
        assert torch.equal(one, same.expand(3, -1))
        assert not torch.equal(same, different)
        assert len(one[0].unique()) == len(one[0])


def test_an_importance_of_ones_own_sees_the_features_and_the_windows():
    x = torch.randn(2, 45, 8)
    table = window_table(5, 9, 4, 2)
    (scores,) = score_windows(
        x, [table], lambda x, table: x[:, table.tokens[:, 0].clamp(max=44), 0]
    )
    assert torch.equal(
        scores, torch.stack([x[:, min(int(members[0]), 44), 0] for members in table.tokens], 1)
    )
    with pytest.raises(
        ValueError, match=r"shape \(2, 45\)\. It must return \(images, windows\), \(2, 6\)"
    ):
        score_windows(x, [table], lambda x, table: x[:, :, 0])


def test_equal_scores_keep_their_order():
    assert rank_windows(torch.tensor([[1.0, 3.0, 1.0, 3.0, 1.0]])).tolist() == [[1, 3, 0, 2, 4]]


def test_a_table_made_in_inference_mode_serves_training():
    with torch.inference_mode():
        table = window_table(6, 10, 3, 1)
    x = torch.randn(1, 60, 4, requires_grad=True)
    x.flatten(0, 1).index_select(0, window_tokens(table, None, 1, 60).rows).sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))
