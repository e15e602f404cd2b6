"""Facts shared by every layer: special tokens and the ignored label."""

from __future__ import annotations

PAD_TOKEN = "<pad>"
UNK_TOKEN = "<unk>"
MASK_TOKEN = "<mask>"
CLS_TOKEN = "<cls>"
#: End of a cell, in vocabularies of published models.
EOS_TOKEN = "<eos>"

#: Special tokens of a vocabulary made by this package, in the order of their ids.
SPECIAL_TOKENS: tuple[str, ...] = (PAD_TOKEN, UNK_TOKEN, MASK_TOKEN, CLS_TOKEN)

#: Label of a position that takes no part in a loss.
IGNORE_INDEX = -100

#: Version of the model folder's layout, raised when older readers could misread it.
FORMAT_VERSION = 1
