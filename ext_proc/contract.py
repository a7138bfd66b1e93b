"""What this server and the configuration of its Envoys must agree on: one name for both, written here only.

A typo in one of two copies would be silent: Envoy ignores metadata that nobody set and headers that nobody sends.
"""

# Headers by which a client, or its configuration, asks for a race; RFC 9651 values, see docs/time-broker.md.
TLOC_HEADER = "tloc"
BACKUP_HEADER = "backup"
PRIMARY_HEADER = "primary"
RACE_HEADERS = (TLOC_HEADER, BACKUP_HEADER, PRIMARY_HEADER)
SPLIT_KEY_HEADER = "tbms-key"

# The session of a call, whose calls all reach one node; see docs/sequences.md.
SESSION_HEADER = "tbms-session"
ANSWER_HEADER = "tbms-answer"
NOBODY_ANSWERED = "()"
"""What that header begins with where a call was refused before any work was done: an empty inner list of RFC 9651."""

# The model (and version or label) of a call, where a header names it rather than the path or the message.
MODEL_HEADER = "x-tbms-model"
SEGMENT_SAFE = "!$&'()*+,;=@:"
"""Characters that a name keeps in that header, as in a segment of a path (RFC 3986, pchar); others are %XX."""

# The name of a gRPC call's model, as Envoy itself has read it (`parts.grpc_names`): out of the message, or out of the
# header above, and of no call that says anything beyond the name. A client's own is removed, and no Envoy sends it on.
NAMED_HEADER = "x-tbms-named"

# What steers inside. A client's own copies are removed from every call, and none leaves the last sidecar.
NODE_HEADER = "x-tbms-node"
"""On a call to a node of another zone that Envoy does not know by address: its id, as `nodes` has it
(`mesh.discovery.settings`), by which a route leads there. Set by the server, which has Envoy choose the route anew.
"""
HOP_HEADER = "x-tbms-hop"
RESIDENCY_HEADER = "x-tbms-residency"
RESIDENCY_ASK = "?1"
"""On a request: the node is asked how the model stands there. Its answer comes back under the same name."""
CALL_HEADER = "x-tbms-call"
"""From an edge to a node: what is left of the call's time, and how it may share a batch; `ext_proc.batching.terms`."""
CLAIM_HEADER = "x-tbms-session"
"""From an edge to a node: the session that the call belongs to; `mesh.session_claim`."""
RETRIES_HEADER = "x-tbms-retries"
"""On a candidate's call of ours: how often Envoy may ask again. It takes `MAX_RETRIES_HEADER` from no caller."""
STEERING_HEADERS = (NODE_HEADER, HOP_HEADER, RESIDENCY_HEADER, CALL_HEADER, CLAIM_HEADER, RETRIES_HEADER)

# In replies: the node that answered, and a node's word that another one should be asked.
UPSTREAM_HEADER = "x-tbms-upstream"
ELSEWHERE_HEADER = "x-tbms-elsewhere"

# Envoy's own: what is left of the caller's time, which only candidate calls of ours set.
UPSTREAM_TIMEOUT_HEADER = "x-envoy-upstream-rq-timeout-ms"

# And: how often it may ask again, whatever its routes say. Set to 0 on calls that only one node may get.
MAX_RETRIES_HEADER = "x-envoy-max-retries"

# And: on what it may, beside what its routes say; in a mesh, whose routes are not ours.
RETRY_ON_HEADER = "x-envoy-retry-on"
RETRIABLE_HEADERS_HEADER = "x-envoy-retriable-header-names"

# Dynamic metadata by which Envoy's override_host policy learns the nodes of a call: `ip:port,ip:port`, best first. For
# a node that NODE_HEADER names it is `@id`, for the access log.
NODES_NAMESPACE = "envoy.lb"
NODES_KEY = "tbms-nodes"
FAR_PREFIX = "@"

# Begins the authority of an ext_proc stream, and is followed by the version of Envoy that the filter was rendered for,
# since what it can do differs. Without it that is 1.40 or later.
ENVOY_AUTHORITY = "tbms-envoy-"

# Attributes that the filter is told to send: which node answered, and when the request came.
UPSTREAM_ATTRIBUTE = "upstream.address"
TIME_ATTRIBUTE = "request.time"

# The gRPC service that Envoy's filter calls.
PROCESS_METHOD = "/envoy.service.ext_proc.v3.ExternalProcessor/Process"

# The gRPC service to which Envoy's access logs go, and the name of that of calls, which is the only one understood.
ACCESS_LOG_METHOD = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs"
ACCESS_LOG_NAME = "tbms-calls"

# The calls that change or tell what one node serves: an RE2 expression for the whole path. The server refuses them,
# each codec in its own words; an Envoy whose server is away must not let them through to a node.
CONTROL_PATHS = (
    r"/tensorflow\.serving\.ModelService/Handle.*|/inference\.GRPCInferenceService/Repository.*|/v2/repository/.*"
)

# The calls that a node may gather into batches, likewise, and the headers by which they ask for it, with an expression
# for values that do. The server answers such calls itself: an Envoy that cannot be asked for a body has to send it.
GATHERED_PATHS = (
    r"/tensorflow\.serving\.PredictionService/(Predict|Classify|Regress|MultiInference)"
    r"|/inference\.GRPCInferenceService/ModelInfer"
    r"|/v1/models/[^?]*:(predict|classify|regress)(\?.*)?|/v2/models/[^?]*/infer(\?.*)?"
)
GATHERED_BY = {CALL_HEADER: r".*; *share(=\?1)?(;.*)?", TLOC_HEADER: r".*; *cross-request(=\??1)?(;.*)?"}

# The map of known calls: an Envoy filter out of a file which the server writes, under this name in the file and in the
# filter chain. It names the nodes of a call as the server would, in the same metadata. See docs/known-calls.md.
KNOWN_FILTER = "tbms-known"
KNOWN_MAP_SUFFIX = ".known.pb"
"""What its file is called behind the name of the server's Unix socket, unless it is named: no other server has that
socket, so none has that map.
"""
NODE_LISTENER = "models"
"""The listener of a node's Envoy, whose calls in flight its server asks for before it unloads what that map has had."""

# What that map says of a call, as dynamic metadata: its nodes, as NODES_KEY has them. The log tells so which of the two
# has named them.
KNOWN_NAMESPACE = "tbms"
KNOWN_KEY = "tbms-known"
TELL_KEY = "tell"
"""The model of a gRPC call of which one of the nodes has the node role, and is to be told it in MODEL_HEADER."""
ONE_IN_KEY = "one-in"
ONE_IN = 16
"""Where not every call is told of: one that the node has not failed stands for so many."""
MODEL_KEY = "model"
"""The model of a gRPC call that NAMED_HEADER names, for the log, which does not see that header any more."""

# The gRPC methods whose calls that map may know, by a header that names their model. All but MultiInference name it in
# their message, too, which has a name for each of its tasks.
MULTI_INFERENCE = "/tensorflow.serving.PredictionService/MultiInference"
NAMING_METHODS = (
    "/tensorflow.serving.PredictionService/Predict",
    "/tensorflow.serving.PredictionService/Classify",
    "/tensorflow.serving.PredictionService/Regress",
    "/inference.GRPCInferenceService/ModelInfer",
)
KNOWN_METHODS = (*NAMING_METHODS, MULTI_INFERENCE)

# What a call may say beyond the name of its model. Whoever says any of it asks the server: the map knows names only,
# and a client's own copy of what steers has to be removed, by the server where no listener does it.
BEYOND_THE_NAME = (*RACE_HEADERS, SPLIT_KEY_HEADER, SESSION_HEADER, *STEERING_HEADERS)

# And a gRPC deadline goes on only as one that the server would take.
GRPC_TIMEOUT = "[0-9]{1,8}[HMSmun]"
