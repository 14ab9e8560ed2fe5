"""The form of passwords: their length, and one spelling of each."""

from __future__ import annotations

import unicodedata
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr
from pydantic_core import PydanticCustomError

LEAST_PASSWORD_BYTES = 8
MOST_PASSWORD_BYTES = 1_024


def password_bytes(text: str) -> bytes | None:
    """Return the bytes that are hashed: UTF-8 in the normal form C, which keyboards differ in (RFC 8265, 4.2).

    None if the text is no Unicode.
    """
    try:
        return unicodedata.normalize("NFC", text).encode()
    except UnicodeEncodeError:
        return None


def _is_usable(value: SecretStr) -> SecretStr:
    """Refuse a password that is too short or too long. The text of the error has nothing of it."""
    content = password_bytes(value.get_secret_value())
    if content is None:
        raise PydanticCustomError("bad_password", "it is not valid Unicode")
    if len(content) < LEAST_PASSWORD_BYTES:
        raise PydanticCustomError(
            "bad_password", "it must have at least {least} bytes", {"least": LEAST_PASSWORD_BYTES}
        )
    if len(content) > MOST_PASSWORD_BYTES:
        raise PydanticCustomError("bad_password", "it may have at most {most} bytes", {"most": MOST_PASSWORD_BYTES})
    return value


NewPassword = Annotated[
    SecretStr,
    Field(max_length=MOST_PASSWORD_BYTES, json_schema_extra={"minLength": 2}),
    AfterValidator(_is_usable),
]
"""A password that somebody chooses: 8 to 1,024 bytes of UTF-8, of any characters."""
GivenPassword = Annotated[SecretStr, Field(max_length=MOST_PASSWORD_BYTES)]
"""A password that is to be compared: any text."""
