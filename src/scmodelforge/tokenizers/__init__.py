"""Tokenizers: from cells to token sequences. Nothing here imports torch."""

from __future__ import annotations

from scmodelforge.tokenizers.base import BaseTokenizer
from scmodelforge.tokenizers.registry import get_tokenizer, list_tokenizers, register_tokenizer

__all__ = ["BaseTokenizer", "get_tokenizer", "list_tokenizers", "register_tokenizer"]
