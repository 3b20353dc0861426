"""How a run is trained: how long, how fast, how exact."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from unmask.recipe.strict import Strict

BUDGETS = ("epochs", "steps", "tokens", "minutes")

# Defaults of `train` where the encoder is new; docs/pretraining.md has what they were measured by.
FROM_NOTHING = {"optimiser": "muon", "learning_rate": 1.5e-3, "batch_tokens": 4096}


class TrainOptions(Strict):
    """The loop: how long, how fast, how exact."""

    epochs: float | None = Field(None, gt=0, description="passes over the rows (3 unless said)")
    steps: int | None = Field(None, gt=0, description="updates, in place of epochs")
    tokens: int | None = Field(None, gt=0, description="tokens, in place of epochs")
    minutes: float | None = Field(
        None, gt=0, description="minutes of the clock, evaluations included, in place of epochs"
    )
    optimiser: Literal["adamw", "stable_adamw", "muon"] = Field(
        "adamw",
        description="muon for matrices, with AdamW for the rest (unless said of a new encoder)",
    )
    learning_rate: float = Field(1e-4, gt=0, description="at its peak")
    head_learning_rate: float | None = Field(
        None, gt=0, description="for the tasks' heads (10 times learning_rate unless said)"
    )
    muon_learning_rate: float | None = Field(
        None, gt=0, description="for Muon's matrices (4 times learning_rate unless said)"
    )
    batch_tokens: int = Field(512, gt=0, description="tokens an update, of all processes together")
    microbatch_tokens: int = Field(
        8192, gt=0, description="tokens that a process computes at once; more accumulate"
    )
    frozen: bool = Field(
        False, description="learn heads and adapters only; the start's own tasks stay as they are"
    )
    layer_decay: float = Field(
        1.0, gt=0, le=1, description="learning rate of a layer over that of the layer above it"
    )
    warmup: float = Field(0.1, ge=0, le=1, description="share of the run with a rising rate")
    schedule: Literal["linear", "cosine", "constant", "wsd"] = Field(
        "linear", description="how the rate falls once it is at its peak; wsd holds, then falls"
    )
    decay: float = Field(0.2, gt=0, le=1, description="share of the run in which wsd's rate falls")
    batch_warmup: float = Field(
        0, ge=0, le=1, description="share of the run in which updates grow to batch_tokens"
    )
    length_warmup: float = Field(
        0, ge=0, le=1, description="share of the run in which windows of texts grow to all of them"
    )
    weight_decay: float = Field(0.01, ge=0, description="of matrices; biases and norms have none")
    clip: float = Field(1.0, gt=0, description="largest norm of the gradient")
    r_drop: float = Field(
        0, ge=0, description="weight of what two passes with other dropout disagree by"
    )
    adversarial: float = Field(
        0, ge=0, description="length of a shift of the embeddings that raises the loss most"
    )
    lost_task: Literal["stop", "leave"] = Field(
        "stop", description="where a task's loss stays not finite: end the run, or do without it"
    )
    conflicts: Literal["measure", "pcgrad", "agem"] | None = Field(
        None,
        description="where the tasks' gradients point against one another: note their cosines, or "
        "take out what is against another task (pcgrad) or against the others' sum (agem)",
    )
    pull: Literal["tokens", "even"] = Field(
        "tokens",
        description="how far each task moves the trunk: by its loss and its share of the tokens, "
        "or every task as far as its weight says (even)",
    )
    precision: Literal["bf16", "fp32"] = Field(
        "bf16", description="of products; weights and sums stay fp32"
    )
    simulate: Literal["int8"] | None = Field(
        None, description="learn as the trunk's int8 form computes, so that it loses less later"
    )
    evaluate_every: int | None = Field(
        None, gt=0, description="updates between evaluations (five times a run unless said)"
    )
    patience: int | None = Field(
        None, gt=0, description="evaluations without a better score after which a run ends"
    )
    save_every: int | None = Field(
        None, gt=0, description="updates between checkpoints (every ten minutes unless said)"
    )
    device: str = Field("auto", description="cpu, cuda, or auto")
    parallel: Literal["replicate", "shard"] = Field(
        "replicate", description="under torchrun: each process has all weights, or a part of each"
    )
    seed: int = Field(0, ge=0, description="of everything random")

    @model_validator(mode="after")
    def _one_budget(self) -> TrainOptions:
        given = [k for k in BUDGETS if getattr(self, k)]
        if len(given) > 1:
            raise ValueError(f"one budget at a time: {' and '.join(given)} are both set")
        return self

    @model_validator(mode="after")
    def _one_run(self) -> TrainOptions:
        if self.schedule == "wsd" and self.warmup + self.decay > 1:
            raise ValueError(
                f"warmup {self.warmup} and decay {self.decay} are shares of one run: "
                "together at most 1"
            )
        if self.simulate and (self.frozen or self.parallel == "shard"):
            other = "frozen" if self.frozen else "parallel: shard"
            raise ValueError(
                f"simulate and {other} do not go together: the trunk learns with {self.simulate}, "
                "and needs whole weights that may change"
            )
        return self

    @property
    def budget(self) -> tuple[Literal["epochs", "steps", "tokens", "minutes"], float]:
        """The unit of the budget and its size."""
        if self.steps:
            return "steps", self.steps
        if self.tokens:
            return "tokens", self.tokens
        if self.minutes:
            return "minutes", self.minutes
        return "epochs", self.epochs or 3.0
