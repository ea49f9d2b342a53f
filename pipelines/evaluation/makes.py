"""The makes of fake: labels, makes and scenes of videos in, the AUC of each make and their mean out. Used by `evaluate.py` and its like.

Makes differ more than videos do, so the mean gives each make one voice; all its parts come from the same draw of scenes or people.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.evaluation.metrics import RESAMPLES, UNKNOWN, Estimate, Float, Ranking, bootstrap


@dataclass(frozen=True, slots=True, eq=False)
class Makes:
    """Which videos are compared with which, for each make of fake."""

    label: NDArray[np.int64]
    method: NDArray[np.str_]
    group: NDArray[np.str_]

    @property
    def names(self) -> list[str]:
        """Of the fakes."""
        return sorted(set(self.method[self.label == 1].tolist()))

    def rows(self, make: str, *, own_scene: bool = False) -> NDArray[np.bool_]:
        """The fakes of this make and all reals, or the reals of their scenes alone."""
        fakes = (self.label == 1) & (self.method == make)
        reals = self.label == 0
        return np.asarray(fakes | (reals & np.isin(self.group, self.group[fakes]) if own_scene else reals))

    def macro(self, score: Float, *, less: Float | None = None, own_scene: bool = False, resamples: int = RESAMPLES) -> Estimate:
        """Mean AUC over the makes that have reals; minus that of the score `less`, if any, on the same draws."""
        parts = [self.rows(make, own_scene=own_scene) for make in self.names]
        parts = [part for part in parts if (self.label[part] == 0).any()]

        rankings = [(part, [Ranking(one[part], self.label[part]) for one in (score, less) if one is not None]) for part in parts]

        def mean(counts: Float) -> Float:
            found = [[ranking.auc(counts[:, part]) for ranking in own] for part, own in rankings]
            auc = np.stack([own[0] if less is None else own[0] - own[1] for own in found])
            # A draw in which a make is missing is the mean over the others.
            known = np.isfinite(auc)
            return np.asarray(np.where(known.any(0), np.where(known, auc, 0).sum(0) / np.maximum(known.sum(0), 1), np.nan))

        return bootstrap(mean, self.group, resamples=resamples) if parts else UNKNOWN
