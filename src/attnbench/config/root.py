"""Root of the config schema: all groups, and the conditions between them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from attnbench.config.attention import AttentionConfig, Normalizer, Score
from attnbench.config.data import (
    DataConfig,
    FilesConfig,
    Multi30kConfig,
    ParallelTextConfig,
    SyntheticTranslationConfig,
    TatoebaConfig,
    Wmt14Config,
)
from attnbench.config.fields import ConfigError, Fault, find_faults, seed_field
from attnbench.config.images import FashionMnistConfig, ImageFolderConfig, ImagesConfig, SyntheticGarmentsConfig
from attnbench.config.metrics import BleuTokenizer, MetricsConfig
from attnbench.config.model import (
    BlocksConfig,
    CnnConfig,
    MlpConfig,
    ModelConfig,
    NormType,
    ResNet18Config,
    TiedEmbeddings,
    TransformerConfig,
    VitConfig,
)
from attnbench.config.optim import OptimConfig, Schedule, ScheduleConfig
from attnbench.config.position import Position, PositionConfig
from attnbench.config.recurrent import DecoderContext, RecurrentConfig
from attnbench.config.task import ClassificationConfig, TaskConfig, TranslationConfig
from attnbench.config.tracking import (
    CallbacksConfig,
    LoggerConfig,
    OnOutOfMemory,
    PathsConfig,
    SweepConfig,
    find_name_faults,
)
from attnbench.config.trainer import DebugConfig, TrainerConfig


@dataclass
class Config:
    """Config of one run."""

    name: str = "run"  # the experiment's name
    seed: int = seed_field(1)
    task: TaskConfig = field(default_factory=TaskConfig)
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    attention: AttentionConfig = field(default_factory=AttentionConfig)
    position: PositionConfig = field(default_factory=PositionConfig)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    callbacks: CallbacksConfig = field(default_factory=CallbacksConfig)
    debug: DebugConfig = field(default_factory=DebugConfig)
    paths: PathsConfig = field(default_factory=PathsConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)

    def find_faults(self) -> Iterator[Fault]:
        """Find faults between groups."""
        yield from find_name_faults("name", self.name)
        fitting = COMPATIBLE_FAMILIES.get(type(self.task), {})
        for group, members in SCHEMAS.items():
            node = getattr(self, group)
            family: str = node.family
            if members.get(family) is not type(node):
                yield Fault(f"{group}.family", family, f"not to be set by hand: choose {group}=<name>")
            elif group in fitting and family not in fitting[group]:
                known = ", ".join(sorted(fitting[group]))
                yield Fault(group, family, f"expected one of {known} for task={self.task.family}")
        yield from self._find_training_faults()
        if isinstance(self.data, ParallelTextConfig):
            yield from self._find_text_faults(self.data)
        if isinstance(self.model, RecurrentConfig):
            yield from self._find_recurrent_faults(self.model)
        if isinstance(self.model, BlocksConfig):
            yield from self._find_block_faults(self.model)
        elif self.trainer.activation_checkpointing:
            yield Fault(
                "trainer.activation_checkpointing", "true", f"expected false: model={self.model.family} has no blocks"
            )
        if isinstance(self.data, ImagesConfig):
            yield from self._find_image_faults(self.data)
        if isinstance(self.data, ImagesConfig) and isinstance(self.model, VitConfig):
            yield from self._find_vit_faults(self.data, self.model)

    def _find_training_faults(self) -> Iterator[Fault]:
        if self.schedule.name is Schedule.cosine and self.trainer.max_steps is None and self.trainer.max_epochs is None:
            expected = "expected it or trainer.max_epochs to be set: schedule=cosine ends at the last update"
            yield Fault("trainer.max_steps", "null", expected)
        if isinstance(self.task, ClassificationConfig) and self.metrics.tokenize is not BleuTokenizer["auto"]:
            yield Fault(
                "metrics.tokenize", self.metrics.tokenize.name, "expected auto: task=classification has no text"
            )
        if self.sweep.on_oom is OnOutOfMemory.halve_batch and self.model.uses_batch_norm:
            expected = (
                "expected fail: with batch norm, smaller parts of an update are another run (trainer.micro_batch_size)"
            )
            yield Fault("sweep.on_oom", "halve_batch", expected)

    def _find_text_faults(self, text: ParallelTextConfig) -> Iterator[Fault]:
        shared = (
            isinstance(self.model, (TransformerConfig, RecurrentConfig))
            and self.model.tie_embeddings is TiedEmbeddings.all
        )
        if shared and not text.joint_vocabulary:
            yield Fault("model.tie_embeddings", "all", "expected none or target: data.joint_vocabulary=false")
        if self.position.kind is Position.learned and self.position.max_len < text.max_len:
            yield Fault(
                "position.max_len",
                f"{self.position.max_len}",
                f"expected at least data.max_len={text.max_len}",
            )

    def _find_recurrent_faults(self, model: RecurrentConfig) -> Iterator[Fault]:
        attends = model.decoder_context in (DecoderContext.bahdanau, DecoderContext.luong)
        allowed = self.attention.target is not None or self.attention.score.allows_different_widths
        if attends and model.bidirectional and not allowed:
            known = ", ".join(score.name for score in Score if score.allows_different_widths)
            expected = f"expected one of {known}: with model.bidirectional=true keys are wider than queries"
            yield Fault("attention.score", self.attention.score.name, expected)

    def _find_block_faults(self, model: BlocksConfig) -> Iterator[Fault]:
        if self.trainer.activation_checkpointing and model.norm_type is NormType.batch:
            expected = "expected false: model.norm_type=batch would count each batch twice"
            yield Fault("trainer.activation_checkpointing", "true", expected)
        if self.trainer.activation_checkpointing and self.attention.normalizer is Normalizer.reinforce:
            expected = "expected false: attention.normalizer=reinforce must remember what it chose"
            yield Fault("trainer.activation_checkpointing", "true", expected)
        if self.position.kind is not Position.rotary:
            return
        if self.attention.target is not None:
            expected = "expected null for position=rotary, which not every score can be used with"
            yield Fault("attention.target", self.attention.target, expected)
        elif not self.attention.score.supports_rotary:
            known = ", ".join(score.name for score in Score if score.supports_rotary)
            expected = f"expected one of {known} for position=rotary: other scores see more than the distance of a turn"
            yield Fault("attention.score", self.attention.score.name, expected)
        pairs = 4 if isinstance(model, VitConfig) else 2
        if model.head_widths[0] % pairs:
            axes = " of row and of column" if pairs == 4 else ""
            expected = f"expected heads whose width is a multiple of {pairs}: position=rotary turns pairs{axes}"
            yield Fault("model.num_heads", f"{model.num_heads} (of width {model.head_widths[0]})", expected)

    def _find_image_faults(self, images: ImagesConfig) -> Iterator[Fault]:
        if self.model.smallest_feature_map(images.image_size) != 1:
            return
        expected = (
            f"expected at least {{}}: batch norm has no variance of one image, and model={self.model.family} makes one "
            f"value a channel of data.image_size={images.image_size}"
        )
        ranks = self.trainer.devices * self.trainer.num_nodes
        if images.batch_size < 2 * ranks:
            yield Fault("data.batch_size", f"{images.batch_size}", expected.format(f"{2 * ranks}, two a device"))
        if self.trainer.micro_batch_size == 1:
            yield Fault("trainer.micro_batch_size", "1", expected.format("2"))

    def _find_vit_faults(self, images: ImagesConfig, vit: VitConfig) -> Iterator[Fault]:
        if images.image_size % vit.patch_size:
            expected = f"expected a divisor of data.image_size={images.image_size}"
            yield Fault("model.patch_size", f"{vit.patch_size}", expected)
        if self.position.kind is Position.sinusoidal and vit.d_model % 4:
            expected = "expected a multiple of 4: position=sinusoidal has a sine and a cosine of row and of column"
            yield Fault("model.d_model", f"{vit.d_model}", expected)


SCHEMAS: dict[str, dict[str, type]] = {
    "task": {"translation": TranslationConfig, "classification": ClassificationConfig},
    "data": {
        "multi30k": Multi30kConfig,
        "wmt14": Wmt14Config,
        "tatoeba": TatoebaConfig,
        "files": FilesConfig,
        "synthetic_translation": SyntheticTranslationConfig,
        "fashion_mnist": FashionMnistConfig,
        "synthetic_garments": SyntheticGarmentsConfig,
        "image_folder": ImageFolderConfig,
    },
    "model": {
        "transformer": TransformerConfig,
        "recurrent": RecurrentConfig,
        "vit": VitConfig,
        "resnet18": ResNet18Config,
        "cnn": CnnConfig,
        "mlp": MlpConfig,
    },
}


def _list_families(group: str, *bases: type) -> set[str]:
    return {name for name, node in SCHEMAS[group].items() if issubclass(node, bases)}


# Data and model families that fit each task.
COMPATIBLE_FAMILIES: dict[type[TaskConfig], dict[str, set[str]]] = {
    TranslationConfig: {
        "data": _list_families("data", ParallelTextConfig),
        "model": _list_families("model", TransformerConfig, RecurrentConfig),
    },
    ClassificationConfig: {
        "data": _list_families("data", ImagesConfig),
        "model": _list_families("model", VitConfig, ResNet18Config, CnnConfig, MlpConfig),
    },
}


def register_schema() -> None:
    """Register the schema with Hydra: the root as `schema`, families as `schema/<group>/<name>`.

    The options of the groups `attention` and `position` are the names of their enumerations, so that a new name needs
    no file.
    """
    store = ConfigStore.instance()
    store.store(name="schema", node=Config)
    for group, members in SCHEMAS.items():
        for name, node in members.items():
            store.store(group=f"schema/{group}", name=name, node=node)
    for score in Score:
        store.store(group="attention", name=score.name, node={"score": score.name})
    for position in Position:
        store.store(group="position", name=position.name, node={"kind": position.name})


def config_from_dict(values: dict[str, Any]) -> Config:
    """Build a Config from the plain data of `config_to_dict`, as a record or a checkpoint holds it.

    Args:
        values: nested plain data.

    Raises:
        ConfigError: a family or key is unknown to this version.
    """
    base = OmegaConf.structured(Config)
    for group, members in SCHEMAS.items():
        family = values[group]["family"]
        if family not in members:
            raise ConfigError([Fault(f"{group}.family", family, f"expected one of {', '.join(sorted(members))}")])
        base[group] = OmegaConf.structured(members[family])
    try:
        return validate_config(OmegaConf.merge(base, values))
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None) or "config"
        raise ConfigError([Fault(key, "as stored", str(error).splitlines()[0])]) from error


def validate_config(cfg: Any) -> Config:
    """Convert a composed config to its dataclass and check it.

    Args:
        cfg: Hydra's config, or a Config.

    Raises:
        ConfigError: with all faults.
    """
    config = OmegaConf.to_object(cfg) if OmegaConf.is_config(cfg) else cfg
    if not isinstance(config, Config):
        raise TypeError(f"expected a composed Config, got {type(config).__name__}")
    found = list(find_faults(config))
    if found:
        raise ConfigError(found)
    return config
