"""`Settings`: a frozen, validated record of an object's hyper-parameters.

Planners, models and agents are `Settings`: their fields are what a preset may set, their methods are pure functions.
A setting therefore lives where it is used, is checked once when it is made, and can be hashed, so that compiled
functions may close over it.
"""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Base of everything configurable. Unknown fields and wrong types are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())
