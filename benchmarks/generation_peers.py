"""Who generates in the benchmark of decoding: our engine, transformers and llama.cpp, on one checkpoint.

Each is a function of a prompt batch (B, T) and a number of new tokens; it decodes greedily and gives the tokens (B, n).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from seedbed.generation import Engine, Sampling
from seedbed.models import Decoder, load_model

Generate = Callable[[np.ndarray, int], np.ndarray]
GGUF_TYPES = {"float32": "f32", "bfloat16": "bf16", "int8": "q8_0", "int4": "q4_0"}


def ours(folder: Path, precision: str, rows: int, length: int) -> Generate:
    model = load_model(folder)
    assert isinstance(model, Decoder)
    engine = Engine(model, dtype=precision, batch_size=rows, max_length=length, eos_token_ids=())

    def generate(prompts_BT: np.ndarray, new: int) -> np.ndarray:
        results = engine.generate(list(prompts_BT), Sampling(temperature=0, max_new_tokens=new), decode=False)
        return np.stack([one.ids for one in results])

    return generate


def transformers(folder: Path, precision: str, rows: int, length: int, compiled: bool = False) -> Generate:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, precision)).eval()
    extra: dict[str, Any] = {}
    if compiled:
        model.forward = torch.compile(model.forward)
        extra = {"cache_implementation": "static"}

    @torch.inference_mode()
    def generate(prompts_BT: np.ndarray, new: int) -> np.ndarray:
        ids = torch.from_numpy(prompts_BT)
        found = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, min_new_tokens=new, do_sample=False,
            pad_token_id=0, eos_token_id=None, **extra,
        )  # fmt: skip
        tokens: np.ndarray = found[:, ids.shape[1] :].numpy()
        return tokens

    return generate


class LlamaCpp:
    """llama.cpp through its C interface: prompts in batches of 2,048 tokens, then one batch per token."""

    def __init__(self, file: Path, precision: str, rows: int, length: int, threads: int) -> None:
        import llama_cpp

        self.api: Any = llama_cpp
        self._quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)
        llama_cpp.llama_log_set(self._quiet, ctypes.c_void_p(0))
        model_parameters = llama_cpp.llama_model_default_params()
        model_parameters.n_gpu_layers = 0
        self.model = llama_cpp.llama_model_load_from_file(str(file).encode(), model_parameters)
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx, parameters.n_seq_max = rows * (length + 64), rows
        parameters.n_batch, parameters.n_ubatch = 2048, 512
        parameters.n_threads = parameters.n_threads_batch = threads
        if precision == "float32":  # its own choice are halves
            parameters.type_k = parameters.type_v = llama_cpp.GGML_TYPE_F32
        self.context = llama_cpp.llama_init_from_model(self.model, parameters)
        self.vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))
        self.batch = llama_cpp.llama_batch_init(2048, 0, 1)

    def close(self) -> None:
        self.api.llama_batch_free(self.batch)
        self.api.llama_free(self.context)
        self.api.llama_model_free(self.model)

    def logits(self, tokens: list[tuple[int, int, int, bool]]) -> list[np.ndarray]:
        """Run (token, position, row, wanted) and give the logits of the wanted ones."""
        found = []
        for start in range(0, len(tokens), 2048):
            part = tokens[start : start + 2048]
            batch = self.batch
            batch.n_tokens = len(part)
            for place, (token, position, row, wanted) in enumerate(part):
                batch.token[place], batch.pos[place] = token, position
                batch.n_seq_id[place], batch.seq_id[place][0] = 1, row
                batch.logits[place] = wanted
            if self.api.llama_decode(self.context, batch):
                raise RuntimeError("llama.cpp refused a batch")
            for place, (*_, wanted) in enumerate(part):
                if wanted:
                    pointer = self.api.llama_get_logits_ith(self.context, place)
                    found.append(np.ctypeslib.as_array(pointer, (self.vocabulary,)))
        return found

    def prompt(self, prompts_BT: np.ndarray) -> list[np.ndarray]:
        self.api.llama_memory_clear(self.api.llama_get_memory(self.context), True)
        last = prompts_BT.shape[1] - 1
        return [
            logits.copy()
            for row, prompt in enumerate(prompts_BT.tolist())
            for logits in self.logits([(token, place, row, place == last) for place, token in enumerate(prompt)])
        ]

    def __call__(self, prompts_BT: np.ndarray, new: int) -> np.ndarray:
        rows, length = prompts_BT.shape
        steps = [[int(one.argmax()) for one in self.prompt(prompts_BT)]]
        for step in range(new - 1):
            found = self.logits([(steps[-1][row], length + step, row, True) for row in range(rows)])
            steps.append([int(one.argmax()) for one in found])
        return np.array(steps).T
