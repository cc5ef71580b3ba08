"""What an experienced eye would see in an iteration's numbers, in words."""

from __future__ import annotations

from collections.abc import Mapping

_Row = Mapping[str, float]


def online_alarms(row: _Row, first: _Row) -> list[str]:
    """What is wrong with an iteration of PPO or GRPO, `first` being the first one; nothing if nothing is.

    Args:
        row: a row of `metrics.jsonl`; see `policy_stage.align_online`.
    """
    found = []
    compared = "kl_exact" in row  # with the reference, which not every iteration may have been
    if compared and row["kl"] < -max(0.1, 0.5 * row["kl_exact"]):
        found.append(
            f"the sequences' KL is negative ({row['kl']:.2f} nats): sampler and update disagree about probabilities "
            "(temperature, dropout, cut-off distributions), or the penalty is being exploited"
        )
    if not 0.5 <= row["ratio"] <= 2:
        found.append(f"ratios average {row['ratio']:.2f}: the updates are too large (lower the learning rate)")
    gap = row.get("sampler_gap", 0.0)
    if abs(row["first_ratio"] - 1) > 1e-2 or gap > 0.1:
        found.append(
            f"before any update the ratio is {row['first_ratio']:.3f} (1 is right) and the sampler's log-probabilities "
            f"are off by up to {gap:.3f}: the sampler does not run the model that is trained"
        )
    if row["ended"] == 0:
        found.append("no answer ended by itself: the end of a turn was never learned, or max_new_tokens is too small")
    if compared and row["entropy"] < 0.2 * first["entropy"]:
        found.append(
            f"entropy fell from {first['entropy']:.2f} to {row['entropy']:.2f} nats: the policy has nearly stopped to "
            "explore (an entropy bonus or a higher price of divergence holds it)"
        )
    if row.get("groups_alike", 0) > 0.8:
        found.append(
            f"in {row['groups_alike']:.0%} of the groups all rewards are alike and teach nothing: the questions are "
            "too easy or too hard"
        )
    if row["gold"] < first["gold"] - 0.02 and row["proxy"] > first["proxy"]:
        found.append(
            f"the proxy rose ({first['proxy']:.2f} to {row['proxy']:.2f}) while the gold reward fell "
            f"({first['gold']:.3f} to {row['gold']:.3f}): over-optimisation"
        )
    if row["distinct"] < 0.5 * first["distinct"]:
        found.append(f"only {row['distinct']:.0%} of the answers differ (at first {first['distinct']:.0%})")
    return found


def preference_alarms(row: _Row) -> list[str]:
    """What is wrong with a step of learning from pairs.

    Args:
        row: a row of the trainer's, with `margin` and `chosen_reward`.
    """
    if row.get("margin", 0) > 0 > row.get("chosen_reward", 0):
        return [
            f"the margin grows ({row['margin']:.2f}) while the chosen answers become less likely than under the "
            f"reference (reward {row['chosen_reward']:.2f}): probability goes to neither answer (a term of imitation, "
            "or a smaller learning rate, holds it)"
        ]
    return []


NOTES = {
    "grpo": "A policy loss near zero is normal here: advantages sum to zero within a group; watch the reward instead.",
}
