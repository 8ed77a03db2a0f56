"""Configuration to components, a corpus to an index, and an index to a pipeline."""

from odqa.build.budgets import Alternative, Budget, Choice, fit
from odqa.build.components import (
    create_encoder,
    create_fusion,
    create_polar,
    create_reader,
    create_reranker,
    create_tokenizer,
    open_pipeline,
    open_retriever,
)
from odqa.build.indexing import Progress, build_index
from odqa.build.planning import BuildPlan, plan_build
from odqa.build.repair import repair_index
from odqa.build.updating import Changes, update_index
from odqa.build.verify import IndexReport, verify_index

__all__ = [
    "Alternative",
    "Budget",
    "BuildPlan",
    "Changes",
    "Choice",
    "IndexReport",
    "Progress",
    "build_index",
    "create_encoder",
    "create_fusion",
    "create_polar",
    "create_reader",
    "create_reranker",
    "create_tokenizer",
    "fit",
    "open_pipeline",
    "open_retriever",
    "plan_build",
    "repair_index",
    "update_index",
    "verify_index",
]
