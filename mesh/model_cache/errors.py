"""What the model cache answers when it cannot give a model."""

from mesh.errors import MeshError


class CacheError(MeshError):
    """A call cannot have its model. The message is one sentence for the client; `cause` is for /status and logs."""

    def __init__(self, message: str, cause: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.cause = cause or message
        self.of_another = False
        """Whether it is the failure of another model, which this one needs."""

    def copy(self) -> "CacheError":
        """The same error as a new object: one object raised to many callers would pile up their tracebacks."""
        return type(self)(self.message, self.cause)

    def under(self, user: str, model: str) -> "CacheError":
        """What a call for `user` is told, which needs `model`, where this is the error of `model`.

        The same kind, but that the user is there, and broken, where a model that it needs is missing.
        """
        error = self.copy() if not isinstance(self, ModelMissing | BadName) else ModelBroken(self.message, self.cause)
        words = f"Model {user!a} needs model {model!a}: "
        error.message, error.cause = words + self.message, words + self.cause
        error.args = (error.message,)
        error.of_another = True
        return error


class BadName(CacheError):
    """The model name, version or label cannot be one (400)."""


class ModelMissing(CacheError):
    """No store holds that model, version or label (404)."""


class ModelBroken(CacheError):
    """The model does not load: the message carries the model server's own words (424)."""


class StoreAway(CacheError):
    """The store cannot be asked, refuses us, or does not answer (503). Only `cause` says why."""


class NoRoom(CacheError):
    """The model is larger than the node (507). The message says both sizes."""


class Busy(CacheError):
    """Nothing is wrong with the model, but this node cannot take it now: another replica may (503 with retry-after)."""

    def __init__(self, message: str, cause: str = "", retry_after: float = 1.0) -> None:
        super().__init__(message, cause)
        self.retry_after = retry_after
        """Seconds."""

    def copy(self) -> "Busy":
        """See CacheError."""
        return Busy(self.message, self.cause, self.retry_after)


class Refused(CacheError):
    """What an operator asks for contradicts what was asked before, as to unload a pinned model (409)."""
