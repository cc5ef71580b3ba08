"""The recurrent encoder-decoder that the transformer replaced, with and without attention.

B batch, S source tokens, T target tokens, C width, V vocabulary.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ..core.config import Config
from ..core.randomness import torch_generator
from .block import embedding
from .feedforward import Linear


class RecurrentConfig(Config):
    """Shape of a `RecurrentEncoderDecoder`. `attention` none: the decoder knows of the source what the encoder's last
    state holds, one vector a layer however long the source (Sutskever et al. 2014)."""

    vocab_size: Annotated[int, Field(ge=1, le=1 << 24)]
    hidden_size: Annotated[int, Field(ge=2, le=1 << 16, multiple_of=2)]
    layers: Annotated[int, Field(ge=1, le=64)] = 1
    cell: Literal["lstm", "gru"] = "lstm"
    attention: Literal["none", "additive", "multiplicative"] = "none"
    bos_token_id: int = 0
    eos_token_id: int | None = None
    pad_token_id: int | None = None


State = tuple[Tensor, Tensor] | Tensor


class AdditiveAttention(nn.Module):
    """score(query, key) = v . tanh(W query + U key) (Bahdanau et al. 2015, appendix A.1.2)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query = Linear(width, width, bias=False)
        self.key = Linear(width, width, bias=False)
        self.score = Linear(width, 1, bias=False)

    def forward(self, q_BC: Tensor, memory_BSC: Tensor) -> Tensor:
        """Scores (B, S)."""
        return self.score(torch.tanh(self.query(q_BC)[:, None] + self.key(memory_BSC))).squeeze(-1)


class MultiplicativeAttention(nn.Module):
    """score(query, key) = query . W key, "general" (Luong et al. 2015, section 3.1)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.key = Linear(width, width, bias=False)

    def forward(self, q_BC: Tensor, memory_BSC: Tensor) -> Tensor:
        """Scores (B, S)."""
        return torch.einsum("bc,bsc->bs", q_BC, self.key(memory_BSC))


class RecurrentEncoderDecoder(nn.Module):
    """An LSTM or GRU reads the source in both directions, and another writes the target from its last state.

    With attention each step also sees a mixture of the encoder's outputs, weighted by a score of each against the
    decoder's state, and predicts from both (Luong's order: state first, then attention).

    Args:
        generator: draws the weights (CPU); None: a fixed seed.
    """

    def __init__(self, config: RecurrentConfig, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config, width = config, config.hidden_size
        cell = {"lstm": nn.LSTM, "gru": nn.GRU}[config.cell]
        self.embedding = embedding(config.vocab_size, width)
        self.encoder = cell(width, width // 2, config.layers, batch_first=True, bidirectional=True)
        self.decoder = cell(width, width, config.layers, batch_first=True)
        kinds = {"none": None, "additive": AdditiveAttention, "multiplicative": MultiplicativeAttention}
        kind = kinds[config.attention]
        self.attention = None if kind is None else kind(width)
        self.combine = None if kind is None else Linear(2 * width, width, bias=False)
        generator = generator or torch_generator(0, "recurrent")
        for _, parameter in sorted(self.named_parameters()):
            if not parameter.is_meta:
                nn.init.uniform_(parameter, -(width**-0.5), width**-0.5, generator=generator)

    def encode(self, source_BS: Tensor, mask_BS: Tensor | None = None) -> tuple[Tensor, State]:
        """The encoder's outputs (B, S, C) and the state that the decoder starts from. Mask: True (or 1) at real tokens,
        which come first."""
        x_BSC = self.embedding(source_BS)
        if mask_BS is None:
            outputs_BSC, state = self.encoder(x_BSC)
            return outputs_BSC, self._joined(state)
        lengths = mask_BS.bool().sum(dim=-1).cpu()
        packed = nn.utils.rnn.pack_padded_sequence(x_BSC, lengths, batch_first=True, enforce_sorted=False)
        outputs, state = self.encoder(packed)
        outputs_BSC, _ = nn.utils.rnn.pad_packed_sequence(outputs, batch_first=True, total_length=source_BS.shape[1])
        return outputs_BSC, self._joined(state)

    def decode(
        self, target_BT: Tensor, memory_BSC: Tensor, state: State, mask_BS: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Logits (B, T, V) of the tokens behind target ids (B, T), and the state behind them, from which the next call
        goes on."""
        hidden_BTC, state = self.decoder(self.embedding(target_BT), state)
        if self.attention is not None and self.combine is not None:
            steps = []
            for hidden_BC in hidden_BTC.unbind(dim=1):
                weights_BS = self.weights(hidden_BC, memory_BSC, mask_BS)
                context_BC = torch.einsum("bs,bsc->bc", weights_BS, memory_BSC)
                steps.append(torch.tanh(self.combine(torch.cat((context_BC, hidden_BC), dim=-1))))
            hidden_BTC = torch.stack(steps, dim=1)
        return F.linear(hidden_BTC, self.embedding.weight), state

    def weights(self, hidden_BC: Tensor, memory_BSC: Tensor, mask_BS: Tensor | None = None) -> Tensor:
        """How much of each source token a decoder state looks at, (B, S): rows sum to 1."""
        assert self.attention is not None
        scores_BS: Tensor = self.attention(hidden_BC, memory_BSC)
        if mask_BS is not None:
            scores_BS = scores_BS.masked_fill(~mask_BS.bool(), float("-inf"))
        return scores_BS.softmax(dim=-1)

    def forward(self, source_BS: Tensor, target_BT: Tensor, source_mask_BS: Tensor | None = None) -> Tensor:
        """Logits (B, T, V): teacher forcing, targets shifted right by the caller."""
        memory_BSC, state = self.encode(source_BS, source_mask_BS)
        return self.decode(target_BT, memory_BSC, state, source_mask_BS)[0]

    def _joined(self, state: State) -> State:
        """Both directions' last states side by side: (2 L, B, C / 2) to (L, B, C)."""

        def joined(x: Tensor) -> Tensor:
            return torch.cat((x[0::2], x[1::2]), dim=-1).contiguous()

        return joined(state) if isinstance(state, Tensor) else (joined(state[0]), joined(state[1]))
