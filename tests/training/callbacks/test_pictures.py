"""Pictures are kept where and when they should be, whatever they show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import pytorch_lightning as pl
from pytorch_lightning.loggers import TensorBoardLogger, WandbLogger

from attnbench.tasks.results import Figure
from attnbench.training.callbacks.pictures import FigureCallback
from attnbench.visualization.attention_maps import AttentionMap
from attnbench.visualization.canvas import Canvas, create_figure, save_figure

PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Square:
    """The least that is a picture."""

    name: str
    values: np.ndarray

    def to_arrays(self) -> dict[str, np.ndarray]:
        return {"values": self.values, "words": np.array(["für", "a"])}

    def save(self, path: Path) -> None:
        save_figure(create_figure(1, 1, dpi=20), path)


class Module(pl.LightningModule):
    """Has as many squares as examples are wanted."""

    def build_figures(self, examples: int) -> Sequence[Figure]:
        return [Square(f"square-{number}", np.full((2, 2), number)) for number in range(examples)]


class WithNone(pl.LightningModule):
    def build_figures(self, examples: int) -> Sequence[Figure]:
        return []


class Wandb(WandbLogger):
    def __init__(self) -> None:
        self.seen: list[tuple[str, list[str]]] = []

    def log_image(self, key: str, images: list[Any], step: int | None = None, **kwargs: Any) -> None:
        self.seen.append((key, images))


class TensorBoard(TensorBoardLogger):
    def __init__(self) -> None:
        self.seen: list[tuple[str, tuple[int, ...], int]] = []

    @property
    def experiment(self) -> Any:
        def add_image(key: str, image: np.ndarray, step: int, dataformats: str) -> None:
            assert dataformats == "HWC"
            self.seen.append((key, image.shape, step))

        return SimpleNamespace(add_image=add_image)


def trainer(step: int = 0, *, rank: int = 0, fn: str = "fit", loggers: Sequence[Any] = ()) -> pl.Trainer:
    fake = SimpleNamespace(
        is_global_zero=rank == 0, state=SimpleNamespace(fn=fn), global_step=step, loggers=list(loggers)
    )
    return cast(pl.Trainer, fake)


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_the_test_leaves_pictures_and_arrays_in_final(tmp_path: Path) -> None:
    FigureCallback(tmp_path / "pictures", 2, None).on_test_end(trainer(), Module())
    assert files(tmp_path) == [f"pictures/final/{name}" for name in ("arrays.npz", "square-0.png", "square-1.png")]
    assert (tmp_path / "pictures" / "final" / "square-1.png").read_bytes().startswith(PNG)
    with np.load(tmp_path / "pictures" / "final" / "arrays.npz", allow_pickle=False) as arrays:
        assert sorted(arrays) == ["square-0.values", "square-0.words", "square-1.values", "square-1.words"]
        np.testing.assert_array_equal(arrays["square-1.values"], np.full((2, 2), 1))
        assert arrays["square-1.words"].tolist() == ["für", "a"]


@pytest.mark.parametrize(("every", "written"), [(None, []), (1, [10, 20, 30, 40]), (2, [20, 40]), (3, [30]), (5, [])])
def test_every_so_many_validations(tmp_path: Path, every: int | None, written: list[int]) -> None:
    callback = FigureCallback(tmp_path, 1, every)
    for step in (10, 20, 30, 40):
        callback.on_validation_end(trainer(step), Module())
        callback.on_validation_end(trainer(step, fn="validate"), Module())  # no part of training
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"update-{step:07d}" for step in written]
    assert all(files(folder) == ["arrays.npz", "square-0.png"] for folder in tmp_path.iterdir())


@pytest.mark.parametrize(
    ("rank", "module"), [(1, Module()), (0, pl.LightningModule()), (0, WithNone())], ids=["rank 1", "unable", "none"]
)
def test_nothing_to_keep_leaves_nothing(tmp_path: Path, rank: int, module: pl.LightningModule) -> None:
    callback, logger = FigureCallback(tmp_path, 2, 1), Wandb()
    callback.on_validation_end(trainer(rank=rank, loggers=[logger]), module)
    callback.on_test_end(trainer(rank=rank, loggers=[logger]), module)
    assert files(tmp_path) == []
    assert logger.seen == []


def test_the_trackers_get_the_pictures(tmp_path: Path) -> None:
    wandb, tensorboard = Wandb(), TensorBoard()
    FigureCallback(tmp_path, 1, None).on_test_end(trainer(7, loggers=[wandb, tensorboard, object()]), Module())
    assert wandb.seen == [("pictures/square-0", [str(tmp_path / "final" / "square-0.png")])]
    ((key, shape, step),) = tensorboard.seen
    assert (key, shape[2], step) == ("pictures/square-0", 3, 7)


@pytest.mark.parametrize("name", ["cross-3", "encoder-self-12", "encoder"])
def test_an_attention_map_is_a_picture(tmp_path: Path, name: str) -> None:
    weights_LHQK = np.random.default_rng(0).dirichlet(np.ones(4), size=(2, 3, 2)).astype(np.float32)
    picture = AttentionMap(name, weights_LHQK, ["<bos>", "$^"], ["a", "$5", "für", "<eos>"])
    picture.save(tmp_path / "new" / "map.png")
    assert (tmp_path / "new" / "map.png").read_bytes().startswith(PNG)
    np.savez(tmp_path / "map.npz", allow_pickle=False, **picture.to_arrays())
    with np.load(tmp_path / "map.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["weights"], weights_LHQK)
        assert (arrays["queries"].tolist(), arrays["keys"].tolist()) == (picture.queries, picture.keys)


def test_a_page_grows_with_what_is_on_it(tmp_path: Path) -> None:
    from matplotlib.image import imread

    page = Canvas()
    page.draw_image(np.zeros((2, 2, 3), np.uint8), -1.0, 0.5, 1.0, 1.0)
    page.draw_image(np.full((2, 2, 3), 128, np.uint8), 2.0, 0.5, 1.0, 1.0)
    page.save(tmp_path / "page.png")
    found_HW = imread(tmp_path / "page.png")[..., 0]
    black, gray = (np.isclose(found_HW, value, atol=0.01).sum() for value in (0, 128 / 255))
    for pixels in (black, gray):
        assert pixels == pytest.approx(150**2, rel=0.03)  # an inch by an inch, neither cut off


def test_pyplot_keeps_no_figure(tmp_path: Path) -> None:
    from matplotlib import pyplot

    FigureCallback(tmp_path, 2, None).on_test_end(trainer(), Module())
    assert pyplot.get_fignums() == []
