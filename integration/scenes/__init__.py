"""The scenes of `tbms demo`.

- `routing`: calls of four client libraries over nodes that start empty
- `drain`: a node leaves under calls
- `deadline`: the same images under ever shorter limits
- `judge`: who was called and who holds what, asked of Envoy and of the model servers
"""
