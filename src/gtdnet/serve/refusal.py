"""A request that is not answered: its HTTP status, a word for programs, a sentence for people."""

from __future__ import annotations

from typing import Any


class Refusal(Exception):
    """Raised where it shows; the application makes it the answer.

    Attributes:
        status: of HTTP.
        code: a word that stays the same whatever the sentence says.
        sentence: what is wrong and what helps.
        retry_after: seconds after which it may go well, where that helps.
    """

    def __init__(
        self, status: int, code: str, sentence: str, retry_after: int | None = None
    ) -> None:
        super().__init__(sentence)
        self.status, self.code, self.sentence = status, code, sentence
        self.retry_after = retry_after

    def to_json(self) -> dict[str, Any]:
        """The body of the answer: ``error`` as KServe has it, and the word."""
        return {"error": self.sentence, "code": self.code}

    def headers(self) -> dict[str, str]:
        found = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        if self.status == 401:
            found["WWW-Authenticate"] = "Bearer"
        if self.code == "full":
            found["Connection"] = "close"
        return found


def too_large(megabytes: float) -> Refusal:
    return Refusal(
        413,
        "too_large",
        f"The video has more than {megabytes:g} MB; send a shorter or smaller one.",
    )


def too_slow_upload(seconds: float) -> Refusal:
    return Refusal(
        408,
        "slow_upload",
        f"The video did not arrive within {seconds:g} seconds; send a smaller one, or over a "
        f"faster connection.",
    )


def silent(seconds: float) -> Refusal:
    return Refusal(
        408, "slow_upload", f"Nothing of the video came for {seconds:g} seconds; send it again."
    )


def out_of_time(seconds: float) -> Refusal:
    return Refusal(
        504,
        "out_of_time",
        f"There was no answer within {seconds:g} seconds; send a shorter or smaller video.",
    )


def busy(seconds: int = 5) -> Refusal:
    return Refusal(
        503,
        "busy",
        f"The server has as many requests as it takes; try again in {seconds} seconds.",
        seconds,
    )


def full(seconds: int = 5) -> Refusal:
    return Refusal(
        503,
        "full",
        f"The server has as many connections as it takes; try again in {seconds} seconds.",
        seconds,
    )


def no_room() -> Refusal:
    return Refusal(
        507, "no_room", "The server's disk has no room for the video; try again in a minute.", 60
    )


def gone_away() -> Refusal:
    """Nobody reads this; the status is the one that nginx counts."""
    return Refusal(499, "gone", "Nobody waits for the answer.")


def ending() -> Refusal:
    return Refusal(
        503, "ending", "The server is ending; try again when it has been started anew.", 10
    )
