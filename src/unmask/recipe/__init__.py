"""What a run is: `options` and `train` hold its types, `reading` reads and checks the file."""

from unmask.recipe.modalities import AudioOptions, Augmentation, Disturbance, ImageOptions
from unmask.recipe.options import (
    AdapterOptions,
    Cells,
    Column,
    EncoderOptions,
    Inputs,
    Mixture,
    NewTokenizer,
    Run,
    Source,
    TaskOptions,
    is_name,
)
from unmask.recipe.reading import Kinds, checked, json_schema, parse, read, run_model
from unmask.recipe.strict import Strict
from unmask.recipe.train import TrainOptions

__all__ = [
    "AdapterOptions",
    "AudioOptions",
    "Augmentation",
    "Cells",
    "Column",
    "Disturbance",
    "EncoderOptions",
    "ImageOptions",
    "Inputs",
    "Kinds",
    "Mixture",
    "NewTokenizer",
    "Run",
    "Source",
    "Strict",
    "TaskOptions",
    "TrainOptions",
    "checked",
    "is_name",
    "json_schema",
    "parse",
    "read",
    "run_model",
]
