"""How often does a rollout decide wrongly, and how many requests does a bad version cost?

    python benchmarks/decisions.py            # the whole table (2,000 harmless rollouts; minutes)
    python benchmarks/decisions.py --quick    # a smoke test of the same (seconds), exits 1 on a wild result

Every row is simulated with the operator's own `step` and statistics and the default settings: steps of 5, 25 and
50 %, a look every 15 seconds. The peers see requests of the same kind: a gate on a fixed error rate, a pooled z-test
looked at after every look, a rule that never fires and one that always does.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing import Pool

import numpy as np

from mlserve_core.api.v1alpha1 import Phase
from mlserve_operator.rollout.simulation import Behaviour, trial

UNIFORM = (0.1,) * 10
COLLAPSED = (1.0,) + (0.0,) * 9
RETRAINED = (0.105, 0.095, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.105, 0.095)


def confidence(a: float, b: float) -> tuple[float, ...]:
    """Shares of 32 bins of a Beta(a, b) distribution of confidence, folded to the 8 that arms are compared on."""
    middles = (np.arange(32) + 0.5) / 32
    density = middles ** (a - 1) * (1 - middles) ** (b - 1)
    return tuple((density / density.sum()).tolist())


@dataclass(frozen=True)
class Scenario:
    name: str
    stable: Behaviour
    canary: Behaviour
    wanted: str
    """What the right decision is: promote or stop."""
    rate: float = 10.0
    runs: int = 400
    max_canary: int = 30_000
    spike: float = 1.0
    """Factor on everybody's errors from minute 5 to minute 15."""
    goal: Callable[[Result], bool] | None = None
    words: str = ""


@dataclass(frozen=True)
class Result:
    promoted: float
    stopped: float
    canary: tuple[float, float, float]
    """Canary requests at the end of the rollout: 5th, 50th and 95th percentile."""
    seconds: float


def spiked(scenario: Scenario) -> Callable[[float], float]:
    return lambda now: scenario.spike if 300 <= now < 900 else 1.0


def run_ours(job: tuple[Scenario, int]) -> tuple[str, int]:
    scenario, seed = job
    random = np.random.default_rng([seed, len(scenario.name)])
    world = trial({}, scenario.stable, scenario.canary, random, rate=scenario.rate, scale=spiked(scenario))
    phase = world.settle(max_canary=scenario.max_canary, max_ticks=20_000)
    outcome = {Phase.BAKING: "promoted", Phase.HEALTHY: "promoted", Phase.ROLLED_BACK: "stopped"}.get(phase, "held")
    return outcome, world.sent.get("v2", 0)


# --- peers: rules that see the counts so far and say stop, or nothing ----------------------------------------------

Rule = Callable[[int, int, int, int], bool]


def fixed_gate(n_c: int, x_c: int, n_s: int, x_s: int) -> bool:
    """Stop above 5 % errors, from 50 requests on: the usual success-rate gate."""
    return n_c >= 50 and x_c > 0.05 * n_c


def pooled_z(n_c: int, x_c: int, n_s: int, x_s: int) -> bool:
    """One-sided two-proportion z-test at 1 % on the counts so far, after every look."""
    if min(n_c, n_s) == 0 or x_c + x_s == 0:
        return False
    p = (x_c + x_s) / (n_c + n_s)
    z = (x_c / n_c - x_s / n_s) / math.sqrt(max(p * (1 - p), 1e-12) * (1 / n_c + 1 / n_s))
    return z > 2.326


PEERS: dict[str, Rule] = {
    "fixed gate 5 %": fixed_gate,
    "pooled z-test": pooled_z,
    "never fires": lambda *_: False,
    "always fires": lambda *_: True,
}


def run_peer(job: tuple[str, Scenario, int]) -> tuple[str, int]:
    """The default steps and holds with a rule in place of the analysis; promoted when the holds are over."""
    name, scenario, seed = job
    rule, random, scale = PEERS[name], np.random.default_rng([seed, len(scenario.name)]), spiked(scenario)
    n_c = x_c = n_s = x_s = 0
    now = 0.0
    for weight, hold in ((5, 120), (25, 300), (50, 600)):
        for _ in range(hold // 15):
            now += 15
            n = int(random.poisson(scenario.rate * 15))
            c = int(random.binomial(n, weight / 100))
            n_c, n_s = n_c + c, n_s + n - c
            x_c += int(random.binomial(c, min(scenario.canary.errors * scale(now), 1)))
            x_s += int(random.binomial(n - c, min(scenario.stable.errors * scale(now), 1)))
            if rule(n_c, x_c, n_s, x_s):
                return "stopped", n_c
    return "promoted", n_c


def scenarios(runs: int) -> list[Scenario]:
    few = max(runs // 4, 20)
    good, bad = Behaviour(errors=0.02, classes=UNIFORM, confidence=confidence(12, 2)), Behaviour
    retrain = Behaviour(errors=0.02, classes=RETRAINED, confidence=confidence(18, 2))
    rare = lambda r: r.stopped <= 0.01  # noqa: E731 - read as a table
    mostly = lambda r: r.promoted >= 0.95  # noqa: E731
    return [
        Scenario("A/A, 2 % errors", good, good, "promote", runs=runs, goal=rare, words="stopped ≤ 1 %"),
        Scenario("A/A, errors x10 for 10 min", good, good, "promote", runs=runs, spike=10, goal=rare,
                 words="stopped ≤ 1 %"),
        Scenario("A/A, 0 %, within 3,000", bad(0.0), bad(0.0), "promote", 2, few, 3000, goal=mostly,
                 words="promoted ≥ 95 %"),
        Scenario("A/A, 2 %, within 3,000", bad(0.02), bad(0.02), "promote", 2, few, 3000, goal=mostly,
                 words="promoted ≥ 95 %"),
        Scenario("honest retrain", good, retrain, "promote", runs=few, goal=mostly, words="promoted ≥ 95 %"),
        Scenario("errors 2 -> 10 %", bad(0.02), bad(0.1), "stop", runs=few,
                 goal=lambda r: r.stopped >= 0.99 and r.canary[1] <= 200, words="stopped ≥ 99 %, median ≤ 200"),
        Scenario("errors 2 -> 4 %", bad(0.02), bad(0.04), "stop", runs=few, goal=lambda r: r.promoted <= 0.05,
                 words="before 100 % ≥ 95 %"),
        Scenario("class collapse", good, Behaviour(errors=0.02, classes=COLLAPSED), "stop", 4, few,
                 goal=lambda r: r.stopped >= 0.99 and r.canary[1] <= 50, words="median ≤ 50"),
        Scenario("outputs NaN 30 %", bad(0.0), bad(0.0, 0.3), "stop", runs=few, goal=lambda r: r.stopped >= 0.99,
                 words="stopped ≥ 99 %"),
        Scenario("slow 1 -> 30 %", bad(0.0), bad(0.0, 0.0, 0.3), "stop", runs=few, goal=lambda r: r.stopped >= 0.99,
                 words="stopped ≥ 99 %"),
    ]  # fmt: skip


def summarise(outcomes: list[tuple[str, int]], seconds: float) -> Result:
    n = len(outcomes)
    share = {name: sum(outcome == name for outcome, _ in outcomes) / n for name in ("promoted", "stopped")}
    low, middle, high = np.percentile([sent for _, sent in outcomes], [5, 50, 95])
    return Result(share["promoted"], share["stopped"], (low, middle, high), seconds)


def line(name: str, result: Result, judged: str) -> str:
    low, middle, high = result.canary
    return (
        f"  {name:<28}{100 * result.promoted:>8.1f} %{100 * result.stopped:>8.1f} %"
        f"{low:>9.0f}{middle:>8.0f}{high:>8.0f}   {judged}"
    )


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few runs of each")
    parser.add_argument("--runs", type=int, default=2000, help="harmless rollouts; a quarter of it for the others")
    parser.add_argument("--seed", type=int, default=0, help="first seed; another one gives other rollouts")
    options = parser.parse_args(arguments)
    began, failed = time.perf_counter(), 0
    header = f"  {'':<28}{'promoted':>10}{'stopped':>10}{'canary requests: 5 %':>21}{'50 %':>7}{'95 %':>8}"
    with Pool(min(os.cpu_count() or 1, 4)) as pool:
        for scenario in scenarios(24 if options.quick else options.runs):
            started = time.perf_counter()
            seeds, sent = range(options.seed, options.seed + scenario.runs), replace(scenario, goal=None)
            ours = summarise(
                pool.map(run_ours, [(sent, seed) for seed in seeds], chunksize=4), time.perf_counter() - started
            )
            good = scenario.goal is None or scenario.goal(ours)
            failed += not good
            print(f"\n{scenario.name}  (right: {scenario.wanted}; {scenario.runs} rollouts, {scenario.rate:g}/s)")
            print(header)
            print(line("mlserve", ours, f"{'ok' if good else 'MISSED'}: {scenario.words}  [{ours.seconds:.0f} s]"))
            for name in PEERS:
                jobs = [(name, sent, seed) for seed in seeds]
                print(line(name, summarise(pool.map(run_peer, jobs, chunksize=16), 0), ""))
            sys.stdout.flush()
    print(f"\n{time.perf_counter() - began:.0f} s in all, {failed} goals missed")
    return 1 if failed and not options.quick else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
