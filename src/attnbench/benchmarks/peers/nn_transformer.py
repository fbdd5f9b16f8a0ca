"""Peer: a hand-written training loop on torch.nn.Transformer, as a good engineer would write it without this project.

It has batches of similar lengths, one fused optimizer, tied embeddings and torch's own causal path, and computes the
logits of all positions at once.
"""

# Shapes: B batch, S source length, T target length, L length, D d_model, V vocabulary

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.benchmarks.peers.corpus import Corpus, pad_sentences
from attnbench.benchmarks.peers.serving import Job, Turns


class Model(nn.Module):
    """Transformer of Vaswani et al. 2017 with all embeddings tied."""

    positions_LD: Tensor

    def __init__(self, job: Job, longest: int) -> None:
        super().__init__()
        size, d_model = job["model"], job["model"]["d_model"]
        self.scale, self.pad = math.sqrt(d_model), job["pad"]
        self.embedding = nn.Embedding(job["vocab"], d_model, padding_idx=job["pad"])
        nn.init.normal_(self.embedding.weight, std=d_model**-0.5)
        self.transformer = nn.Transformer(
            d_model, size["num_heads"], size["depth"], size["depth"], size["d_ff"], size["dropout"], batch_first=True
        )
        for layer in (*self.transformer.encoder.layers, *self.transformer.decoder.layers):
            # As everybody else here: dropout after each sublayer, none on weights or inside the feed-forward network.
            layer.dropout.p = layer.self_attn.dropout = 0.0
            if hasattr(layer, "multihead_attn"):
                layer.multihead_attn.dropout = 0.0
        self.dropout = nn.Dropout(size["dropout"])
        rate_D = torch.exp(torch.arange(0, d_model, 2) * (-math.log(10000.0) / d_model))
        angle_LD = torch.arange(longest)[:, None] * rate_D
        self.register_buffer("positions_LD", torch.stack((angle_LD.sin(), angle_LD.cos()), -1).flatten(1))

    def embed(self, ids_BL: Tensor) -> Tensor:
        """Compute x_BLD."""
        x_BLD: Tensor = self.dropout(self.embedding(ids_BL) * self.scale + self.positions_LD[: ids_BL.shape[1]])
        return x_BLD

    def forward(self, source_BS: Tensor, target_BT: Tensor) -> Tensor:
        """Compute logits_BTV."""
        padding_BS = source_BS == self.pad
        hidden_BTD = self.transformer(
            self.embed(source_BS),
            self.embed(target_BT),
            tgt_mask=nn.Transformer.generate_square_subsequent_mask(target_BT.shape[1]),
            src_key_padding_mask=padding_BS,
            memory_key_padding_mask=padding_BS,
            tgt_is_causal=True,
        )
        return F.linear(hidden_BTD, self.embedding.weight)


def main() -> None:
    """Train until no more turns are requested."""
    turns = Turns("torch")
    job = turns.job
    torch.set_num_threads(job["threads"])
    torch.manual_seed(1)
    corpus = Corpus(job["data"], "train")
    model = Model(job, 1 + max(lengths_N.max() for lengths_N in corpus.get_lengths()))
    optimizer = torch.optim.Adam(model.parameters(), lr=job["lr"], betas=(0.9, 0.98), eps=1e-9, fused=True)
    warmup = job["lr_warmup"]
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warmup, math.sqrt(warmup / (step + 1)))
    )
    for rows_B in corpus.iterate_batches(job["batch_tokens"]):
        source_BS, target_BT = (
            torch.from_numpy(pad_sentences([side[row] for row in rows_B], job["pad"]))
            for side in (corpus.source, corpus.target)
        )
        wanted_BT = target_BT[:, 1:]
        logits_BTV = model(source_BS, target_BT[:, :-1])
        loss = F.cross_entropy(
            logits_BTV.flatten(0, 1), wanted_BT.flatten(), ignore_index=job["pad"], label_smoothing=job["smoothing"]
        )
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
        turns.count_units(int((wanted_BT != job["pad"]).sum()))


if __name__ == "__main__":
    main()
