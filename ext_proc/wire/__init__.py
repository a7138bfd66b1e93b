"""The protocols of inference calls, without I/O: a folder per API (`tfs`, `v2`), and in it one codec per transport.

    naming, rewrite, outputs, reply    what the rest of the program calls; each looks the protocol up in `codecs.CODECS`
    codec, codecs                      what a codec is; the table of the four
    batch                              how calls share a batch, by what `*_batch` of each protocol reads and writes
    tfs/, v2/                          `grpc` and `rest` hold the codec; `*_outputs` read and write its tensors,
                                       `*_batch` cut them into rows, unread
    layouts, json_text                 where the rows of a tensor lie, in bytes and in JSON
    call, names, output_arrays         the words that all of them share
    protobuf/, framing, content_type   bytes of protobuf and of gRPC

A new job for every protocol is a method of `Codec` and a file beside `*_outputs`.
"""
