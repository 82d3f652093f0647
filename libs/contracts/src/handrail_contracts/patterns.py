"""What the patterns of our models mean, in words: nobody who gets a problem has to read a regular expression."""

from __future__ import annotations

from handrail_contracts.ids import AGENT_NAME

WORDS: dict[str, str] = {
    AGENT_NAME: "1 to 64 of A-Z a-z 0-9 _ -",
    r"^[A-Za-z0-9_.-]+$": "only A-Z a-z 0-9 _ . -",
    r"^[^\s/\x00-\x1f\x7f]+$": "a text without blanks, slashes and control characters",
    r"^[A-Z][A-Z0-9_]{0,63}$": "1 to 64 of A-Z 0-9 _, a letter first",
    r"^[a-z0-9][a-z0-9-]{0,62}$": "1 to 63 of a-z 0-9 -, a letter or digit first",
    r"^[a-z0-9][a-z0-9._-]{0,63}$": "1 to 64 of a-z 0-9 . _ -, a letter or digit first",
    r"^[\s\S]{1,256}:[\s\S]{0,256}$": "a label as key:value",
    r"\S": "a text that is not blank",
}
