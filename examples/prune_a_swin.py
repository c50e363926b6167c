# # Prune a Swin in five minutes
#
# This file is a tutorial. It runs on a CPU in seconds, with fresh weights and a made image:
# `python examples/prune_a_swin.py`. Its comments are the text, and its code is what runs.
#
# ## A network and an image
#
# The weights are fresh, so the windows that the L2 norm chooses mean nothing yet. With trained
# weights only the line that loads them differs.

import torch

from sparsevit3d import SparseSwin, SparsityPlan, count_macs, measure_latency, record_windows

torch.manual_seed(0)
net = SparseSwin(embed_dims=32, depths=(2, 2, 2, 2), num_heads=(1, 2, 4, 8), window_size=4).eval()
image = torch.randn(1, 3, 128, 256)

# ## A plan
#
# A plan says which share of the windows each stage leaves out. This one leaves out 70% in stage 0
# and 50% in stage 1. Stages 2 and 3 stay whole.

with torch.no_grad():
    dense = net(image)
net.plan = "0.7|0.5|0|0"
with record_windows(net) as trace, torch.no_grad():
    pruned = net(image)

print([tuple(feature.shape) for feature in pruned])
assert [one.shape for one in pruned] == [one.shape for one in dense]

# The maps keep their sizes. Tokens of windows that were left out are copied.
#
# ## Its windows
#
# The trace has one entry for each block. `kept` says which windows the block computed. `#` is a
# computed window.

first = trace[0]
print(f"stage {first.stage} computed {first.share:.0%} of its windows")
for row in first.kept[0].reshape(first.grid):
    print("".join("#" if kept else "." for kept in row))

# ## What the plan costs
#
# MACs are counted for any plan without running it. Latency is measured.

everything = count_macs(net, (128, 256), SparsityPlan.uniform(0, net.depths))
print(f"MACs: {count_macs(net, (128, 256)) / everything:.0%} of the dense network")
for plan in (None, "0.7|0.5|0|0"):
    net.plan = plan
    print(f"{plan}: {measure_latency(net, (1, 3, 128, 256)).p50_ms:.1f} ms")

# A network this small is hardly faster, because launching operators takes most of the time. Try
# `embed_dims=96` and an image of 256 x 704.
#
# ## Your own importance
#
# An importance is a function of the stage's features. It returns one score for each window. This
# one prefers windows in the middle of the image.


def in_the_middle(features, windows):
    """(B, height * width, C) features to (B, windows) scores."""
    down, across = windows.grid
    columns = torch.arange(down * across) % across
    return -(columns - (across - 1) / 2).abs().expand(len(features), -1)


net = SparseSwin(
    embed_dims=32,
    depths=(2, 2, 2, 2),
    num_heads=(1, 2, 4, 8),
    window_size=4,
    importance=in_the_middle,
).eval()
net.plan = "0.7|0.5|0|0"
with record_windows(net) as trace, torch.no_grad():
    net(image)
for row in trace[0].kept[0].reshape(trace[0].grid):
    print("".join("#" if kept else "." for kept in row))

# From here: [which windows matter](../docs/importance.md), [plans and search](../docs/search.md),
# and [the backbone's arguments](../docs/backbone.md).
