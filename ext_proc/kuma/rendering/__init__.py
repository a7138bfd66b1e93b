"""Kuma's policies, written for one mesh: the parts of `ext_proc.envoy_config` as patches, and what goes with them.

    description     the one description of a mesh that everything is written from
    versions        what differs from one Kuma to the next
    names           how Kuma names clusters, routes and listeners
    patches         MeshProxyPatch: what the Envoys of edges, nodes and gateways get
    traffic         timeouts, retries, breakers, permissions, identities
    services        MeshService, MeshHTTPRoute, Dataplane, ContainerPatch
    telemetry       metrics, traces, access logs
    document        one resource as YAML with its reasons, for Kubernetes or Universal
    commented_yaml  YAML whose comments are part of the document
    files           all files of a mesh

Pure: description in, text out.
"""
