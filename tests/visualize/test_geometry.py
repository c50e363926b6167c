import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsevit3d import SparseSwin, record_windows
from sparsevit3d.swin.trace import BlockTrace
from tests.support.keyframes import cube, view_of
from visualize.geometry import box_lines, window_mask, window_rectangles
from visualize.masks import dimmed


@settings(max_examples=25)
@given(st.integers(5, 120), st.integers(5, 120), st.sampled_from([3, 4, 7]), st.integers(0, 2**31))
def test_a_windows_rectangles_cover_the_pixels_its_tokens_came_from(height, width, window, seed):
    """Every pixel of an image is told which window computed it, through the network's own gather,
    and through the drawing code.
    """
    torch.manual_seed(seed)
    net = SparseSwin(
        embed_dims=8, depths=(2, 2), num_heads=(1, 1), window_size=window, out_indices=(1,)
    ).eval()
    with torch.no_grad(), record_windows(net) as trace:
        net(torch.randn(1, 3, height, width))
    view = view_of(np.zeros((height, width, 3), np.uint8), (width, height))
    for block in trace:
        down, across = block.map_size
        # Swin's own way: pad, roll, number the windows, and take it back.
        padded = (block.grid[0] * window, block.grid[1] * window)
        row, column = np.meshgrid(
            np.arange(padded[0]) // window, np.arange(padded[1]) // window, indexing="ij"
        )
        number = np.roll(row * block.grid[1] + column, (block.shift, block.shift), (0, 1))[
            :down, :across
        ]
        pixels = number.repeat(block.stride, 0).repeat(block.stride, 1)[:height, :width]
        for chosen in range(block.grid[0] * block.grid[1]):
            mask = window_mask(view, block, np.arange(block.grid[0] * block.grid[1]) == chosen)
            assert (mask == (pixels == chosen)).all()
            drawn = np.zeros_like(mask)
            for left, top, right, bottom in window_rectangles(block, chosen):
                assert not drawn[top:bottom, left:right].any()
                drawn[top:bottom, left:right] = True
            assert (drawn == mask).all()


def test_rectangles_follow_crop_and_scale():
    """A network of 64 x 32 that saw the lower part of a 160 x 120 frame at scale 0.4."""
    trace = BlockTrace(0, 0, (8, 16), 4, 4, 0, (2, 4), None, np.ones((1, 8), bool))
    view = view_of(np.zeros((120, 160, 3), np.uint8), (64, 32), (0.4, 0.4), (0, 16))
    mask = window_mask(view, trace, np.arange(8) == 5)
    rows, columns = np.nonzero(mask)
    assert (columns.min(), columns.max() + 1) == (40, 80)  # network pixels 16 to 32
    # network pixels 16 to 32, 16 rows cropped above
    assert (rows.min(), rows.max() + 1) == (80, 120)
    assert not window_mask(view, trace, np.ones(8, bool))[:40].any()


def test_a_shifted_window_that_wraps_has_four_rectangles():
    trace = BlockTrace(0, 1, (8, 8), 4, 4, 2, (2, 2), None, np.ones((1, 4), bool))
    assert sorted(window_rectangles(trace, 3)) == [
        (0, 0, 8, 8),
        (0, 24, 8, 32),
        (24, 0, 32, 8),
        (24, 24, 32, 32),
    ]
    assert window_rectangles(trace, 0) == [(8, 8, 24, 24)]


def test_pruned_windows_are_dimmed_and_kept_ones_untouched():
    image = np.random.default_rng(0).integers(60, 255, (32, 64, 3), dtype=np.uint8)
    trace = BlockTrace(0, 0, (8, 16), 4, 4, 0, (2, 4), None, np.ones((1, 8), bool))
    view = view_of(image, (64, 32))
    kept = np.arange(8) % 3 == 0
    drawn = dimmed(view, trace, kept)
    clear = window_mask(view, trace, kept)
    assert (drawn[clear] == image[clear]).all()
    assert drawn[~clear].mean() < 0.5 * image[~clear].mean()


def test_box_edges_are_cut_where_they_pass_behind_the_camera():
    intrinsic = np.array([[100.0, 0, 80], [0, 100.0, 60], [0, 0, 1]])
    ahead = box_lines(cube(10.0), intrinsic)
    assert ahead.shape == (12, 2, 2)
    assert np.allclose(ahead.reshape(-1, 2).min(0), [80 - 100 / 9, 60 - 100 / 9])
    assert len(box_lines(cube(-10.0), intrinsic)) == 0
    through = box_lines(cube(0.5, 1.0), intrinsic)
    assert len(through) == 8  # the near face is gone, what joins it to the far one is cut
    assert np.isfinite(through).all()
