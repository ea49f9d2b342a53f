"""Refusal: the base of every typed error of the house. What was expected and what came, said once for people and once for programs.

Raised in every room; `service/problems.py` and the command line turn any of them into an RFC 9457 problem. Imports nothing, so that the
command line can catch it without loading torch.
"""

from __future__ import annotations

from typing import ClassVar


class Refusal(Exception):
    """`detail` is one sentence for people; `expected` and `got` are its two halves for programs; `slug` ends the problem's type."""

    slug: ClassVar[str] = "refusal"
    title: ClassVar[str] = "The request was refused"

    def __init__(self, detail: str, *, expected: str, got: str) -> None:
        super().__init__(detail)
        self.detail = detail
        self.expected = expected
        self.got = got

    def __str__(self) -> str:
        return f"{self.detail} Expected {self.expected}; got {self.got}."
