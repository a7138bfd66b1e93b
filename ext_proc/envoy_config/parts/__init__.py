"""What tbms needs of any Envoy, a mesh's sidecar included, as typed messages.

    filter          the edge's and the node's ext_proc filter: a matcher over headers with one processor per branch
    known           calls whose nodes the server has written down, so that Envoy need not ask
    processor       one branch of it: the ext_proc filter's own configuration
    server_cluster  the cluster of the external processor
    override_host   load balancing by the nodes that the server names
    retries         when another node is asked
    headers         headers that are removed from calls and replies
    codec           what a listener's HTTP codec takes and refuses
    replies         the wording of what Envoy answers by itself

Each gives public functions that take only what they need; the rest of the folder is what these are written with.
Nothing here knows listeners, routes or node lists: those are a bootstrap's, or a mesh's.
"""
