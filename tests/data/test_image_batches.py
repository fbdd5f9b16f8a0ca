"""Pictures as batches: each seen once an epoch, augmented as its epoch says whoever loads it, and normalized."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from attnbench.data.errors import DataError
from attnbench.data.image_batches import (
    NO_LABEL,
    Augmentation,
    ImageBatch,
    ImageTransform,
    build_evaluation_sampler,
    build_loader,
    build_update_sampler,
    crop_images,
    fit_image_transform,
)
from attnbench.data.images import Images


def make(count: int = 50, channels: int = 1, size: int = 8) -> Images:
    random = np.random.default_rng(0)
    pixels = torch.from_numpy(random.integers(0, 256, (count, channels, size, size), dtype=np.uint8))
    return Images("train", pixels, torch.from_numpy(random.integers(0, 4, count)))


def epoch_of(images: Images, epoch: int = 0, augmented: bool = True, **where: int) -> list[ImageBatch]:
    sampler = build_update_sampler(len(images), 16, seed=1, **where)
    sampler.set_epoch(epoch)
    augmentation = Augmentation(len(images), 2, True, seed=1) if augmented else None
    return list(build_loader(images, fit_image_transform(images, 8), sampler, augmentation))


def by_index(batches: list[ImageBatch]) -> dict[int, torch.Tensor]:
    return {
        int(index): image
        for batch in batches
        for index, image in zip(batch.indices_B, batch.images_BCHW, strict=True)
        if batch.num_images
    }


def test_every_picture_once_an_epoch_in_updates_of_one_size() -> None:
    batches = epoch_of(make())
    assert sorted(len(batch.labels_B) for batch in batches) == [12, 12, 13, 13]
    assert sorted(torch.cat([batch.indices_B for batch in batches]).tolist()) == list(range(50))
    assert all(batch.num_update_images == batch.num_images == batch.num_units for batch in batches)
    assert [b.indices_B.tolist() for b in epoch_of(make(), 1)] != [b.indices_B.tolist() for b in batches]


def test_labels_stay_with_their_pictures() -> None:
    images = make()
    for batch in epoch_of(images):
        assert torch.equal(batch.labels_B, images.labels_N[batch.indices_B])


@pytest.mark.parametrize(("world_size", "accumulate"), [(2, 1), (1, 3), (3, 2), (5, 4)])
def test_shares_are_the_same_pictures_however_an_update_is_cut(world_size: int, accumulate: int) -> None:
    images = make()
    whole = epoch_of(images, 3)
    ranks = [
        epoch_of(images, 3, rank=rank, world_size=world_size, num_micro_batches=accumulate)
        for rank in range(world_size)
    ]
    assert {len(batches) for batches in ranks} == {len(whole) * accumulate}
    for number, update in enumerate(whole):
        shares = list(itertools.chain.from_iterable(r[number * accumulate : (number + 1) * accumulate] for r in ranks))
        assert sum(share.num_images for share in shares) == len(update.labels_B)
        assert {share.num_update_images for share in shares} == {update.num_update_images}
        alone, together = by_index([update]), by_index(shares)
        assert alone.keys() == together.keys()
        assert all(torch.equal(alone[index], together[index]) for index in alone)
        assert all((share.labels_B == NO_LABEL).all() for share in shares if not share.num_images)


def test_augmentation_is_drawn_anew_each_epoch_and_the_same_when_resumed() -> None:
    images = make()
    first, again, second = (by_index(epoch_of(images, epoch)) for epoch in (0, 0, 1))
    assert all(torch.equal(first[index], again[index]) for index in first)
    assert sum(torch.equal(first[index], second[index]) for index in first) < 10


@pytest.mark.parametrize("channels", [1, 3])
def test_a_crop_is_a_window_of_the_padded_picture(channels: int) -> None:
    pixels = make(25, channels).pixels_NCHW
    shifts = torch.cartesian_prod(torch.arange(5), torch.arange(5))
    found = crop_images(pixels, shifts, 2)
    for picture, (row, column), window in zip(pixels, shifts.tolist(), found, strict=True):
        assert torch.equal(window, F.pad(picture, (2, 2, 2, 2))[:, row : row + 8, column : column + 8])
    assert torch.equal(found[12], pixels[12])


def test_mirrors_and_crops_are_drawn_for_each_picture() -> None:
    picture = torch.arange(64, dtype=torch.uint8).view(1, 1, 8, 8)
    augment = Augmentation(400, 2, True, seed=1)
    seen = augment(picture.expand(400, -1, -1, -1), torch.arange(400), 0)
    assert len({tuple(image.flatten().tolist()) for image in seen}) == 50  # 5 x 5 crops, and their mirrors
    flip_only = Augmentation(400, 0, True, seed=1)(picture.expand(400, -1, -1, -1), torch.arange(400), 0)
    mirrored = (flip_only == picture.flip(-1)).flatten(1).all(1)
    assert (mirrored | (flip_only == picture).flatten(1).all(1)).all()
    assert 150 < int(mirrored.sum()) < 250


def test_training_pictures_come_out_normalized() -> None:
    images = make(200, channels=3)
    seen = fit_image_transform(images, 8)(images.pixels_NCHW)
    torch.testing.assert_close(seen.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(seen.std((0, 2, 3), correction=0), torch.ones(3), atol=1e-5, rtol=0)


def test_pictures_of_one_color_are_no_division_by_zero() -> None:
    flat = Images("train", torch.full((4, 1, 8, 8), 7, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64))
    assert fit_image_transform(flat, 8)(flat.pixels_NCHW).isfinite().all()


def test_other_sizes_are_resized() -> None:
    assert ImageTransform(12, [0.5], [0.5])(make().pixels_NCHW).shape == (50, 1, 12, 12)


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_evaluation_sees_each_picture_once_over_all_ranks(world_size: int) -> None:
    images = make()
    seen = [
        index
        for rank in range(world_size)
        for batch in build_loader(
            images, fit_image_transform(images, 8), build_evaluation_sampler(50, 16, rank=rank, world_size=world_size)
        )
        for index in batch.indices_B.tolist()
    ]
    assert sorted(seen) == list(range(50))


def test_workers_change_nothing() -> None:
    images = make(20)
    sampler = build_update_sampler(20, 8, seed=1)
    plain, worked = (
        list(
            build_loader(
                images, fit_image_transform(images, 8), sampler, Augmentation(20, 2, True, seed=1), num_workers=workers
            )
        )
        for workers in (0, 2)
    )
    assert all(torch.equal(a.images_BCHW, b.images_BCHW) for a, b in zip(plain, worked, strict=True))


def test_a_batch_moves_and_says_its_size() -> None:
    batch = epoch_of(make())[0]
    assert batch.to("cpu").images_BCHW.equal(batch.images_BCHW)
    assert batch.token_counts == (len(batch.labels_B),) * 2
    assert batch.unit_name == "images"


def test_a_share_of_one_image_is_refused_where_batch_norm_needs_two() -> None:
    assert build_update_sampler(17, 16, seed=1, num_micro_batches=4, min_micro_batch_size=2)
    with pytest.raises(
        DataError, match=r"17 training images make updates of 8, .* trainer\.micro_batch_size to at least 4"
    ):
        build_update_sampler(17, 16, seed=1, num_micro_batches=8, min_micro_batch_size=2)
    with pytest.raises(DataError, match=r"set another data\.batch_size, or fewer trainer\.devices"):
        build_update_sampler(3, 2, seed=1, min_micro_batch_size=2)
