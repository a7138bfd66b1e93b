from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Block(_message.Message):
    __slots__ = ("begin_us", "models", "plans", "nodes", "fleet", "loads", "at_us", "kind", "model", "node", "plan", "weight", "took_us", "limit_us", "rank", "size")
    BEGIN_US_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    PLANS_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    FLEET_FIELD_NUMBER: _ClassVar[int]
    LOADS_FIELD_NUMBER: _ClassVar[int]
    AT_US_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    TOOK_US_FIELD_NUMBER: _ClassVar[int]
    LIMIT_US_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    begin_us: int
    models: _containers.RepeatedScalarFieldContainer[str]
    plans: _containers.RepeatedCompositeFieldContainer[Plan]
    nodes: _containers.RepeatedScalarFieldContainer[str]
    fleet: Fleet
    loads: _containers.RepeatedCompositeFieldContainer[Load]
    at_us: _containers.RepeatedScalarFieldContainer[int]
    kind: _containers.RepeatedScalarFieldContainer[int]
    model: _containers.RepeatedScalarFieldContainer[int]
    node: _containers.RepeatedScalarFieldContainer[int]
    plan: _containers.RepeatedScalarFieldContainer[int]
    weight: _containers.RepeatedScalarFieldContainer[int]
    took_us: _containers.RepeatedScalarFieldContainer[int]
    limit_us: _containers.RepeatedScalarFieldContainer[int]
    rank: _containers.RepeatedScalarFieldContainer[int]
    size: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, begin_us: _Optional[int] = ..., models: _Optional[_Iterable[str]] = ..., plans: _Optional[_Iterable[_Union[Plan, _Mapping]]] = ..., nodes: _Optional[_Iterable[str]] = ..., fleet: _Optional[_Union[Fleet, _Mapping]] = ..., loads: _Optional[_Iterable[_Union[Load, _Mapping]]] = ..., at_us: _Optional[_Iterable[int]] = ..., kind: _Optional[_Iterable[int]] = ..., model: _Optional[_Iterable[int]] = ..., node: _Optional[_Iterable[int]] = ..., plan: _Optional[_Iterable[int]] = ..., weight: _Optional[_Iterable[int]] = ..., took_us: _Optional[_Iterable[int]] = ..., limit_us: _Optional[_Iterable[int]] = ..., rank: _Optional[_Iterable[int]] = ..., size: _Optional[_Iterable[int]] = ...) -> None: ...

class Candidate(_message.Message):
    __slots__ = ("model", "version", "label", "estimate_ms", "weight")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    ESTIMATE_MS_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    label: str
    estimate_ms: float
    weight: float
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., label: _Optional[str] = ..., estimate_ms: _Optional[float] = ..., weight: _Optional[float] = ...) -> None: ...

class Rank(_message.Message):
    __slots__ = ("mix", "candidates")
    MIX_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    mix: str
    candidates: _containers.RepeatedCompositeFieldContainer[Candidate]
    def __init__(self, mix: _Optional[str] = ..., candidates: _Optional[_Iterable[_Union[Candidate, _Mapping]]] = ...) -> None: ...

class Plan(_message.Message):
    __slots__ = ("model", "ranks", "answer", "cross_request", "cross_lag_ms", "priority", "races", "fallback")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    RANKS_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    CROSS_REQUEST_FIELD_NUMBER: _ClassVar[int]
    CROSS_LAG_MS_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    RACES_FIELD_NUMBER: _ClassVar[int]
    FALLBACK_FIELD_NUMBER: _ClassVar[int]
    model: str
    ranks: _containers.RepeatedCompositeFieldContainer[Rank]
    answer: str
    cross_request: bool
    cross_lag_ms: float
    priority: int
    races: bool
    fallback: bool
    def __init__(self, model: _Optional[str] = ..., ranks: _Optional[_Iterable[_Union[Rank, _Mapping]]] = ..., answer: _Optional[str] = ..., cross_request: bool = ..., cross_lag_ms: _Optional[float] = ..., priority: _Optional[int] = ..., races: bool = ..., fallback: bool = ...) -> None: ...

class Load(_message.Message):
    __slots__ = ("model", "seconds")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    model: int
    seconds: float
    def __init__(self, model: _Optional[int] = ..., seconds: _Optional[float] = ...) -> None: ...

class Node(_message.Message):
    __slots__ = ("id", "zone", "weight", "grpc", "rest", "tells", "slots", "held")
    ID_FIELD_NUMBER: _ClassVar[int]
    ZONE_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    GRPC_FIELD_NUMBER: _ClassVar[int]
    REST_FIELD_NUMBER: _ClassVar[int]
    TELLS_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    id: str
    zone: str
    weight: float
    grpc: bool
    rest: bool
    tells: bool
    slots: int
    held: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, id: _Optional[str] = ..., zone: _Optional[str] = ..., weight: _Optional[float] = ..., grpc: bool = ..., rest: bool = ..., tells: bool = ..., slots: _Optional[int] = ..., held: _Optional[_Iterable[int]] = ...) -> None: ...

class Fleet(_message.Message):
    __slots__ = ("nodes", "settings")
    NODES_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    nodes: _containers.RepeatedCompositeFieldContainer[Node]
    settings: str
    def __init__(self, nodes: _Optional[_Iterable[_Union[Node, _Mapping]]] = ..., settings: _Optional[str] = ...) -> None: ...
