"""gRPC names in Envoy: the model of a call in one header (NAMED_HEADER), wherever the call itself says it.

Two filters before the map of known calls. What MODEL_HEADER says is copied; for a call without it the first waits
until its one message is here, and the second reads the first bytes of it, and tells what they name, only where the
server, reading the same bytes, would find that name and nothing beyond it. Of everything else it says nothing, and no
call fails by it: a version, a label, a name that a path could not hold as it is, a message that is packed, cut off,
malformed, or none at all are the server's.

A third filter, behind the map: nodes with the node role are told the model of a known call in MODEL_HEADER, as the
server tells them (docs/decisions/057).

Why a script and not Envoy's grpc_field_extraction: docs/decisions/121. What it reads and what not: 122.
"""

from envoy_data_plane.envoy.config.core.v3 import DataSource, TypedExtensionConfig
from envoy_data_plane.envoy.extensions.filters.http.buffer.v3 import Buffer
from envoy_data_plane.envoy.extensions.filters.http.lua.v3 import Lua
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter

from ext_proc.contract import (
    BEYOND_THE_NAME,
    MODEL_HEADER,
    MODEL_KEY,
    NAMED_HEADER,
    SEGMENT_SAFE,
    TELL_KEY,
    TELL_NAMESPACE,
)
from ext_proc.envoy_config.parts.headers import written
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
from mesh.names import MAX_NAME

# Inference calls of one message that names its model. MultiInference is none: it names one for each of its tasks.
METHODS = (
    "/tensorflow.serving.PredictionService/Predict",
    "/tensorflow.serving.PredictionService/Classify",
    "/tensorflow.serving.PredictionService/Regress",
    "/inference.GRPCInferenceService/ModelInfer",
)

# Bytes of a message that are read. A name has 255 at most, and stands first in what every protobuf library writes.
READ_BYTES = 512

# A name in MODEL_HEADER, without version and label: 255 bytes, each of which may be %XX.
_ONE_NAME = "[^/]{1,765}"

# Characters that need no escape: the header says a name as `ext_proc.wire.naming.write_model` does. A pattern of Lua's.
_PLAIN = "[%w%-._~" + "".join("%" + character for character in SEGMENT_SAFE) + "]"

_SCRIPT = f"""\
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

-- The name in a ModelSpec, where it says nothing else but a signature.
local function of_spec(bytes, at, stop)
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

-- `bytes` begin with the five of the frame; `here` is behind those that are here, `last` behind the message.
local function named(path, bytes, here, last)
  if byte(bytes, 6) ~= NAME then return nil end
  local from, after = content(bytes, 7, here, here)
  if not from then return nil end
  if sub(path, 1, 12) == "/tensorflow." then return of_spec(bytes, from, after) end
  -- The version may come behind the name: only another field, or the end, says that there is none.
  if after < last then
    if after >= here or not V2_NEXT[byte(bytes, after)] then return nil end
    if not content(bytes, after + 1, here, last) then return nil end
  end
  return sub(bytes, from, after - 1)
end

function envoy_on_request(handle)
  local body, headers = handle:body(), handle:headers()
  headers:remove("{NAMED_HEADER}")
  headers:remove("content-length")  -- where the message was waited for, Envoy has added it
  if not body then return end
  local size = body:length()
  if size < 8 then return end
  local bytes = body:getBytes(0, min(size, 5 + {READ_BYTES}))
  local packed, a, b, c, d = byte(bytes, 1, 5)
  if packed ~= 0 or a * 16777216 + b * 65536 + c * 256 + d ~= size - 5 then return end
  local name = named(headers:get(":path"), bytes, #bytes + 1, size + 1)
  if not name or #name > {MAX_NAME} or name == "." or name == ".." then return end
  if find(name, "^{_PLAIN}+$") then
    headers:replace("{NAMED_HEADER}", name)
    handle:streamInfo():dynamicMetadata():set("{TELL_NAMESPACE}", "{MODEL_KEY}", name)
  end
end
"""


_WHOLE_MESSAGE, _GRPC_NAME, _TOLD = "tbms-whole-message", "tbms-grpc-name", "tbms-told"

FOR_GRPC = (_WHOLE_MESSAGE, _GRPC_NAME, _TOLD)
"""The names of the filters: of no use on a route that no gRPC call takes, where each would cost 8 us of CPU."""


def grpc_name_filters(message_bytes: int) -> list[HttpFilter]:
    """The two filters before those that read NAMED_HEADER.

    Calls that say something beyond the name of their model are the server's in any case, and are left alone. A message
    of more than `message_bytes` is refused by Envoy (UNKNOWN, Payload Too Large).
    """
    unnamed = _unnamed()
    buffer = extension("envoy.filters.http.buffer", Buffer(max_request_bytes=message_bytes))
    script = extension("envoy.filters.http.lua", Lua(default_source_code=DataSource(inline_string=_SCRIPT)))
    named = all_of(matches(MODEL_HEADER, _ONE_NAME), is_grpc())
    choices = [
        (named, execute("from-header", _copied(MODEL_HEADER, NAMED_HEADER))),
        (unnamed, execute("from-message", script)),
    ]
    return [when(_WHOLE_MESSAGE, unnamed, buffer), chosen(_GRPC_NAME, choices, None)]


def told_filter() -> HttpFilter:
    """The filter behind the map of known calls."""
    to_tell = all_of(has_metadata(TELL_NAMESPACE, TELL_KEY), none_of(present(MODEL_HEADER)))
    return when(_TOLD, to_tell, _copied(NAMED_HEADER, MODEL_HEADER))


def _unnamed() -> Predicate:
    """Calls of METHODS, of which the headers say neither their model nor anything else that makes them the server's."""
    said = (MODEL_HEADER, *BEYOND_THE_NAME, "grpc-encoding")  # a packed message has to be unpacked
    methods = any_of(*[equals(":path", path) for path in METHODS])
    return all_of(methods, equals(":method", "POST"), is_grpc(), none_of(any_of(*[present(name) for name in said])))


def _copied(source: str, to: str) -> TypedExtensionConfig:
    """A filter that makes a request header say what another one says."""
    return written({to: f"%REQ({source})%"})
