"""The part of the classifier that learns runs of characters: one weight a run.

It learns by itself from the same sentences as the network, and what both say is added up on `dev`
(`train.py`). Learning together, the one would keep the other from learning.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import nn

from moderator.claims.grams import Grams, grams_in, places

SEEN = 2
"""In how many sentences a run must stand to get a weight."""
PASSES, BATCH, RATE, DECAY = 12, 512, 0.02, 0.05
"""Chosen on dev, as `LONGEST` and `GAPS` of `moderator.claims.grams`."""


def fit_grams(
    texts: list[str], unlawful: NDArray[np.bool_], weights: NDArray[np.floating], seed: int
) -> Grams:
    """Logistic regression over the runs in `texts`. `unlawful` and `weights` are [texts]."""
    rows = [grams_in(text) for text in texts]
    runs, seen = np.unique(np.concatenate(rows), return_counts=True)
    runs = runs[seen >= SEEN]
    counts = np.sqrt([len(row) for row in rows]).astype(np.float32)
    known = [places(runs, row) for row in rows]
    learned = nn.EmbeddingBag(len(runs), 1, mode="sum")
    nn.init.zeros_(learned.weight)
    offset = nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.AdamW(
        [
            {"params": learned.parameters(), "weight_decay": DECAY},
            {"params": [offset], "weight_decay": 0.0},
        ],
        lr=RATE,
    )
    wanted = torch.from_numpy(unlawful.astype(np.float32)) * 0.98 + 0.01
    importance = torch.from_numpy(np.asarray(weights, np.float32))
    for number in track(range(PASSES), description="runs of characters"):
        order = np.random.default_rng(seed + number).permutation(len(rows))
        for begin in range(0, len(order), BATCH):
            chosen = order[begin : begin + BATCH]
            own = [known[row] for row in chosen]
            begins = np.cumsum([0, *map(len, own[:-1])])
            total = learned(torch.from_numpy(np.concatenate(own)), torch.from_numpy(begins))[:, 0]
            loss = nn.functional.binary_cross_entropy_with_logits(
                total / torch.from_numpy(counts[chosen]) + offset, wanted[chosen], reduction="none"
            )
            optimiser.zero_grad()
            (loss * importance[chosen]).mean().backward()
            optimiser.step()
    found = learned.weight.detach().numpy()[:, 0]
    scale = float(np.abs(found).max()) / 127.0
    return Grams(runs, np.round(found / scale).astype(np.int8), scale, offset.item())


def gram_logits(grams: Grams, texts: list[str]) -> NDArray[np.float32]:
    """What the runs in `texts` say, [texts]."""
    return np.array([grams.says(text) for text in texts], dtype=np.float32)
