"""The account of plain calls that have ended, as Envoy's access log tells it.

entries   what stands in a message of the log
accounts  what it means for loads, demand, times and metrics
service   the stream on which Envoy sends it
"""
