"""Peer: encoder-decoder with additive attention, trained step by step as in d2l.ai, chapter 11.4.

The algorithm is the book's, the code is not: at each target token the keys are projected again, and the context is
concatenated to the token's embedding. This project's network runs in the same loop.
"""

# Shapes: B batch, S source length, T target length, H hidden width (that of embeddings too), V vocabulary, D layers

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.benchmarks.peers.serving import Job, Turns


class StepByStepNetwork(nn.Module):
    """Attention model of Bahdanau et al. 2015 on stacked GRUs; the query is the last state of the top layer."""

    def __init__(self, vocab: int, hidden: int, depth: int, dropout: float) -> None:
        super().__init__()
        self.source_embedding, self.target_embedding = nn.Embedding(vocab, hidden), nn.Embedding(vocab, hidden)
        self.encoder = nn.GRU(hidden, hidden, depth, dropout=dropout)
        self.decoder = nn.GRU(2 * hidden, hidden, depth, dropout=dropout)
        self.query, self.key = nn.Linear(hidden, hidden, bias=False), nn.Linear(hidden, hidden, bias=False)
        self.score = nn.Linear(hidden, 1, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden, vocab)

    def forward(self, source_BS: Tensor, target_BT: Tensor) -> Tensor:
        """Compute logits_BTV."""
        memory_SBH, state_DBH = self.encoder(self.source_embedding(source_BS).transpose(0, 1))
        memory_BSH = memory_SBH.transpose(0, 1)
        outputs = []
        for token_BH in self.target_embedding(target_BT).transpose(0, 1):
            features_BSH = torch.tanh(self.query(state_DBH[-1]).unsqueeze(1) + self.key(memory_BSH))
            weights_B1S = F.softmax(self.score(features_BSH).transpose(1, 2), dim=-1)
            context_BH = torch.bmm(self.dropout(weights_B1S), memory_BSH).squeeze(1)
            hidden_1BH, state_DBH = self.decoder(torch.cat((token_BH, context_BH), dim=-1).unsqueeze(0), state_DBH)
            outputs.append(hidden_1BH)
        logits_BTV: Tensor = self.output(torch.cat(outputs).transpose(0, 1))
        return logits_BTV


def build_step_by_step(job: Job) -> tuple[nn.Module, Any]:
    """Build the network, and the function that computes logits_BTV."""
    size = job["model"]
    network = StepByStepNetwork(job["vocab"], size["d_hidden"], size["depth"], size["dropout"])
    return network, lambda source_BS, target_BT: network(source_BS, target_BT)


def build_ours(job: Job) -> tuple[nn.Module, Any]:
    """Build this project's network, and the function that computes logits_BTV."""
    from attnbench.config.root import config_from_dict
    from attnbench.models.build import build_model

    network: Any = build_model(config_from_dict(job["config"]), source_vocab=job["vocab"], target_vocab=job["vocab"])
    return network, lambda source_BS, target_BT: network.project(network(source_BS, target_BT).hidden)


NETWORKS = {"step_by_step": build_step_by_step, "ours": build_ours}


def main() -> None:
    """Train on random sentences of one length, until no more turns are requested."""
    turns = Turns("torch")
    job = turns.job
    torch.set_num_threads(job["threads"])
    torch.manual_seed(1)
    network, logits_of = NETWORKS[job["how"]](job)
    optimizer = torch.optim.Adam(network.parameters(), lr=job["lr"], fused=True)
    shape = (job["batch_size"], job["length"])
    while True:
        # without padding, so that no peer can save work
        source_BS, target_BT, wanted_BT = torch.randint(4, job["vocab"], (3, *shape)).unbind()
        loss = F.cross_entropy(logits_of(source_BS, target_BT).flatten(0, 1), wanted_BT.flatten())
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        turns.count_units(wanted_BT.numel())


if __name__ == "__main__":
    main()
