"""What can go wrong with a request, named once, so that every protocol answers the same failure the same way.

Each class knows its HTTP status and the name of the gRPC status; none knows a web framework. Texts go to clients:
they name the tensor and what was expected, never a path or a traceback.

    ServingError                    500  INTERNAL
    ├── InvalidInputError           400  INVALID_ARGUMENT    the client's values are wrong
    ├── NotFoundError               404  NOT_FOUND           another model, version or path
    ├── TooLargeError               413  RESOURCE_EXHAUSTED  the body or the batch is over a limit
    ├── UnsupportedMediaError       415  INVALID_ARGUMENT    a content type or encoding nobody reads here
    ├── OverloadedError             429  RESOURCE_EXHAUSTED  no room, or no hope to answer in time
    ├── CancelledError              499  CANCELLED           the client went away
    ├── UnavailableError            503  UNAVAILABLE         loading or draining
    ├── DeadlineExceededError       504  DEADLINE_EXCEEDED   expired in the queue or in the model
    └── ModelFailedError            500  INTERNAL            the model raised, or answered with what is no answer
        └── BadOutputError          500  INTERNAL            NaN, infinite, empty or misshapen outputs
"""

from __future__ import annotations

from typing import ClassVar, Final

MAX_TEXT: Final = 1000
"""Characters of an error: texts repeat what a client sent, and in gRPC they travel in a header, which has limits."""


class ServingError(Exception):
    """A request that gets no prediction. `str(error)` is the text the client reads."""

    status: ClassVar[int] = 500
    grpc_status: ClassVar[str] = "INTERNAL"
    reason: ClassVar[str] = "internal"
    """Label of the metric that counts it."""

    def __init__(self, message: str) -> None:
        super().__init__(message if len(message) <= MAX_TEXT else message[:MAX_TEXT] + "...")


class InvalidInputError(ServingError):
    """The request contradicts the model's signature or the protocol."""

    status = 400
    grpc_status = "INVALID_ARGUMENT"
    reason = "invalid_input"


class NotFoundError(ServingError):
    """The model, version or path is not served here."""

    status = 404
    grpc_status = "NOT_FOUND"
    reason = "not_found"


class TooLargeError(ServingError):
    """A limit on bytes or rows was passed; the text says which."""

    status = 413
    grpc_status = "RESOURCE_EXHAUSTED"
    reason = "too_large"


class UnsupportedMediaError(ServingError):
    """Content type or encoding is not understood."""

    status = 415
    grpc_status = "INVALID_ARGUMENT"
    reason = "unsupported_media"


class OverloadedError(ServingError):
    """Refused for load; `retry_after` seconds from now there is probably room."""

    status = 429
    grpc_status = "RESOURCE_EXHAUSTED"
    reason = "overloaded"

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class CancelledError(ServingError):
    """The client closed its connection before it had an answer."""

    status = 499
    grpc_status = "CANCELLED"
    reason = "cancelled"


class UnavailableError(ServingError):
    """The process is loading its model or draining; another host can answer."""

    status = 503
    grpc_status = "UNAVAILABLE"
    reason = "unavailable"

    def __init__(self, message: str, *, elsewhere: bool = False) -> None:
        super().__init__(message)
        self.elsewhere = elsewhere


class DeadlineExceededError(ServingError):
    """Time ran out before the model was asked or while it computed."""

    status = 504
    grpc_status = "DEADLINE_EXCEEDED"
    reason = "deadline_exceeded"


class ModelFailedError(ServingError):
    """The model raised on this request's rows."""

    reason = "model_failed"


class BadOutputError(ModelFailedError):
    """The model answered with NaN, infinity, nothing, or another shape than it declares."""

    reason = "bad_output"
