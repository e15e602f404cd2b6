"""The token that the hub knows its user by: one that can be sent, and that never stands in what a user reads."""

from __future__ import annotations

from scmodelforge._errors import ConfigError

__all__ = ["LOG_IN", "require_token", "require_token_to_write", "without_token"]

LOG_IN = "log in with 'hf auth login', or set HF_TOKEN"


def require_token(token: str | bool | None) -> None:
    """Refuse a token that cannot be sent, or one that is asked for and not there.

    Raises
    ------
    ConfigError
        If it is such a one; the message does not have it.
    """
    sent = _sent(token)
    if sent is None:
        if token is True:
            msg = f"token is True, and there is no token on this machine; {LOG_IN}."
            raise ConfigError(msg)
        return
    if not sent or not sent.isascii() or not sent.isprintable() or " " in sent:
        msg = f"the token for the hub is empty or has characters that no token has, such as a space; {LOG_IN} anew."
        raise ConfigError(msg)


def require_token_to_write(token: str | bool | None) -> None:
    """Refuse to write without a token.

    Raises
    ------
    ConfigError
        If there is none, or as of :func:`require_token`.
    """
    require_token(token)
    if _sent(token) is None:
        msg = f"nothing can be pushed without a token of the hub that may write; {LOG_IN}."
        raise ConfigError(msg)


def without_token(text: str, token: str | bool | None) -> str:
    """Return a text with ``***`` in place of the token, wherever the hub or its client repeat it."""
    sent = _sent(token)
    return text.replace(sent, "***") if sent else text


def _sent(token: str | bool | None) -> str | None:
    """Return the token that the hub's client sends; ``None`` if it sends none."""
    from huggingface_hub import get_token

    if isinstance(token, str):
        return token
    return None if token is False else get_token()
