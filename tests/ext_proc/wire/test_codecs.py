from ext_proc.wire.call import InferenceProtocol
from ext_proc.wire.codecs import CODECS, GRPC_CODECS, REST_CODECS


def test_every_protocol_has_its_codec() -> None:
    assert set(CODECS) == set(InferenceProtocol)
    assert set(GRPC_CODECS) == {protocol for protocol in InferenceProtocol if protocol.is_grpc}
    assert set(REST_CODECS) == {protocol for protocol in InferenceProtocol if not protocol.is_grpc}


def test_a_method_is_of_the_protocol_that_lists_it_and_of_no_other() -> None:
    paths = [path for codec in GRPC_CODECS.values() for path in (*codec.methods, *codec.refused)]
    assert len(paths) == len(set(paths))
    for protocol, codec in GRPC_CODECS.items():
        assert {method.protocol for method in codec.methods.values()} == {protocol}


def test_a_root_leads_to_one_codec() -> None:
    roots = [root for codec in REST_CODECS.values() for root in codec.roots]
    assert len(roots) == len(set(roots))
