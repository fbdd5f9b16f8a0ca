from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from attnbench.nn.loss import linear_cross_entropy
from attnbench.nn.normalizers import choose_greedily, collect_choices, compute_choice_loss

BOS, EOS, WORDS = 1, 2, range(3, 13)
Reverse = Callable[..., float]


def reversed_words(size: int, length: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    words = torch.randint(WORDS.start, WORDS.stop, (size, length), generator=generator)
    first, last = torch.full((size, 1), BOS), torch.full((size, 1), EOS)
    return torch.cat((words, last), 1), torch.cat((first, words.flip(1), last), 1)


def accuracy_after(model: nn.Module, updates: int, lr: float, length: int = 6, size: int = 32) -> float:
    """Of the next token of reversed sequences, after training on so many batches of others at most.

    Six of ten words are a million sequences, of which training sees a few thousand: they cannot be learned by heart.
    """
    optimizer, generator = torch.optim.Adam(model.parameters(), fused=True), torch.Generator().manual_seed(0)

    def losses(source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        hidden = model(source, target[:, :-1]).hidden.flatten(0, 1)
        loss, nll_N, _ = linear_cross_entropy(hidden, model.output_weight, None, target[:, 1:].flatten())
        return loss, nll_N.view(size, -1).sum(1)

    for step in range(updates):
        optimizer.param_groups[0]["lr"] = lr * min(1, (step + 1) / 30) * (1 - step / updates)
        source, target = reversed_words(size, length, generator)
        with collect_choices() as made:
            loss, nll_B = losses(source, target)
        if made:
            with torch.no_grad(), choose_greedily():
                _, greedy_B = losses(source, target)
            loss = loss + compute_choice_loss(made, nll_B, greedy_B)
        if nll_B.mean() < 0.1 * (length + 1):  # of sequences that it has not seen: there is no more to learn
            break
        optimizer.zero_grad()
        (loss / (size * (length + 1))).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.eval()
    with torch.no_grad():
        source, target = reversed_words(200, length, generator)
        guess = model.project(model(source, target[:, :-1]).hidden).argmax(-1)
    return (guess == target[:, 1:]).double().mean().item()


@pytest.fixture
def reverse() -> Reverse:
    return accuracy_after
