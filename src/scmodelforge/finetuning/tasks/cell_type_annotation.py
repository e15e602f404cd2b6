"""Cell type annotation: a head names the type of each cell."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from scmodelforge.config.schema import FinetuneConfig
from scmodelforge.finetuning.base import HeadTask, register_task
from scmodelforge.models.fine_tuned_config import CellTypeHeadConfig

__all__ = ["CellTypeAnnotationTask"]


class CellTypeAnnotationConfig(FinetuneConfig):
    """Settings of cell type annotation. The types are those of ``data.label_column``."""

    head: CellTypeHeadConfig = Field(default_factory=CellTypeHeadConfig)
    """The head."""


@register_task("cell_type_annotation")
class CellTypeAnnotationTask(HeadTask):
    """Learns the types of ``data.label_column`` that training cells have."""

    config_class: ClassVar[type[FinetuneConfig]] = CellTypeAnnotationConfig
    benchmarks: ClassVar[tuple[str, ...]] = ("cell_type_annotation",)

    def head(self) -> CellTypeHeadConfig:
        """Return settings of the head."""
        assert isinstance(self.config, CellTypeAnnotationConfig)
        return self.config.head
