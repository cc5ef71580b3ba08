"""Late chunking (Günther et al. 2024): vectors of pieces of a text that know the whole of it.

The text is read at once and its pieces' vectors are means of their tokens' hidden states, so that "it" in one piece has
met in attention what it stands for in another. T tokens, C model width.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np
import numpy.typing as npt
import torch

from ..core.errors import DataError
from .chunking import Passage
from .compute import run_batches
from .sentence import SentenceEncoder, around, hidden_states

_JOIN = "\n\n"


def late_chunks(
    encoder: SentenceEncoder, text: str, spans: Sequence[tuple[int, int]], *, overlap: float = 0.25
) -> npt.NDArray[np.float32]:
    """Vectors (n, C) of pieces of a text, of length 1; zero for a piece that holds no token.

    A text longer than the encoder reads goes through it in windows that overlap, and each token counts where it comes
    first with enough before it: nothing is cut.

    Args:
        spans: characters [from, to) of each piece. A token belongs to the piece that it begins in.
        overlap: share of a window that the next one reads again.

    Raises:
        DataError: a span lies outside the text.
    """
    for first, last in spans:
        if not 0 <= first <= last <= len(text):
            raise DataError(f"the piece from {first} to {last} lies outside a text of {len(text)} characters")
    ids, places = encoder.tokenizer.encode_with_offsets(text)
    front, back = around(encoder.tokenizer)
    room = encoder.max_length - len(front) - len(back)
    if room < 1:
        raise DataError(f"an encoder that reads {encoder.max_length} tokens has no room for a text")
    hidden_TC = np.zeros((len(ids), encoder.dim), dtype=np.float32)
    step = max(1, room - int(room * overlap))
    with torch.inference_mode():
        for start in range(0, max(1, len(ids)), step):
            window = np.concatenate((front, ids[start : start + room], back)).astype(np.int64)
            hidden_1TC = hidden_states(encoder.encoding_model, torch.from_numpy(window)[None].to(encoder.device))
            known = 0 if start == 0 else room - step
            own = hidden_1TC[0, len(front) : len(window) - len(back)].float().cpu().numpy()
            hidden_TC[start + known : start + len(own)] = own[known:]
            if start + room >= len(ids):
                break
    vectors = np.zeros((len(spans), encoder.dim), dtype=np.float32)
    begins = places[:, 0] if len(places) else np.zeros(0, dtype=np.int64)
    for row, (first, last) in enumerate(spans):
        inside = (begins >= first) & (begins < last)
        if inside.any():
            vectors[row] = hidden_TC[inside].mean(axis=0)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def passage_vectors(encoder: SentenceEncoder, passages: Sequence[Passage], *, late: bool) -> npt.NDArray[np.float32]:
    """Vectors (n, C) of passages, of length 1.

    Args:
        late: read each document whole, so that its passages' vectors know of each other; its passages follow one
            another.
    """
    if not late:
        return encoder.encode_documents([passage.searchable for passage in passages], normalize=True)
    groups = [list(places) for _, places in groupby(range(len(passages)), key=lambda place: passages[place].document)]
    vectors = np.zeros((len(passages), encoder.dim), dtype=np.float32)
    (prompt,) = encoder.prompted([""], encoder.prompt_of(False))

    def read(numbers: npt.NDArray[np.int64]) -> None:
        for number in numbers.tolist():
            places = groups[number]
            first = passages[places[0]]
            texts = [first.searchable, *(passages[place].text for place in places[1:])]
            begins = len(prompt) + np.cumsum([0, *(len(text) + len(_JOIN) for text in texts[:-1])])
            spans = [(begin, begin + len(text)) for begin, text in zip(begins.tolist(), texts, strict=True)]
            vectors[places] = late_chunks(encoder, prompt + _JOIN.join(texts), spans)

    run_batches(read, [np.array([number]) for number in range(len(groups))], encoder.device)
    return vectors
