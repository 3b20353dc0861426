"""What the page says, in one place, so that another language can stand beside it."""

from __future__ import annotations

ENGLISH = {
    "language": "en",
    "title": "Scores of",
    "skip": "To the scores",
    "evaluated": "Evaluated",
    "rows_of": "Rows of",
    "own_recipe": "the bundle's own recipe",
    "precision": "Precision",
    "encoder": "Encoder",
    "shape": "{layers} layers, {width} wide, {weights:.1f} million weights with all heads",
    "started": "started from {source}",
    "scratch": "trained from nothing",
    "notes": "Read this first",
    "duplicates": "Rows that stand in the training rows too",
    "unknown": "not known",
    "first": "first: row {number}",
    "scores": "Scores",
    "scores_help": (
        "The interval is where 95 of 100 scores lie when as many rows are drawn again with "
        "replacement. It is about the chance of which rows were tested, and about nothing else. "
        "Bars run from 0 to 1."
    ),
    "bundles": "Bundles",
    "seed": "seed {seed}",
    "and_more": "and {more} more",
    "seeds_help": (
        "Means over {seeds} bundles, with the standard deviation over them: how far training with "
        "another seed moves the score. It says nothing of the chance of which rows were tested. "
        "Bars run from 0 to 1."
    ),
    "sd": "Standard deviation over seeds",
    "cube": "The cube",
    "cube_help": (
        "The headline score of each language and domain. The stronger the colour, the better, from "
        "the lowest score of the task to its highest. A dashed frame marks zero-shot cells: no row "
        "that the task was trained on had that language and domain. Cells of few rows say little."
    ),
    "whole_cube": "All tasks",
    "whole_cube_help": (
        "{measured} cells were measured, and {absent} have no rows. A line is a task on one domain "
        "and in one modality, a column a language. Colours are of each task by itself: they "
        "compare languages and domains, not tasks. Intervals and numbers of rows are below."
    ),
    "no_language": "none",
    "languages": "Language",
    "zero_shot": "zero-shot",
    "zero_shot_unknown": (
        "Which cells are zero-shot is not known: the training rows could not be read, or lack "
        "these tags."
    ),
    "absent": "no rows",
    "n_rows": "{rows:,} rows",
    "no_score": "no score",
    "untagged": "untagged",
    "every": "all",
    "twins": "Together and alone",
    "by_task": "What togetherness costs each task",
    "twins_help": (
        "Each task was trained alone, and all of them together, with these seeds; of several there "
        "are means with the standard deviation. A drop is said where it is larger than the "
        "deviation of the task alone. The difference has a 95 % interval, and p is the chance of "
        "one as large where there is none: rows and seeds are drawn again, the same for both."
    ),
    "seeds": "Seeds",
    "weights": "Weights",
    "sum_weights": "{together:.1f} million together, {alone:.1f} million in {models} models",
    "seconds": "Training, a seed",
    "sum_seconds": "{together:,.0f} s together, {alone:,.0f} s alone in all",
    "verdict": "Together",
    "alone": "Score alone",
    "together": "Score together",
    "difference": "Difference",
    "p": "p",
    "below": "worse by more than seed noise",
    "within": "worse, within seed noise",
    "no_drop": "no worse",
    "one_seed": "worse, of one seed",
    "metric": "Metric",
    "score": "Score",
    "interval": "95 % interval",
    "no_interval": "none: it does not vary",
    "rows": "Rows",
    "task": "Task",
    "by": "By language, domain and modality",
    "by_help": "A difference is worth a thought where the intervals do not meet.",
    "by_seeds_help": "A difference of less than a standard deviation may be that of the seeds.",
    "group": "Group",
    "all": "all rows",
    "confusion": "What is taken for what",
    "confusion_help": (
        "A row for each true label, a column for each answer; the stronger the colour, the larger "
        "the share of its row. Right answers lie on the diagonal."
    ),
    "too_many": "With {labels} labels only those most often taken for one another are listed.",
    "pairs": "Most often confused",
    "no_pairs": "No answer is wrong.",
    "truth": "Truth",
    "answer": "Answer",
    "of_truth": "Of its rows",
    "calibration": "Calibration",
    "calibration_help": (
        "Does a probability mean what it says? Answers by the probability that they were given: "
        "where it does, bars reach the diagonal. Below it the model is too sure, above it not sure "
        "enough. Pale bars stand on fewer than ten answers. Underneath, how many answers each has."
    ),
    "chance": (
        "The expected calibration error is {ece}. Were every probability right, so few answers "
        "would still show {mean}, and one time in twenty more than {high}."
    ),
    "by_mass": "In bins of equal numbers of answers it is {ece}.",
    "bins": "The figures of the diagram",
    "confidence": "Mean probability",
    "accuracy": "Share right",
    "doubt": "How sure, and how rightly",
    "sets": "Sets and intervals",
    "sets_help": (
        "What the model promised by {rows} validation rows, and what holds of these rows. Where it "
        "is right more often than it promised, each set is one label."
    ),
    "promised": "Promised",
    "kept": "Hold the truth",
    "size": "Mean size",
    "single": "Of size 1",
    "selective": "If it may withhold answers",
    "selective_help": (
        "The surest answers first: the share of errors among so many of them. The area under the "
        "curve is {aurc}; were all errors the least sure, it would be {least}."
    ),
    "at_most": "Errors at most",
    "answered": "Share answered",
    "errors": "Errors",
    "known": "Is it like what was learnt?",
    "known_help": (
        "By the score {score}, {share} of these rows are, and {kept} of the validation rows."
    ),
    "cells": "By language and domain",
    "worst": "Worst errors",
    "worst_help": (
        "The answers furthest from their truth, by minus the log-probability of the truth in nats."
    ),
    "find": "Text or label contains",
    "any_task": "All tasks",
    "any_truth": "All true labels",
    "shown": "{shown} of {listed} listed errors shown",
    "are_listed": "Listed:",
    "listed": "the worst {listed} of {answers:,} answers of {task}, {split}",
    "surprise": "Surprise",
    "text": "Text",
    "tags": "Tags",
    "longer": " … and {more} characters more",
    "no_worst": "None was asked for.",
    "made": "Made by unmask. This page loads nothing from anywhere.",
    "from": "from",
    "to": "to",
}

# What a metric says; those of the second list run from 0 to 1 and can be drawn as a bar.
METRICS = {
    "accuracy": "share of answers that are right",
    "f1_macro": "F1 of each label, averaged: rare labels count as much as frequent ones",
    "f1_micro": "F1 over all labels of all rows: frequent labels count more",
    "exact_match": "share of rows with every label right and none too many",
    "loss": "mean surprise in nats; lower is better",
    "roc_auc": "chance that a replaced token looks more suspicious than another; 0.5 is guessing",
    "generator_accuracy": "how often the generator itself was right",
    "ece": "expected calibration error; 0 is best",
    "brier": "squared distance of the probabilities from the truth, 0 to 2; lower is better",
    "cut": "share of rows that were cut to fit",
    "word_accuracy": "1 minus the word error rate, or 0 where that is below",
    "wer": "word error rate: wrong, missing and added words by those said; lower is better",
    "cer": "character error rate, likewise; lower is better",
    "explained": "share of the hidden values' variance that was guessed",
    "mae": "mean absolute error; lower is better",
    "recall_at_1": "how often what belongs to it is the nearest of all",
}
UNBOUNDED = ("loss", "brier", "wer", "cer", "mae")

# The columns of the table of languages and domains.
CELLS = {
    "rows": "Rows",
    "accuracy": "Accuracy",
    "ece": "ECE",
    "ece_by_chance": "ECE by chance, at most",
    "kept": "Hold the truth, of 0.9",
    "size": "Mean size",
    "known": "Like what was learnt",
}

CHECK = {
    "title": "Behaviour of",
    "how": (
        "Texts are changed and the answers compared. Invariance: the change means nothing, so the "
        "answer should stay. Direction: it should not move the other way. Minimum functionality: "
        "templates whose truth is beyond doubt."
    ),
    "test": "Test",
    "cases": "Cases",
    "failures": "Failures",
    "rate": "Share that fails (95 % interval)",
    "examples": "Examples of failures",
    "text": "Text",
    "changed": "Changed",
    "expected": "Expected",
    "answers": "Answers",
    "curves": "Typos against the score",
    "typos": "Typos in each text",
}
