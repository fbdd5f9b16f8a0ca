"""Peer: CTranslate2 (inference engine of OpenNMT in C++) with the weights of this project's Transformer, fp32."""
# mypy: disable-error-code="import-not-found, import-untyped"

from __future__ import annotations

import tempfile
from typing import Any

import ctranslate2
import numpy as np
from ctranslate2.specs import TransformerSpec

from attnbench.benchmarks.peers.corpus import Corpus
from attnbench.benchmarks.peers.serving import Job, Turns


def main() -> None:
    """Translate until no more turns are requested."""
    turns = Turns("ctranslate2")
    job = turns.job
    sources = [[str(number) for number in ids] for ids in Corpus(job["data"], "test").source[: job["sentences"]]]
    longest = max(map(len, sources))
    with tempfile.TemporaryDirectory() as folder:
        _build_spec(job).save(folder)
        translator = ctranslate2.Translator(
            folder, compute_type="float32", inter_threads=1, intra_threads=job["threads"]
        )

    def everything() -> list[list[int]]:
        results = translator.translate_batch(
            sources,
            beam_size=job["beam_size"],
            max_batch_size=job["decode_tokens"],
            batch_type="tokens",
            length_penalty=job["length_penalty"],
            max_decoding_length=int(longest * job["max_ratio"]) + job["max_extra"],
            max_input_length=0,
        )
        return [[int(token) for token in result.hypotheses[0]] for result in results]

    turns.run_decoding(everything)


def _build_spec(job: Job) -> Any:
    size = job["model"]
    spec = TransformerSpec.from_config((size["depth"], size["depth"]), size["num_heads"], pre_norm=False)
    with np.load(job["weights"]) as weights:
        table_VD = weights["source_embedding.weight"]
        for side in (spec.encoder, spec.decoder):
            embeddings = side.embeddings[0] if isinstance(side.embeddings, list) else side.embeddings
            embeddings.weight = table_VD
            side.scale_embeddings = True
            side.position_encodings.encodings = weights["positions_LD"]
        for number in range(size["depth"]):
            _fill_layer(spec.encoder.layer[number], weights, f"encoder.{number}")
            _fill_layer(spec.decoder.layer[number], weights, f"decoder.{number}")
        spec.decoder.projection.weight = weights["output.weight"]
    names = [str(number) for number in range(job["vocab"])]
    for side in ("source", "target"):
        getattr(spec, f"register_{side}_vocabulary")(names)
    tokens = {"bos": job["bos"], "eos": job["eos"], "unk": job["unk"]}
    for name, number in tokens.items():
        setattr(spec.config, f"{name}_token", str(number))
    spec.config.decoder_start_token = str(job["bos"])
    spec.config.add_source_bos = spec.config.add_source_eos = False
    spec.validate()
    return spec


def _fill_layer(layer: Any, weights: Any, name: str) -> None:
    def linear(spec: Any, at: str, rows: slice = slice(None)) -> None:
        spec.weight, spec.bias = weights[f"{at}.weight"][rows], weights[f"{at}.bias"][rows]

    def norm(spec: Any, at: str) -> None:
        spec.gamma, spec.beta = weights[f"{at}.norm.weight"], weights[f"{at}.norm.bias"]

    linear(layer.self_attention.linear[0], f"{name}.self_attention.qkv")
    linear(layer.self_attention.linear[1], f"{name}.self_attention.output_projection")
    norm(layer.self_attention.layer_norm, f"{name}.around_self")
    if name.startswith("decoder"):
        d_model = len(weights[f"{name}.cross_attention.output_projection.bias"])
        linear(layer.attention.linear[0], f"{name}.cross_attention.qkv", slice(0, d_model))
        linear(layer.attention.linear[1], f"{name}.cross_attention.qkv", slice(d_model, None))
        linear(layer.attention.linear[2], f"{name}.cross_attention.output_projection")
        norm(layer.attention.layer_norm, f"{name}.around_cross")
    linear(layer.ffn.linear_0, f"{name}.feed_forward.input_projection")
    linear(layer.ffn.linear_1, f"{name}.feed_forward.output_projection")
    norm(layer.ffn.layer_norm, f"{name}.around_feed_forward")


if __name__ == "__main__":
    main()
