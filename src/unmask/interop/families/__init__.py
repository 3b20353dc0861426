"""The families of checkpoints that can be read and written: one file and one line for each."""

from unmask.interop.families import bert, distilbert, electra, modernbert, roberta, xlm_roberta
from unmask.interop.family import Family

# In this order an encoder of our own looks for a family that its shape fits.
FAMILIES: dict[str, Family] = {
    "bert": bert.FAMILY,
    "modernbert": modernbert.FAMILY,
    "roberta": roberta.FAMILY,
    "xlm-roberta": xlm_roberta.FAMILY,
    "distilbert": distilbert.FAMILY,
    "electra": electra.FAMILY,
}
