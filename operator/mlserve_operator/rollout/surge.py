"""How requests move from one fleet to another where there are no GPUs for both.

`spec.rollout.maxSurgeGpus` bounds what a rollout asks for beyond what the larger of the two revisions needs alone.
Within that bound pods are swapped: stable gives up pods that its share of the requests no longer needs, the canary
gets them, and only then do more requests follow. Weights between two steps may be needed for that, because a canary
cannot have the pods of 100 % while stable still serves 50 %.

A bound below one canary pod leaves no pod to begin with. Then stable runs one canary pod's GPUs short of its share
while a pod is swapped, as a Deployment with `maxSurge: 0` does; its last pod stays as long as it has requests.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fleets:
    """What the two revisions would be with everything they need.

    Attributes:
        full: pods that all of the requests need.
        stable_gpus: GPUs of one pod of stable, at least 1.
        canary_gpus: GPUs of one pod of the canary, at least 1.
        surge: GPUs that may be asked for beyond the larger fleet.
    """

    full: int
    stable_gpus: int
    canary_gpus: int
    surge: int

    @property
    def budget(self) -> int:
        """GPUs that both together may ask for."""
        return self.full * max(self.stable_gpus, self.canary_gpus) + self.surge

    def need(self, share: int) -> int:
        """Pods for a share of the requests in percent; none for nothing.

        >>> [Fleets(10, 1, 1, 0).need(share) for share in (0, 1, 25, 100)]
        [0, 1, 3, 10]
        """
        return -(-self.full * share // 100)

    def rest(self, weight: int) -> int:
        """Pods of stable for what a canary's weight leaves it. Weights are whole percents, so what is missing by less
        than one percent is no pod: beside a canary of 1 in 3 pods at 33 %, stable needs the other 2 for its 67 %.

        >>> [Fleets(3, 1, 1, 0).rest(weight) for weight in (0, 5, 33, 34, 100)]
        [3, 3, 2, 2, 0]
        """
        if weight in {0, 100}:
            return self.full if weight == 0 else 0
        return self.full * (99 - weight) // 100 + 1

    def carries(self, pods: int) -> int:
        """The largest share of the requests that so many pods are enough for."""
        return min(100, 100 * pods // self.full)

    def beside_canary(self, canary: int) -> int:
        """Pods of stable that fit beside so many of the canary."""
        return max(0, min(self.full, (self.budget - canary * self.canary_gpus) // self.stable_gpus))

    def beside_stable(self, stable: int) -> int:
        """Pods of the canary that fit beside so many of stable."""
        return max(0, min(self.full, (self.budget - stable * self.stable_gpus) // self.canary_gpus))


@dataclass(frozen=True)
class Split:
    """One position on the way: sizes that fit together, and the canary's share that they allow."""

    stable: int
    canary: int
    weight: int


def next_split(fleets: Fleets, weight: int, target: int) -> Split:
    """The next position on the way from one share of the requests to another.

    A pod at a time where there is room for one, at once where there is room for all:

    >>> next_split(Fleets(full=4, stable_gpus=1, canary_gpus=1, surge=1), weight=0, target=50)
    Split(stable=4, canary=1, weight=25)
    >>> next_split(Fleets(full=4, stable_gpus=1, canary_gpus=1, surge=2), weight=0, target=50)
    Split(stable=4, canary=2, weight=50)
    >>> next_split(Fleets(full=4, stable_gpus=1, canary_gpus=1, surge=0), weight=0, target=5)
    Split(stable=3, canary=1, weight=5)

    Args:
        fleets: sizes and the bound.
        weight: percent of requests the canary has.
        target: percent it shall get; `weight` itself to stay.

    Returns:
        Sizes to have before the canary gets `Split.weight` percent. A canary without pods cannot be begun: the bound
        is too small.
    """
    wanted = max(1, fleets.need(target))
    room = fleets.beside_stable(fleets.rest(weight))
    if room >= wanted:
        return Split(fleets.beside_canary(wanted), wanted, target)
    if (reached := fleets.carries(room)) > weight:
        return Split(fleets.rest(weight), room, min(reached, target))
    least = max(1, fleets.need(min(weight + 1, target)))
    stable = max(fleets.beside_canary(least), 1 if weight < 100 else 0)
    canary = fleets.beside_stable(stable)
    if canary < least:  # stable is down to a pod that has to stay
        return Split(stable, canary, target if canary else weight)
    return Split(stable, min(canary, wanted), max(weight, min(target, fleets.carries(canary))))
