"""gRPC names in Envoy: the model of a call in one header (NAMED_HEADER), wherever the call itself says it.

Filters before the map of known calls. What MODEL_HEADER says is copied; for a call without it one filter waits until
its one message is here, and the next reads the first bytes of it, and tells what they name, only where the server,
reading the same bytes, would find that name and nothing beyond it. Of everything else they say nothing, and no call
fails by them: a version, a label, a name that a path could not hold as it is, a message that is packed, cut off,
malformed, or none at all are the server's. So are calls whose headers say more than a name: the map takes the header
for a call that it may know.

Nodes with the node role are told the model of a known call in MODEL_HEADER, as the server tells them
(docs/decisions/057).

Which calls these are for the routes tell where they are ours (`routed_name_filters`, and the routes of
`ext_proc.envoy_config.bootstrap.grpc_name_routes`), in a mesh matchers in front of each filter (`grpc_name_filters`,
and `told_filter` behind the map), which costs more: docs/decisions/165.

Why a script and not Envoy's grpc_field_extraction: docs/decisions/121. What it reads and what not: 122.
"""

from collections.abc import Sequence
from dataclasses import replace

from envoy_data_plane.envoy.config.core.v3 import DataSource, TypedExtensionConfig
from envoy_data_plane.envoy.config.route.v3 import Route
from envoy_data_plane.envoy.extensions.filters.http.buffer.v3 import Buffer, BufferPerRoute
from envoy_data_plane.envoy.extensions.filters.http.header_mutation.v3 import HeaderMutationPerRoute
from envoy_data_plane.envoy.extensions.filters.http.lua.v3 import Lua, LuaPerRoute
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.google.protobuf import Any

from ext_proc.contract import (
    BEYOND_THE_NAME,
    KNOWN_METHODS,
    KNOWN_NAMESPACE,
    MODEL_HEADER,
    NAMED_HEADER,
    NAMING_METHODS,
    SEGMENT_SAFE,
    TELL_KEY,
)
from ext_proc.envoy_config.parts.headers import writes, written
from ext_proc.envoy_config.parts.matching import (
    Predicate,
    all_of,
    any_of,
    chosen,
    equals,
    execute,
    has_metadata,
    is_grpc,
    matches,
    none_of,
    present,
    when,
)
from ext_proc.envoy_config.parts.text import extension
from ext_proc.envoy_config.parts.versions import limits_by_route
from mesh.names import MAX_NAME

# Bytes of a message that are read. A name has 255 at most, and stands first in what every protobuf library writes.
READ_BYTES = 512

# A name in MODEL_HEADER, without version and label: 255 bytes, each of which may be %XX.
_ONE_NAME = "[^/]{1,765}"

# Characters that need no escape: the header says a name as `ext_proc.wire.naming.write_model` does. A pattern of Lua's.
_PLAIN = "[%w%-._~" + "".join("%" + character for character in SEGMENT_SAFE) + "]"

_READING = f"""\
-- The model that a gRPC call names in its message, as a header, where that is all that it says of its model.
local byte, sub, find, min = string.byte, string.sub, string.find, math.min
local NAME, SIGNATURE = 10, 26  -- tags of length-delimited fields 1 and 3
local V2_NEXT = {{ [26] = true, [34] = true, [42] = true, [50] = true, [58] = true }}  -- and of fields 3 to 7

-- Where the content of a length-delimited field begins, and where it has ended. Its length stands at `at`, before
-- `here`, and the content ends before `last`. Nothing where that is not so.
local function content(bytes, at, here, last)
  local size, scale = 0, 1
  for place = at, min(at + 4, here - 1) do
    local digit = byte(bytes, place)
    if digit < 128 then
      local from = place + 1
      local after = from + size + digit * scale
      if after <= last then return from, after end
      return nil
    end
    size, scale = size + (digit - 128) * scale, scale * 128
  end
end

-- The name in a message of TF Serving's, whose ModelSpec says nothing else but a signature. The messages of both kinds
-- begin with their field 1, whose length stands at 7; `here` is behind the bytes that are here, `last` behind all.
local function of_spec(bytes, here, last)
  local at, stop = content(bytes, 7, here, here)
  if not at then return nil end
  local name
  while at < stop do
    local tag = byte(bytes, at)
    local from, after = content(bytes, at + 1, stop, stop)
    if not from then return nil end
    if tag == NAME and not name then
      name = sub(bytes, from, after - 1)
    elseif tag ~= SIGNATURE or find(sub(bytes, from, after - 1), "[\\128-\\255]") then
      return nil
    end
    at = after
  end
  return name
end

-- The name in a message of V2's. The version may come behind it: only another field, or the end, says that there is
-- none.
local function of_name(bytes, here, last)
  local from, after = content(bytes, 7, here, here)
  if not from then return nil end
  if after < last then
    if after >= here or not V2_NEXT[byte(bytes, after)] then return nil end
    if not content(bytes, after + 1, here, last) then return nil end
  end
  return sub(bytes, from, after - 1)
end

-- `named` is one of these two. The header is not there yet: a client's own has been removed.
local function tell(handle, body, named)
  if not body then return end
  local size = body:length()
  if size < 8 then return end
  local bytes = body:getBytes(0, min(size, 5 + {READ_BYTES}))
  local packed, a, b, c, d, tag = byte(bytes, 1, 6)
  if packed ~= 0 or a * 16777216 + b * 65536 + c * 256 + d ~= size - 5 or tag ~= NAME then return end
  local name = named(bytes, #bytes + 1, size + 1)
  if not name or #name > {MAX_NAME} or name == "." or name == ".." then return end
  if find(name, "^{_PLAIN}+$") then handle:headers():add("{NAMED_HEADER}", name) end
end
"""


def _script(on_request: str) -> DataSource:
    return DataSource(inline_string=f"{_READING}\nfunction envoy_on_request(handle)\n{on_request}end\n")


# Each word that a script has with Envoy costs about as much as all that it computes: docs/decisions/173.
_OF_SPEC, _OF_NAME, _OF_EITHER = "model-spec", "model-name", "either"
_SCRIPTS = {
    _OF_SPEC: _script("  tell(handle, handle:body(), of_spec)\n"),
    _OF_NAME: _script("  tell(handle, handle:body(), of_name)\n"),
}
_BEHIND_BUFFER = _script("""\
  local body, headers = handle:body(), handle:headers()
  headers:remove("content-length")  -- the filter that has waited for the message has added it
  tell(handle, body, sub(headers:get(":path"), 1, 12) == "/tensorflow." and of_spec or of_name)
""")


WHOLE_MESSAGE, IN_MESSAGE, IN_HEADER = "tbms-whole-message", "tbms-grpc-name", "tbms-grpc-name-in-header"
"""The names of the filters, by which routes have them stand."""


def routed_name_filters(version: str) -> list[HttpFilter]:
    """The filters before the map. None stands but for the calls of a route that says so: `from_message`, `from_header`.

    Also a call that no route takes passes none of them: it may have a body that never ends.
    """
    filters = {IN_MESSAGE: _lua(Lua(source_codes=_SCRIPTS)), IN_HEADER: written({})}
    if not limits_by_route(version):
        # A limit of none at all is refused; a route says how many.
        scripts = {_OF_EITHER: _BEHIND_BUFFER}
        filters = {WHOLE_MESSAGE: _whole_message(1), **filters, IN_MESSAGE: _lua(Lua(source_codes=scripts))}
    return [HttpFilter(name=name, typed_config=each.typed_config, disabled=True) for name, each in filters.items()]


def from_message(route: Route, method: str, message_bytes: int, version: str) -> Route:
    """The route for calls of this one of NAMING_METHODS that name their model in their one message.

    A message of more than `message_bytes` is refused by Envoy (UNKNOWN, Payload Too Large).
    """
    if limits_by_route(version):
        script = _OF_SPEC if method.startswith("/tensorflow.") else _OF_NAME
        filters = {IN_MESSAGE: Any.pack(LuaPerRoute(name=script))}
        return replace(route, typed_per_filter_config=filters, request_body_buffer_limit=message_bytes)
    filters = {
        WHOLE_MESSAGE: Any.pack(BufferPerRoute(buffer=Buffer(max_request_bytes=message_bytes))),
        IN_MESSAGE: Any.pack(LuaPerRoute(name=_OF_EITHER)),
    }
    return replace(route, typed_per_filter_config=filters)


def from_header() -> dict[str, Any]:
    """What a route says (`typed_per_filter_config`) whose calls name their model in MODEL_HEADER."""
    return {IN_HEADER: Any.pack(HeaderMutationPerRoute(mutations=writes(_copy(MODEL_HEADER, NAMED_HEADER))))}


def grpc_name_filters(message_bytes: int) -> list[HttpFilter]:
    """Two filters that find the calls which they are for by themselves: where routes are not ours.

    A message of more than `message_bytes` is refused by Envoy (UNKNOWN, Payload Too Large).
    """
    unnamed = _unnamed()
    script = _lua(Lua(default_source_code=_BEHIND_BUFFER))
    choices = [
        (_named(), execute("from-header", _copied(MODEL_HEADER, NAMED_HEADER))),
        (unnamed, execute("from-message", script)),
    ]
    return [when(WHOLE_MESSAGE, unnamed, _whole_message(message_bytes)), chosen(IN_MESSAGE, choices, None)]


def told_filter() -> HttpFilter:
    """The filter behind the map of known calls, where routes are not ours."""
    to_tell = all_of(has_metadata(KNOWN_NAMESPACE, TELL_KEY), none_of(present(MODEL_HEADER)))
    return when("tbms-told", to_tell, _copied(NAMED_HEADER, MODEL_HEADER))


def _lua(config: Lua) -> TypedExtensionConfig:
    # No route is chosen by what the script writes.
    return extension("envoy.filters.http.lua", replace(config, clear_route_cache=False))


def _whole_message(most_bytes: int) -> TypedExtensionConfig:
    return extension("envoy.filters.http.buffer", Buffer(max_request_bytes=most_bytes))


def _unnamed() -> Predicate:
    """Calls of NAMING_METHODS whose headers say neither their model nor anything else that makes them the server's."""
    # A packed message has to be unpacked.
    return all_of(_only_the_name(NAMING_METHODS), none_of(any_of(present(MODEL_HEADER), present("grpc-encoding"))))


def _named() -> Predicate:
    """Calls whose headers say their model, and nothing else that makes them the server's."""
    return all_of(matches(MODEL_HEADER, _ONE_NAME), _only_the_name(KNOWN_METHODS))


def _only_the_name(methods: Sequence[str]) -> Predicate:
    method = any_of(*[equals(":path", path) for path in methods])
    said = any_of(*[present(name) for name in BEYOND_THE_NAME])
    return all_of(method, equals(":method", "POST"), is_grpc(), none_of(said))


def _copied(source: str, to: str) -> TypedExtensionConfig:
    """A filter that makes a request header say what another one says."""
    return written(_copy(source, to))


def _copy(source: str, to: str) -> dict[str, str]:
    return {to: f"%REQ({source})%"}
