"""The families of checkpoints that can be read and written: one file and one line for each."""

from unmask.encoder import EncoderConfig, HeadConfig
from unmask.interop.families import bert, distilbert, electra, modernbert, roberta, vit, xlm_roberta
from unmask.interop.family import Family

# In this order an encoder of our own looks for a family that its shape fits.
FAMILIES: dict[str, Family] = {
    "bert": bert.FAMILY,
    "modernbert": modernbert.FAMILY,
    "roberta": roberta.FAMILY,
    "xlm-roberta": xlm_roberta.FAMILY,
    "distilbert": distilbert.FAMILY,
    "electra": electra.FAMILY,
    "vit": vit.FAMILY,
}


_AS = {"regress": "classify", "rerank": "classify"}  # of one label (num_labels: 1)


def usual_head(kind: str, config: EncoderConfig) -> HeadConfig:
    """The head that a kind of task has in the first family this shape fits: it can be exported.

    Where that family can say so, vectors are pooled by their mean, which learns faster than [CLS].
    """
    kind = _AS.get(kind, kind)
    # Adapters are merged before anything is exported, and no family reads pictures beside text.
    config = config.model_copy(update={"adapters": {}, "image": None, "audio": None})
    for family in FAMILIES.values():
        if kind in family.heads and not family.misfits(config):
            raw = family.write_config(config)
            head = family.read_head(kind, raw)
            if head.pooling == "cls":
                mean = head.model_copy(update={"pooling": "mean"})
                return family.read_head(kind, {**raw, **family.write_head(kind, mean)})
            return head
    return HeadConfig(pooling="mean" if kind == "classify" else "none")
