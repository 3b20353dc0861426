"""XLM-RoBERTa (arXiv:1911.02116): RoBERTa in 100 languages, with all of its names."""

from dataclasses import replace

from unmask.interop.families import roberta

FAMILY = replace(roberta.FAMILY, name="xlm-roberta", classes="XLMRoberta")
