"""gtdnet serve: a page for people and an interface for programs, on one port.

app        routes: the page, /v1, /v2 (KServe's health and metadata), /metrics
guard      what every request passes first: Host, Origin, token, ending
service    limits, and the way of a request: upload, queue, decoder, model, answer
camera     frames over a WebSocket
decoders   child processes that decode; decoder is what runs in them
"""
