"""Projections that keep neighbours together: t-SNE and UMAP, of packages that need not be there."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mptt.errors import MPTTError

NAMES = {"tsne": "t-SNE", "umap": "UMAP"}


def embed(states: npt.NDArray[np.float32], projection: str, seed: int = 0) -> npt.NDArray[np.float64]:
    """(N, 2) of states (N, S). Distances between far points mean little in either.

    Args:
        states: N of them.
        projection: "tsne" (van der Maaten and Hinton 2008), started from the principal components, or "umap" (McInnes
            et al. 2018, arXiv 1802.03426).
        seed: the same gives the same picture.

    Raises:
        MPTTError: another projection, fewer than 5 states, or a package that is not there.
    """
    if projection not in NAMES:
        raise MPTTError(f"projection must be pca, tsne or umap, found {projection!r}.")
    if len(states) < 5:
        raise MPTTError(f"{NAMES[projection]} needs 5 states or more, found {len(states)}.")
    try:
        if projection == "tsne":
            from sklearn.manifold import TSNE

            perplexity = min(30.0, (len(states) - 1) / 3)
            placed = TSNE(init="pca", perplexity=perplexity, random_state=seed).fit_transform(states)
        else:
            from umap import UMAP

            # With a seed it is one thread; said, so that it does not warn.
            neighbours = min(15, len(states) - 1)
            placed = UMAP(n_neighbors=neighbours, random_state=seed, n_jobs=1).fit_transform(states)
    except ImportError as error:
        raise MPTTError(
            f'{NAMES[projection]} cannot be had ({error}): pip install "mptt[embedding]", or take projection pca.'
        ) from error
    return np.asarray(placed, dtype=np.float64)
