import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from sparsevit3d.windows import FOREIGN, rank_windows, token_magnitude, token_rows, window_scores, window_table

sizes = st.tuples(st.integers(1, 23), st.integers(1, 23), st.integers(1, 8), st.booleans())


def swin_windows(grid, window, shift, padding):
    """Pad, roll, partition, as Swin does it: (H, W) to (windows, window ** 2)."""
    height, width = grid.shape
    grid = F.pad(grid, (0, -width % window, 0, -height % window), value=padding)
    grid = grid.roll((-shift, -shift), (0, 1))
    return torch.cat([tile.reshape(1, -1) for band in grid.split(window, 0) for tile in band.split(window, 1)])


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
    # Two places belong together if, on the padded map, the roll left them where a plain shift by as much would.
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
    tokens, count = height * width, len(table.tokens)
    kept = rng.randint(1, count)
    windows = torch.tensor([rng.sample(range(count), kept) for _ in range(batch)])
    rows, places, image = token_rows(table, windows, batch, tokens)
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


def test_scores_are_norms_of_mean_magnitudes():
    x = torch.randn(2, 5 * 9, 8)
    table = window_table(5, 9, 4, 2)
    scores = window_scores(token_magnitude(x), table)
    for image in range(2):
        for number, members in enumerate(table.tokens):
            magnitudes = [x[image, token].abs().mean() ** 2 for token in members if token < 45]
            assert torch.isclose(scores[image, number], sum(magnitudes) ** 0.5)


def test_equal_scores_keep_their_order():
    assert rank_windows(torch.tensor([[1.0, 3.0, 1.0, 3.0, 1.0]])).tolist() == [[1, 3, 0, 2, 4]]


def test_a_table_made_in_inference_mode_serves_training():
    with torch.inference_mode():
        table = window_table(6, 10, 3, 1)
    x = torch.randn(1, 60, 4, requires_grad=True)
    x.flatten(0, 1).index_select(0, token_rows(table, None, 1, 60).rows).sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))
