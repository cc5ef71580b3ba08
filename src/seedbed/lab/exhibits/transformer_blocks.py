"""The run's transformer block by block: what each adds to the residual stream, and where parameters and work lie.

B rows, T tokens, C model width.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from ...generation.long_context import stretches
from ...models import Decoder, ModelConfig
from ...reports import charts, index_charts, numbers
from ..bench import Bench
from ..exhibit import Exhibit, Finding, Settings, Verdict

_STREAM, _ATTENTION, _FEEDFORWARD = "residual stream", "attention adds", "feed-forward adds"
_PARTS = ("embedding", "attention", "feed-forward", "norms", "head")
_TWO_THIRDS = (0.6, 0.73)


class TransformerBlocksSettings(Settings):
    texts: int = Field(32, ge=1, description="stretches of the validation split, each as long as the context")


@dataclass(frozen=True)
class Level:
    """Root mean square of a token's numbers, over texts: of the stream behind a block (0: the embedding), and of what
    its sublayers add."""

    block: int
    stream: float
    attention: float = 0.0
    feedforward: float = 0.0


def measure(bench: Bench, settings: TransformerBlocksSettings) -> Finding:
    model = bench.decoder()
    config = model.config
    rows = stretches(bench.tokens("validation").tokens, config.context_length, settings.texts)
    found = levels(model, rows)
    parameters, work = parameters_of(model), flops_of(config)
    inside = parameters["attention"] + parameters["feed-forward"] + parameters["norms"]
    share = parameters["feed-forward"] / inside
    growing = sum(after.stream > before.stream for before, after in pairwise(found))
    grows, thirds = growing == config.layers, _TWO_THIRDS[0] <= share <= _TWO_THIRDS[1]
    verdict: Verdict = "holds" if grows and thirds else "holds in part" if grows or thirds else "does not hold"
    total, whole = sum(parameters.values()), sum(work.values())
    sentences = (
        f"The feed-forward holds {share:.0%} of the parameters inside the blocks; of all {numbers.short(total)} the "
        f"embedding holds {parameters['embedding'] / total:.0%}, and of the work for a token the head does "
        f"{work['head'] / whole:.0%}.",
        f"The residual stream grows in {growing} of {config.layers} blocks, from {found[0].stream:.3f} behind the "
        f"embedding to {found[-1].stream:.3f} ({found[-1].stream / found[0].stream:.1f} times) behind the last block.",
    )
    table: list[list[Any]] = [
        [part.capitalize(), parameters[part], numbers.percent(parameters[part] / total), work[part],
         numbers.percent(work[part] / whole)]
        for part in _PARTS
    ]  # fmt: skip
    shares = [
        {"part": part.capitalize(), "of": name, "share": values[part] / sum(values.values())}
        for part in _PARTS
        for name, values in (("parameters", parameters), ("work", work))
    ]
    return Finding(
        verdict, sentences, ("Part", "Parameters", "Share", "FLOPs per token", "Share of work"), table,
        [("Residual stream", _stream_chart(found)),
         ("Shares", charts.grouped_bars(shares, "part", "of", "share", "share", ("parameters", "work"),
                                        label=lambda one: numbers.percent(one, 0)))],
        {"feedforward_share": share, "first": found[0].stream, "last": found[-1].stream, "growing": float(growing),
         "flops": float(whole)},
        f"FLOPs of a forward pass over {config.context_length} tokens, with all pairs of tokens counted. "
        + ("The head is the embedding’s transpose, so that it has no parameters of its own. " if config.tie_embeddings
           else "") + "The stream’s size is the root mean square of its numbers.",
    )  # fmt: skip


@torch.inference_mode()
def levels(model: Decoder, ids_BT: Tensor) -> list[Level]:
    """The stream behind the embedding and behind every block, and what the sublayers of each add."""
    sizes: dict[tuple[int, str], float] = {}

    def keep(layer: int, what: str) -> Any:
        def hook(module: Any, inputs: Any, output: Tensor) -> None:
            sizes[layer, what] = float(output.double().square().mean().sqrt())

        return hook

    hooks = [model.embedding.register_forward_hook(keep(0, "stream"))]
    for place, block in enumerate(model.blocks, start=1):
        hooks.append(block.register_forward_hook(keep(place, "stream")))
        hooks += [
            block.get_submodule(name).register_forward_hook(keep(place, name)) for name in ("attention", "feedforward")
        ]
    try:
        model.hidden(ids_BT)
    finally:
        for one in hooks:
            one.remove()
    return [
        Level(
            place, sizes[place, "stream"], sizes.get((place, "attention"), 0.0), sizes.get((place, "feedforward"), 0.0)
        )
        for place in range(len(model.blocks) + 1)
    ]


def parameters_of(model: Decoder) -> dict[str, int]:
    found = dict.fromkeys(_PARTS, 0)
    for name, parameter in model.named_parameters():
        part = (
            "head" if name.startswith("lm_head")
            else "embedding" if "embedding" in name
            else "norms" if "norm" in name
            else "attention" if ".attention." in name
            else "feed-forward"
        )  # fmt: skip
        found[part] += parameter.numel()
    return found


def flops_of(config: ModelConfig) -> dict[str, int]:
    """Of a forward pass, per token: a third of training's (see `ModelConfig.flops_per_token`)."""
    head = 2 * config.vocab_size * config.hidden_size
    whole = config.flops_per_token() // 3
    bare = config.replace(experts=0, activation="relu", intermediate_size=1, feedforward_bias=False)
    without = bare.flops_per_token() // 3 - head - 4 * config.layers * config.hidden_size
    return {"embedding": 0, "attention": without, "feed-forward": whole - head - without, "norms": 0, "head": head}


def _stream_chart(found: list[Level]) -> Any:
    rows = [{"block": one.block, "size": one.stream, "series": _STREAM} for one in found]
    for one in found[1:]:
        rows += [
            {"block": one.block, "size": one.attention, "series": _ATTENTION},
            {"block": one.block, "size": one.feedforward, "series": _FEEDFORWARD},
        ]
    return index_charts.lines(
        rows, "block", "size", (_STREAM, _ATTENTION, _FEEDFORWARD), "behind block (0: the embedding)",
        "root mean square", x_log=False, x_values=[one.block for one in found] if len(found) < 14 else (),
    )  # fmt: skip


EXHIBIT = Exhibit(
    question="What does each block add, and where do a transformer's parameters and work lie?",
    claim="Two thirds of a block's parameters are its feed-forward's, and the residual stream grows with every block.",
    formula="x ← x + Attention(norm(x)), x ← x + FeedForward(norm(x)); 4C² weights against 8C².",
    source="Vaswani et al. 2017, sections 3.1 and 3.3; Geva et al. 2021, section 1; Xiong et al. 2020, section 3",
    settings=TransformerBlocksSettings,
    measure=measure,
    needs=("tokenizer", "tokens", "base"),
)
