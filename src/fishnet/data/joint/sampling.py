"""How an epoch of joint training draws from the datasets of several heads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Generator


@dataclass(frozen=True)
class Sampling:
    """Draws each head's samples with a given share of an epoch.

    Within a head's share the samples come in a random order, each once before any comes again. A sample that several
    heads annotate brings all of its targets whenever one of the heads draws it.

    Attributes:
        indices: for each head by name, the samples that it annotates.
        shares: for each head by name, its share of an epoch; the sum is 1.
        count: number of samples in the dataset.
    """

    indices: Mapping[str, Sequence[int]]
    shares: Mapping[str, float]
    count: int

    @classmethod
    def of(cls, indices: Mapping[str, Sequence[int]], weights: Mapping[str, float], count: int) -> "Sampling":
        """Sampling with shares in proportion to weights, 0 or more; heads without samples get none."""
        present = {name: weights[name] for name, samples in indices.items() if samples}
        total = sum(present.values())
        return cls(indices, {name: weight / total for name, weight in present.items()}, count)

    def order(self, length: int, generator: Generator) -> list[int]:
        """The indices of an epoch. A sample that comes again has another index, a multiple of ``count`` higher.

        Args:
            length: number of indices.
            generator: its state decides the order.
        """
        drawn: list[int] = []
        for name, quota in self._quotas(length).items():
            samples = self.indices[name]
            for start in range(0, quota, len(samples)):
                order = torch.randperm(len(samples), generator=generator).tolist()
                drawn += [samples[i] for i in order[: quota - start]]
        shuffled = [drawn[i] for i in torch.randperm(len(drawn), generator=generator).tolist()]
        return self._numbered(shuffled)

    def _quotas(self, length: int) -> dict[str, int]:
        """Each head's number of draws, rounded so that the sum is ``length``."""
        quotas = {name: int(share * length) for name, share in self.shares.items()}
        by_remainder = sorted(quotas, key=lambda name: (quotas[name] - self.shares[name] * length, name))
        for name in by_remainder[: length - sum(quotas.values())]:
            quotas[name] += 1
        return quotas

    def _numbered(self, samples: Sequence[int]) -> list[int]:
        """Adds a multiple of ``count`` to a sample's index at each repetition, so that its augmentation differs."""
        seen: dict[int, int] = {}
        indices = []
        for sample in samples:
            repetition = seen.get(sample, 0)
            seen[sample] = repetition + 1
            indices.append(sample + repetition * self.count)
        return indices
